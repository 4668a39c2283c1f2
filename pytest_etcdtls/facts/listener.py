"""First contact with a listener: whether it answers, in which TLS versions, and how it answers plaintext."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from types import MappingProxyType

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.errors import InconclusiveError, NotApplicableError, NotVerifiedError
from pytest_etcdtls.facts.probe import Context, SampleListener, probe, sample
from pytest_etcdtls.pki.profile import NO_CERTIFICATE
from pytest_etcdtls.role import Protocol, Role, TLSVersion
from pytest_etcdtls.target import Listener
from pytest_etcdtls.thresholds import NO_THRESHOLDS, Thresholds
from pytest_etcdtls.tls.attempt import Attempt, Ending, Phase, Request, StreamEnd

PROTOCOL_VERSION = 70
"""The alert ``protocol_version``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """An observation of one request. An unclear attempt is repeated, and the last one counts.

    Attributes:
        tries: its attempts, in the order in which they were made.
    """

    tries: tuple[Attempt, ...]

    @property
    def attempt(self) -> Attempt:
        """The attempt that counts."""
        return self.tries[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerFacts:
    """Facts of the listener that are known before any connection.

    Attributes:
        role: ``client``, ``peer``, ``metrics`` or ``client-http``.
        scheme: ``https`` or ``http``.
        host: name or address in the URL, without brackets.
        member: label of the member that it belongs to.
    """

    url: str
    role: str
    scheme: str
    host: str
    port: int
    member: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstContact:
    """The first contact with a listener.

    Attributes:
        tls: attempts without a certificate, one per TLS version; empty for an ``http`` URL.
        plaintext: the plaintext attempt, where one was made.
        tls_instead: a TLS handshake, made if an ``http`` URL does not answer plain HTTP.
    """

    url: str
    role: str
    tls: tuple[Attempt, ...]
    plaintext: Attempt | None = None
    tls_instead: Attempt | None = None

    @property
    def offered(self) -> tuple[TLSVersion, ...]:
        """The TLS versions that the listener did not refuse with the alert ``protocol_version``.

        The alert comes before a certificate is requested, so it concerns the version and no identity.
        """
        return tuple(
            attempt.offered_version
            for attempt in self.tls
            if attempt.offered_version is not None
            and not (attempt.alert == PROTOCOL_VERSION and attempt.phase is Phase.HANDSHAKE)
        )

    @property
    def serves_tls(self) -> bool:
        """Whether the server sent a TLS message."""
        return any(attempt.ending is not Ending.UNCLEAR for attempt in self.tls)

    @property
    def needs_tls(self) -> bool:
        """Whether the listener of an ``http`` URL serves TLS only."""
        return self.tls_instead is not None and self.tls_instead.ending is not Ending.UNCLEAR


@dataclass(frozen=True, slots=True, kw_only=True)
class Plaintext(Tried):
    """Plain HTTP sent to the listener.

    Attributes:
        tls_works: a TLS handshake on the same port works.
    """

    url: str
    role: str
    scheme: str
    tls_works: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UnnamedPorts:
    """Plain HTTP requests to etcd's usual ports on the members' hosts, where no listener is known.

    Attributes:
        tried: one attempt for each address, without credentials.
        not_tried: why some were not tried, one sentence each.
    """

    tried: tuple[Attempt, ...]
    not_tried: tuple[str, ...] = ()


def listener_of(context: Context) -> Listener:
    """Return the listener of the context.

    Raises:
        TypeError: if the context is the whole target, which is an error in the check.
    """
    if context.listener is None:
        raise TypeError("this observation is of a listener, the check judges the whole target")
    return context.listener


def tls_listener(context: Context) -> Listener:
    """Return the listener of the context if TLS is expected there.

    Raises:
        NotApplicableError: for an ``http`` URL.
    """
    listener = listener_of(context)
    if listener.scheme == "http":
        raise NotApplicableError(f"{listener.url} is an http URL: there is no TLS to judge")
    return listener


def version_path(role: Role) -> str:
    """Return the path of a GET that every etcd answers for that role; metrics has no ``/version``."""
    return "/health" if role is Role.METRICS else "/version"


def tls_answer(context: Context) -> FirstContact:
    """Return the first contact with a TLS listener.

    Raises:
        NotApplicableError: for an ``http`` URL.
        NotVerifiedError: if the listener serves plaintext, or no TLS version that we support.
        InconclusiveError: if the server sent no TLS message.
    """
    listener = tls_listener(context)
    answer = context.get(FirstContact)
    if not answer.serves_tls:
        if answer.plaintext is not None and answer.plaintext.is_http:
            raise NotVerifiedError(f"{listener.url} answers plain HTTP and no TLS")
        if answer.plaintext is not None and answer.plaintext.first_bytes:
            sent = answer.plaintext.first_text
            raise InconclusiveError(f"{listener.url} answers neither TLS nor HTTP: it sent '{sent}'")
        raise InconclusiveError(f"{listener.url} does not answer: {answer.tls[0].describe()}")
    if not answer.offered:
        raise NotVerifiedError(f"{listener.url} offers neither TLS 1.2 nor TLS 1.3")
    return answer


@probe(ListenerFacts, cost=0)
def _facts(context: Context) -> ListenerFacts:
    listener = listener_of(context)
    return ListenerFacts(
        url=listener.url,
        role=listener.role,
        scheme=listener.scheme,
        host=listener.host,
        port=listener.port,
        member=listener.member,
        label=listener.label,
    )


@probe(FirstContact, cost=3, before_proof=True)
def _answer(context: Context) -> FirstContact:
    listener = listener_of(context)
    tls: tuple[Attempt, ...] = ()
    if listener.scheme == "https":
        requests = [
            Request(
                purpose="first contact, no certificate",
                identity=NO_CERTIFICATE,
                version=version,
                protocol=Protocol.HTTP1,
                path=version_path(listener.role),
            )
            for version in TLSVersion
        ]
        tls = tuple(tries[-1] for tries in context.attempt(*requests))
        if any(attempt.ending is not Ending.UNCLEAR for attempt in tls):
            return FirstContact(url=listener.url, role=listener.role, tls=tls)
    try:
        plaintext = _plain(context, listener)[-1]
    except NotVerifiedError:  # given up, since TLS was not answered in time
        return FirstContact(url=listener.url, role=listener.role, tls=tls)
    return FirstContact(
        url=listener.url,
        role=listener.role,
        tls=tls,
        plaintext=plaintext,
        tls_instead=_tls_instead(context, listener, plaintext),
    )


def _tls_instead(context: Context, listener: Listener, plaintext: Attempt) -> Attempt | None:
    """Try a TLS handshake on a listener that accepts connections and does not answer plain HTTP."""
    if listener.scheme == "https" or plaintext.ending is Ending.SERVED or plaintext.phase is Phase.CONNECT:
        return None
    request = Request(purpose="TLS where plain HTTP is not answered", path=version_path(listener.role))
    try:
        return context.attempt(request)[0][-1]
    except NotVerifiedError:  # given up, since plain HTTP was not answered in time
        return None


@probe(Plaintext, cost=1, needs=[FirstContact], before_proof=True)
def _plaintext(context: Context) -> Plaintext:
    listener = listener_of(context)
    answer = context.get(FirstContact)
    # The first contact has no plaintext attempt where TLS works. There a server written in Go ends the stream
    # without a byte, so such an end is not repeated.
    known = answer.plaintext
    tries = (known,) if known is not None else _plain(context, listener, may_end=True)
    return Plaintext(
        url=listener.url,
        role=listener.role,
        scheme=listener.scheme,
        tries=tries,
        tls_works=any(attempt.ending is not Ending.UNCLEAR for attempt in answer.tls),
    )


def _plain(context: Context, listener: Listener, *, may_end: bool = False) -> tuple[Attempt, ...]:
    request = Request(
        purpose="plain HTTP",
        plaintext=True,
        may_end=may_end,
        protocol=Protocol.HTTP1,
        path=version_path(listener.role),
    )
    return context.attempt(request)[0]


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
        return replace(self, thresholds={**self.thresholds, check: thresholds})


@sample(ListenerFacts)
def _sample_facts(listener: SampleListener) -> ListenerFacts:
    return ListenerFacts(
        url=listener.url,
        role=listener.role,
        scheme="https",
        host="127.0.0.1",
        port=2380 if listener.role is Role.PEER else 2379,
        member="m0",
        label=f"{listener.role}-m0",
    )


@sample(FirstContact)
def _sample_contact(listener: SampleListener) -> FirstContact:
    attempts = tuple(listener.refused(identity="none", offered_version=version) for version in TLSVersion)
    return FirstContact(url=listener.url, role=listener.role, tls=attempts)


@sample(Plaintext)
def _sample_plaintext(listener: SampleListener) -> Plaintext:
    attempt = listener.attempt(
        identity="none",
        offered_version=None,
        ending=Ending.UNCLEAR,
        stream_end=StreamEnd.EOF,
        first_bytes=b"",
        response=None,
    )
    return Plaintext(url=listener.url, role=listener.role, scheme="https", tries=(attempt,), tls_works=True)


@sample(Policy)
def _sample_policy(_: SampleListener) -> Policy:
    return Policy(expiry_days=30)
