"""First contact with a listener: which TLS versions and which certificate it serves, and plaintext."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from cryptography import x509
from msgspec import Struct

from pytest_etcdtls.errors import InconclusiveError, NotApplicableError, NotVerifiedError, silent
from pytest_etcdtls.facts.fact import Each, Wire, fact
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.pki.certificate import load
from pytest_etcdtls.pki.profile import NO_CERTIFICATE
from pytest_etcdtls.pki.thresholds import NO_THRESHOLDS, Thresholds
from pytest_etcdtls.role import Protocol, Role, TLSVersion
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import HANDSHAKE_FAILURE, Attempt, Ending, Phase, Request, StreamEnd
from pytest_etcdtls.tls.http import GRPC_STATUS_PATH
from pytest_etcdtls.tls.suites import HYBRIDS, MODERN, OTHERS, SUITES, TLS13_SUITES

if TYPE_CHECKING:
    from pytest_etcdtls.tls.hello import HelloExchange

BAD_CERTIFICATE, PROTOCOL_VERSION = 42, 70
"""The alerts ``bad_certificate`` and ``protocol_version``."""

NOTHING_IN_COMMON = frozenset({HANDSHAKE_FAILURE, 71})
"""Alerts for an offer with nothing acceptable: handshake_failure, insufficient_security."""

EVERY_SUITE = tuple(suite.code for suite in SUITES)
EVERY_GROUP = tuple(group.code for group in (*HYBRIDS, *MODERN, *OTHERS))


class Tried(Struct, frozen=True, kw_only=True):
    """An observation of one request. An unclear attempt is repeated, and the last one counts.

    Attributes:
        tries: its attempts, in the order in which they were made.
    """

    tries: tuple[Attempt, ...]

    @property
    def attempt(self) -> Attempt:
        """The attempt that counts."""
        return self.tries[-1]


class FirstContact(Struct, frozen=True, kw_only=True):
    """The first contact with a listener.

    Attributes:
        tls: attempts without a certificate, one per TLS version; empty for an ``http`` URL.
        plaintext: the plaintext attempt, where one was made.
        tls_instead: a TLS handshake, made if an ``http`` URL does not answer plain HTTP.
        whole_offers: answers to every suite and group, where our TLS library has none in common with the
            server.
    """

    tls: tuple[Attempt, ...]
    plaintext: Attempt | None = None
    tls_instead: Attempt | None = None
    whole_offers: tuple[HelloExchange, ...] = ()

    @property
    def offered(self) -> tuple[TLSVersion, ...]:
        """The TLS versions in which the listener serves anybody.

        It refuses the others with ``protocol_version``, or accepts no cipher suite in them. Such an alert
        comes before a certificate is requested, so it concerns the version and no identity.
        """
        return tuple(
            attempt.offered_version
            for attempt in self.tls
            if attempt.offered_version is not None
            and not (attempt.alert == PROTOCOL_VERSION and attempt.phase is Phase.HANDSHAKE)
            and attempt.offered_version not in self.without_suite
        )

    @property
    def unusable(self) -> tuple[TLSVersion, ...]:
        """The offered TLS versions in which our TLS library refuses the served certificate.

        Clients written in Go do not. Nobody's identity can be tried in these versions.
        """
        local = {attempt.offered_version for attempt in self.tls if attempt.local and attempt.chain}
        return tuple(version for version in self.offered if version in local)

    @property
    def usable(self) -> tuple[TLSVersion, ...]:
        """The offered TLS versions in which identities can be tried."""
        return tuple(version for version in self.offered if version not in self.unusable)

    @property
    def without_suite(self) -> tuple[TLSVersion, ...]:
        """The TLS versions that the listener supports and in which it accepts no suite or group at all."""
        return tuple(
            TLSVersion(exchange.offered)
            for exchange in self.whole_offers
            if exchange.alert in NOTHING_IN_COMMON
        )

    @property
    def limit(self) -> str:
        """Why our TLS library cannot connect in some version in which the server serves others; or empty."""
        chosen = [exchange.server_hello for exchange in self.whole_offers if exchange.server_hello]
        if accepted := "; ".join(hello.describe() for hello in chosen):
            return (
                "the TLS library of this Python has no cipher suite or group that the listener accepts "
                f"({accepted}): use another build of it"
            )
        if self.unusable:
            first = next(attempt for attempt in self.tls if attempt.offered_version in self.unusable)
            return first.detail
        return ""

    @property
    def serves_tls(self) -> bool:
        """Whether the server sent a TLS message."""
        return any(attempt.ending is not Ending.UNCLEAR for attempt in self.tls)

    @property
    def answered(self) -> bool:
        """Whether the server sent anything."""
        in_plaintext = self.plaintext is not None and bool(self.plaintext.first_bytes)
        return self.serves_tls or self.needs_tls or in_plaintext

    @property
    def needs_tls(self) -> bool:
        """Whether the listener of an ``http`` URL serves TLS only."""
        return self.tls_instead is not None and self.tls_instead.ending is not Ending.UNCLEAR


def refuses_connections(contact: FirstContact) -> bool:
    """Return whether every TCP connection of the first contact was refused."""
    attempts = (*contact.tls, *filter(None, [contact.plaintext]))
    return all(attempt.stream_end is StreamEnd.CONNECTION_REFUSED for attempt in attempts)


class Plaintext(Tried, frozen=True, kw_only=True):
    """Plain HTTP sent to the listener.

    Attributes:
        tls_works: a TLS handshake on the same port works.
        over_http2: HTTP/2 without TLS, which is sent where TLS works and plain HTTP/1.1 is not answered.
    """

    tls_works: bool
    over_http2: Attempt | None = None


class UnnamedPorts(Struct, frozen=True, kw_only=True):
    """Plain HTTP requests to etcd's usual ports on the members' hosts, where no listener is known.

    Attributes:
        tried: one attempt for each address, without credentials.
        not_tried: why some were not tried, one sentence each.
        metrics: the URLs that serve health and metrics alone.
    """

    tried: tuple[Attempt, ...]
    not_tried: tuple[str, ...] = ()
    metrics: frozenset[str] = frozenset()


def require_tls(here: Listener) -> None:
    """Check that TLS is expected on a listener.

    Raises:
        NotApplicableError: for an ``http`` URL.
    """
    if here.scheme == "http":
        raise NotApplicableError(f"{here.url} is an http URL: there is no TLS to judge")


def version_path(role: Role) -> str:
    """Return the path of a GET that every etcd answers for that role; metrics has no ``/version``."""
    return "/health" if role is Role.METRICS else "/version"


class TLSContact(FirstContact, frozen=True, kw_only=True):
    """The first contact with a listener that serves TLS 1.2 or 1.3: a type for what is known of the value."""


@fact(reported=False)
def tls_contact(here: Listener, contact: FirstContact) -> TLSContact:
    """Return the first contact if the listener serves TLS.

    Raises:
        NotApplicableError: for an ``http`` URL.
        NotVerifiedError: if the listener serves plaintext, or no TLS version that we support.
        InconclusiveError: if the server sent no TLS message.
    """
    require_tls(here)
    if not contact.serves_tls:
        if contact.plaintext is not None and contact.plaintext.is_http:
            raise NotVerifiedError(f"{here.url} answers plain HTTP and no TLS")
        if contact.plaintext is not None and contact.plaintext.first_bytes:
            sent = contact.plaintext.first_text
            raise InconclusiveError(f"{here.url} answers neither TLS nor HTTP: it sent '{sent}'")
        raise InconclusiveError(silent(here.url, "does not answer", f": {contact.tls[0].describe()}"))
    if not contact.offered:
        raise NotVerifiedError(f"{here.url} offers neither TLS 1.2 nor TLS 1.3")
    return cast("TLSContact", contact)


class ServedChain(Struct, frozen=True, kw_only=True):
    """What the listener sent in its Certificate message.

    Attributes:
        certificates: leaf first, as sent; those that cannot be parsed are left out.
        observed_at: aware UTC; checks of validity use it as their clock.
        unparsable: number of certificates after the leaf that cannot be parsed.
    """

    certificates: tuple[x509.Certificate, ...]
    observed_at: datetime
    unparsable: int = 0

    @property
    def leaf(self) -> x509.Certificate:
        """The server's own certificate."""
        return self.certificates[0]


def versions_of(contact: FirstContact) -> tuple[TLSVersion, ...]:
    """Return the TLS versions of a listener in which identities can be tried.

    Raises:
        InconclusiveError: if there are none.
    """
    if not contact.usable:
        raise InconclusiveError(contact.limit)
    return contact.usable


@fact(connections=4, before_proof=True)
def first_contact(here: Listener, wire: Wire) -> FirstContact:
    """Connect in each TLS version without a certificate; in plain HTTP where TLS is not answered."""
    tls: tuple[Attempt, ...] = ()
    if here.scheme == "https":
        requests = [
            Request(
                purpose="first contact, no certificate",
                identity=NO_CERTIFICATE,
                version=version,
                protocol=Protocol.HTTP1,
                path=version_path(here.role),
            )
            for version in TLSVersion
        ]
        tls = tuple(tries[-1] for tries in wire.attempt(*requests) if tries)
        if any(attempt.ending is not Ending.UNCLEAR for attempt in tls):
            return FirstContact(tls=tls, whole_offers=tuple(_with_every_suite(wire, tls)))
    try:
        plaintext = send_plain_http(wire, here)[-1]
    except NotVerifiedError:  # given up, since TLS was not answered in time
        return FirstContact(tls=tls)
    return FirstContact(tls=tls, plaintext=plaintext, tls_instead=_tls_instead(wire, here, plaintext))


@fact
def served_chain(here: Listener, contact: TLSContact) -> ServedChain:
    """Return the first Certificate message of the first contact, as far as it can be parsed."""
    attempt = with_certificates(here, contact)
    leaf, *others = map(_parsed, attempt.chain)
    if leaf is None:
        raise NotVerifiedError(
            "this client cannot parse the served certificate: see cert.well-formed and cert.parsable"
        )
    issuers = tuple(certificate for certificate in others if certificate is not None)
    return ServedChain(
        certificates=(leaf, *issuers), observed_at=attempt.started_at, unparsable=len(others) - len(issuers)
    )


def with_certificates(here: Listener, contact: FirstContact) -> Attempt:
    """Return the first attempt in which the listener sent a Certificate message.

    Raises:
        NotVerifiedError: if our TLS library cannot connect.
        InconclusiveError: if it sent none.
    """
    attempt = next((attempt for attempt in contact.tls if attempt.chain), None)
    if attempt is None and contact.limit:
        raise NotVerifiedError(contact.limit)
    if attempt is None:
        raise InconclusiveError(f"{here.url} sent no certificate")
    return attempt


def _parsed(der: bytes) -> x509.Certificate | None:
    try:
        return load(der)
    except ValueError:
        return None


def _with_every_suite(wire: Wire, tls: tuple[Attempt, ...]) -> Sequence[HelloExchange]:
    """Offer every suite and group in the versions in which our library's have nothing in common.

    Its suites and groups depend on its build and configuration, so only the answer to this is the server's.
    """
    versions = [
        attempt.offered_version
        for attempt in tls
        if attempt.offered_version is not None
        and attempt.ending is Ending.OTHER
        and attempt.alert in NOTHING_IN_COMMON
    ]
    if not versions:
        return ()
    # Imported here: nearly every listener has a suite in common with our library.
    from pytest_etcdtls.tls.hello import TLS1_2, TLS1_3, ClientHello

    hellos = [
        ClientHello(
            purpose=f"hello of {version} with every suite and group",
            version=TLS1_3 if version is TLSVersion.TLS1_3 else TLS1_2,
            suites=TLS13_SUITES if version is TLSVersion.TLS1_3 else EVERY_SUITE,
            groups=EVERY_GROUP,
        )
        for version in versions
    ]
    return wire.send_hellos(*hellos)


def _tls_instead(wire: Wire, here: Listener, plaintext: Attempt) -> Attempt | None:
    """Try a TLS handshake on a listener that accepts connections and does not answer plain HTTP."""
    if here.scheme == "https" or plaintext.answers_plaintext or plaintext.phase is Phase.CONNECT:
        return None
    request = Request(purpose="TLS where plain HTTP is not answered", path=version_path(here.role))
    try:
        return wire.attempt(request)[0][-1]
    except NotVerifiedError:  # given up, since plain HTTP was not answered in time
        return None


@fact(connections=2, before_proof=True)
def plaintext(here: Listener, contact: FirstContact, wire: Wire) -> Plaintext:
    """Send plain HTTP, unless the first contact did; and HTTP/2, which a router may send elsewhere."""
    # The first contact has no plaintext attempt where TLS works. There a server written in Go ends the stream
    # without a byte, so such an end is not repeated. A process that carries the connection may have failed.
    known = contact.plaintext
    if known is not None:
        return Plaintext(tries=(known,), tls_works=contact.serves_tls)
    tries = send_plain_http(wire, here, may_end=not here.via)
    over_http2 = None
    if not tries[-1].is_http:
        protocol = Protocol.GRPC if here.role is Role.CLIENT else Protocol.HTTP2
        over_http2 = send_plain_http(
            wire, here, purpose="plain HTTP/2", may_end=not here.via, protocol=protocol
        )[-1]
    return Plaintext(tries=tries, tls_works=contact.serves_tls, over_http2=over_http2)


def send_plain_http(
    wire: Wire,
    here: Listener,
    *,
    purpose: str = "plain HTTP",
    may_end: bool = False,
    protocol: Protocol = Protocol.HTTP1,
) -> tuple[Attempt, ...]:
    """Send a GET without TLS, and return the tries."""
    request = Request(
        purpose=purpose,
        plaintext=True,
        may_end=may_end,
        protocol=protocol,
        path=GRPC_STATUS_PATH if protocol is Protocol.GRPC else version_path(here.role),
    )
    return wire.attempt(request)[0]


class BrokenConnections(Struct, frozen=True, kw_only=True):
    """Connections that ended without an answer, of requests that were answered when they were repeated.

    Attributes:
        broken: these connections.
        made: the number of connections for a request, by URL.
    """

    broken: tuple[Attempt, ...]
    made: Mapping[str, int]


@fact(reported=False)
def broken_connections(contacts: Each[FirstContact], recording: Recording) -> BrokenConnections:
    """Return the connections that were reset or ended before an answer. It is read when all were made."""
    asked = [listener.url for listener, _ in contacts]
    attempts = [connection for connection in recording.connections.copy() if isinstance(connection, Attempt)]
    # Over TLS an answer follows a handshake, in which the server shows its certificate.
    if not any(
        one.ending is not Ending.UNCLEAR and (one.chain or one.url.startswith("http:")) for one in attempts
    ):
        raise NotVerifiedError(f"no request was answered by {', '.join(asked) or 'any listener'}")
    broken: list[Attempt] = []
    waiting: dict[tuple[object, ...], list[Attempt]] = {}
    for attempt in attempts:
        request = attempt.url, attempt.purpose, attempt.identity, attempt.offered_version, attempt.protocol
        if attempt.ending is not Ending.UNCLEAR:
            broken += waiting.pop(request, ())
        elif attempt.stream_end in (StreamEnd.RESET, StreamEnd.EOF) and not attempt.local:
            waiting.setdefault(request, []).append(attempt)
    return BrokenConnections(broken=tuple(broken), made=Counter(attempt.url for attempt in attempts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The user's own thresholds, and those of the profiles.

    Attributes:
        expiry_days: certificates that end within so many days are warned about (``--etcd-expiry-days``).
        thresholds: what the named profiles allow, by the id of the check (``--etcd-profile``).
    """

    expiry_days: int
    thresholds: Mapping[str, Thresholds] = field(default_factory=lambda: MappingProxyType({}), repr=False)

    def of(self, check: str) -> Thresholds:
        """Return what the profiles allow that check to find."""
        return self.thresholds.get(check, NO_THRESHOLDS)

    def with_thresholds(self, check: str, thresholds: Thresholds) -> Policy:
        """Return the policy with other thresholds for one check; for counterexamples."""
        return dataclasses.replace(self, thresholds={**self.thresholds, check: thresholds})


@fact
def policy(target: Target) -> Policy:
    """Return the thresholds of the target."""
    return Policy(expiry_days=target.expiry_days, thresholds=target.thresholds)
