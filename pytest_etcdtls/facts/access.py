"""Which identities a listener accepts, in each TLS version and protocol, with the control."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import cast

from cryptography import x509
from cryptography.x509.oid import NameOID

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError, UnobservedError
from pytest_etcdtls.facts.certificates import (
    AnnouncedCAs,
    CAsInUse,
    ClientTrust,
    Issuers,
    KubernetesCA,
    ServedChain,
)
from pytest_etcdtls.facts.listener import FirstContact, Tried, listener_of, tls_answer, version_path
from pytest_etcdtls.facts.probe import (
    SAMPLE_FILES,
    Context,
    Observation,
    Planned,
    SampleListener,
    Wanted,
    observed,
    probe,
    sample,
)
from pytest_etcdtls.pki import identities
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.certificate import extension, is_for, name_text, purposes, serial_number
from pytest_etcdtls.pki.go_verify import Path, find_path, names_host
from pytest_etcdtls.pki.profile import NO_CERTIFICATE, Identity
from pytest_etcdtls.refusal import CLOSED_BY_ETCD
from pytest_etcdtls.role import Protocol, Role, TLSVersion
from pytest_etcdtls.target import Listener, PortCredentials
from pytest_etcdtls.tls.attempt import Attempt, Ending, Request, SessionSlot
from pytest_etcdtls.tls.http import GATEWAY_STATUS_PATH, GRPC_STATUS_PATH
from pytest_etcdtls.untrusted import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """The same connection with a good identity.

    Attributes:
        identity: name of the good identity, ``None`` if none is known.
        tries: its attempts, the last one counts; empty if none is known.
        valid_counterpart: the identity is the valid counterpart of an issued bad identity.
    """

    identity: str | None = None
    tries: tuple[Attempt, ...] = ()
    valid_counterpart: bool = False

    @property
    def attempt(self) -> Attempt | None:
        """The attempt that counts."""
        return self.tries[-1] if self.tries else None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessCase(Tried):
    """One identity in one TLS version and protocol."""

    version: TLSVersion
    protocol: Protocol
    control: Control


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessMatrix:
    """The attempts of one identity on one listener, in each TLS version and protocol.

    Attributes:
        has_names: its certificate has SANs, so that etcd's SAN rule applies to it where it is in force.
        certificate: its subject and issuer in words, empty for ``none``.
        recipe: shell lines that make an equivalent identity, for commands to paste.
        files: paths of certificate and key, or the names that the recipe writes; ``None`` for ``none``.
        cases: one per TLS version and protocol that the listener serves. That of the gateway has the attempts
            over HTTP/1.1 if TLS refused them, since the handshake is the same.
        instead_of: name of an identity that could not be presented, if this identity was served and so
            decides the result for it. The cases are then those that were served. Empty otherwise.
    """

    url: str
    role: str
    identity: str
    has_names: bool = False
    certificate: str = ""
    recipe: tuple[str, ...] = ()
    files: tuple[str, str] | None = None
    cases: tuple[AccessCase, ...] = ()
    instead_of: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A good identity and its attempts on a listener.

    Attributes:
        origin: where it comes from.
        issued: the certificate was issued in memory with the CA's signing key.
        has_names: its certificate has SANs.
        excluded: a declared rule about names excludes its certificate, so a refusal is correct.
        tries: by TLS version and protocol; the last try of each counts.
        chain: the certificates that it sends, leaf first.
    """

    identity: str
    origin: str
    issued: bool
    has_names: bool
    files: tuple[str, str] | None
    tries: tuple[tuple[TLSVersion, Protocol, tuple[Attempt, ...]], ...]
    excluded: bool = False
    chain: tuple[x509.Certificate, ...] = ()

    def attempt(self, version: TLSVersion, protocol: Protocol) -> tuple[Attempt, ...]:
        """Return the tries in that TLS version and protocol, empty if there were none."""
        return next((tries for v, p, tries in self.tries if (v, p) == (version, protocol)), ())

    def served_over(self, protocol: Protocol) -> tuple[Attempt, ...]:
        """Return the attempts over that protocol whose response could be parsed."""
        return tuple(attempt for attempt in self.served if attempt.protocol is protocol)

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts that count."""
        return tuple(tries[-1] for _, _, tries in self.tries)

    @property
    def served_protocols(self) -> tuple[Protocol, ...]:
        """The protocols that answered this identity, in any TLS version."""
        return tuple(dict.fromkeys(p for _, p, tries in self.tries if tries[-1].response is not None))

    @property
    def served(self) -> tuple[Attempt, ...]:
        """The attempts whose response could be parsed."""
        return tuple(attempt for attempt in self.attempts if attempt.response is not None)

    @property
    def endings(self) -> frozenset[Ending]:
        """How its attempts ended."""
        return frozenset(attempt.ending for attempt in self.attempts)


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedClient:
    """The good identities tried on a listener, in order, until one was accepted.

    Attributes:
        candidates: in the order tried; the last one is the accepted one, if any was.
        accepted: the identity that was served, ``None`` if none was.
        san_rule: etcd's SAN rule applies on this listener (peer, https metrics).
        versions: TLS versions that the listener offers.
    """

    url: str
    role: str
    candidates: tuple[Candidate, ...]
    accepted: Candidate | None
    san_rule: bool
    versions: tuple[TLSVersion, ...]

    @property
    def reference(self) -> Candidate | None:
        """The candidate that serves as control: the accepted one, else the most informative one."""
        if self.accepted is not None:
            return self.accepted
        plain = [found for found in self.candidates if not self.closed_by_san_rule(found)]
        return next(iter(plain or self.candidates), None)

    def closed_by_san_rule(self, candidate: Candidate) -> bool:
        """Whether etcd's SAN rule can explain why the candidate was closed after the handshake."""
        return self.san_rule and candidate.has_names and candidate.endings == {Ending.CLOSED}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedClient:
    """A client that a listener serves: a good identity or a client without a certificate.

    Attributes:
        client: the accepted good identity; without one, the client without a certificate if it is served;
            ``None`` if neither is.
    """

    url: str
    role: str
    client: Candidate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityAttempt:
    """The attempts of one identity on one listener.

    Attributes:
        closes: etcd itself closes such a client after the handshake, so a close is a refusal.
    """

    url: str
    identity: str
    version: TLSVersion
    protocol: Protocol
    attempt: Attempt
    closes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityAttempts:
    """Every identity that was tried on a listener, in every TLS version and protocol.

    Attributes:
        split: attempts on the member's separate HTTP listener, empty if there is none.
        split_url: its URL, empty if there is none.
    """

    url: str
    role: str
    here: tuple[IdentityAttempt, ...]
    split: tuple[IdentityAttempt, ...] = ()
    split_url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRevocation:
    """The attempts of a revoked identity where HTTP has a listener separate from the gRPC port.

    Attributes:
        grpc: what was seen of it on the gRPC port.
        http: what was seen of it on the HTTP port.
    """

    grpc: AccessMatrix
    http: AccessMatrix


ISSUED = "issued"
"""The good identity issued with a CA's key; the valid counterpart of the bad identities issued with it."""


@dataclass(frozen=True, slots=True)
class GoodIdentities:
    """The good identities of a listener, in the order in which they are tried; they hold keys."""

    identities: tuple[Identity, ...]

    def named(self, name: str) -> Identity:
        """Return the identity of that name."""
        return next(identity for identity in self.identities if identity.name == name)


@dataclass(frozen=True, slots=True)
class IssuedIdentities:
    """The identities issued with the CA's key of a listener, made once; they hold keys."""

    issued: dict[str, Identity]


@probe(IssuedIdentities, reported=False, cost=0, needs=[FirstContact])
def _issued_identities(context: Context) -> IssuedIdentities:
    listener = listener_of(context)
    credentials = context.target.credentials(listener.role)
    signing = credentials.signing_key
    if signing is None:
        raise NotVerifiedError(
            f"needs the key of the CA that signs its clients: pass --etcd-{listener.role.prefix}ca-key"
        )
    authority = CertificateAuthority.from_key(signing.certificate, signing.key)
    files = (signing.certificate_file or "ca.crt", signing.key_file or "ca.key")
    common_name = credentials.allowed_cn[0] if credentials.allowed_cn else identities.COMMON_NAME
    names = _accepted_names(context, credentials)
    return IssuedIdentities(
        identities.issue_identities(
            authority, common_name=common_name, subject_alt_names=names, ca_files=files
        )
    )


def _accepted_names(context: Context, credentials: PortCredentials) -> tuple[str, ...]:
    """Return the names that a good certificate must have, none if no rule about hostnames is known."""
    if not credentials.allowed_hostname:
        return ()
    # On peer and metrics listeners etcd compares the SANs, if there are any, with our address.
    addresses = {attempt.local_address for attempt in context.get(FirstContact).tls if attempt.local_address}
    hosts = (address.rpartition(":")[0].strip("[]").partition("%")[0] for address in addresses)
    return (credentials.allowed_hostname[0], *sorted(hosts))


def meets_name_rules(identity: Identity, credentials: PortCredentials) -> bool:
    """Return whether the declared rules about names, if any, accept the identity."""
    if not identity.chain:
        return True
    leaf, hostnames = identity.chain[0], credentials.allowed_hostname
    common_names = {str(name.value) for name in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)}
    return (not credentials.allowed_cn or not common_names.isdisjoint(credentials.allowed_cn)) and (
        not hostnames or any(names_host(leaf, hostname) for hostname in hostnames)
    )


@probe(GoodIdentities, reported=False, cost=0, needs=[IssuedIdentities])
def _good_identities(context: Context) -> GoodIdentities:
    credentials = context.target.credentials(listener_of(context).role)
    # A refusal of an identity that the declared rules exclude is correct, so it is no control.
    good = tuple(one for one in credentials.identities if meets_name_rules(one, credentials))
    good = good or credentials.identities
    if credentials.signing_key is not None:
        good += (context.get(IssuedIdentities).issued[ISSUED],)
    return GoodIdentities(good)


@dataclass(frozen=True, slots=True)
class ClientIdentity:
    """An identity ready to be presented; holds a key.

    Attributes:
        valid_counterpart: name of the good identity that differs in one point only, ``None`` if there is
            none.
        held: why no identity could be issued; given for one that we hold, and reported if it proves nothing.
            Empty for all others.
    """

    identity: Identity
    valid_counterpart: str | None = None
    held: str = ""


@probe(
    ClientIdentity,
    reported=False,
    cost=0,
    needs=[FirstContact, IssuedIdentities, ServedChain, AcceptedClient],
)
def _client_identity(context: Context, key: str) -> ClientIdentity:
    if key in _MADE:
        return ClientIdentity(_MADE[key](context))
    _needs_rule(context, key)
    try:
        issued = context.get(IssuedIdentities).issued
    except NotVerifiedError as missing:
        for identity in _held(context):
            if _is_excluded(context, identity, key):
                return ClientIdentity(identity, held=missing.reason)
        raise
    return ClientIdentity(issued[key], identities.VALID_COUNTERPARTS.get(key))


def _held(context: Context) -> Iterator[Identity]:
    """Yield identities that a rule may exclude: the accepted one, then those of the same CA."""
    trust = context.target.credentials(listener_of(context).role).client_trust
    anchors = trust.certificates if trust else ()
    accepted = context.get(AcceptedClient).accepted
    if accepted is not None:
        good = context.get(GoodIdentities).named(accepted.identity)
        yield good
        path = _path(good, anchors)
        anchors = path[-1:] if path else ()
    yield from (one for one in _ours(context) if one.chain and _path(one, anchors))


def _path(identity: Identity, anchors: tuple[x509.Certificate, ...]) -> Path | None:
    return find_path(identity.chain[0], identity.chain[1:], anchors, datetime.now(UTC))


def _ours(context: Context) -> Iterator[Identity]:
    """Yield the key pairs that we hold, those for the port first."""
    ports = [context.target.client, context.target.peer]
    for credentials in reversed(ports) if listener_of(context).role is Role.PEER else ports:
        yield from credentials.identities
        yield from credentials.served


def _is_excluded(context: Context, identity: Identity, name: str) -> bool:
    """Return whether the rule that the named identity breaks, and it alone, excludes a certificate."""
    leaf, now = identity.chain[0], datetime.now(UTC)
    credentials = context.target.credentials(listener_of(context).role)
    broken = {
        "expired": now > leaf.not_valid_after_utc,
        "not-yet-valid": now < leaf.not_valid_before_utc,
        "server-auth-only": not is_for(leaf, "clientAuth"),
        "wrong-cn": not meets_name_rules(identity, replace(credentials, allowed_hostname=())),
        "wrong-hostname": not meets_name_rules(identity, replace(credentials, allowed_cn=())),
    }
    return broken.get(name, False) and not any(found for rule, found in broken.items() if rule != name)


def _revoked(context: Context) -> Identity:
    """Return a certificate that the CRL revokes: given, ours, or issued with a serial number of the CRL."""
    listener = listener_of(context)
    credentials = context.target.credentials(listener.role)
    if credentials.revoked is not None:
        return credentials.revoked
    if not context.target.configured_by_user:
        raise NotApplicableError("this cluster was started without a CRL")
    declared = context.target.declared.get(listener.member)
    if declared is None:
        raise NotVerifiedError("whether a revocation list is in force is not known: pass --etcd-config")
    side = "peer" if listener.role is Role.PEER else "client"
    setting = declared.declaration.settings.get(f"{side}-crl-file")
    if setting is None or not setting.value:
        raise NotApplicableError("no revocation list is declared here")
    crl = declared.crls.get(setting.value)
    if crl is None or crl.found is None:
        raise NotVerifiedError(f"{setting} is not here: pass a directory with a copy by --etcd-pki-dir")
    if not crl.serial_numbers:
        raise NotApplicableError(f"{crl.found} revokes nothing")
    for one in _held(context):
        if serial_number(one.chain[0]) in crl.serial_numbers:
            return replace(one, name="revoked")
    # Of the CRL, etcd compares serial numbers and nothing else, so a certificate with a listed one is enough.
    signing = credentials.signing_key
    if signing is None or signing.certificate.subject.rfc4514_string() != crl.issuer:
        raise NotVerifiedError(
            f"needs a certificate that {crl.found} revokes: pass --etcd-{listener.role.prefix}ca-key, "
            f"the key of {printable(crl.issuer)}"
        )
    return identities.revoked(
        CertificateAuthority.from_key(signing.certificate, signing.key),
        serial=min(crl.serial_numbers),
        ca_files=(signing.certificate_file or "ca.crt", signing.key_file or "ca.key"),
    )


def _needs_rule(context: Context, name: str) -> None:
    """Check that a rule about names is known, without which no name is wrong.

    Raises:
        NotApplicableError: if no such rule is known.
    """
    credentials = context.target.credentials(listener_of(context).role)
    rules = {"wrong-cn": credentials.allowed_cn, "wrong-hostname": credentials.allowed_hostname}
    if not rules.get(name, (name,)):
        what = "common name" if name == "wrong-cn" else "hostname"
        raise NotApplicableError(f"no rule about the {what} of a certificate is known to be declared here")


def _client_certificate(context: Context) -> Identity:
    if not context.target.client.identities:
        raise NotVerifiedError("needs a client certificate: pass --etcd-cert and --etcd-key")
    return context.target.client.identities[0]


def _peer_certificate(context: Context) -> Identity:
    """Return a certificate that only peers use: one valid for servers if there is one, else the first."""
    clients = {identity.chain[0] for identity in context.target.client.identities if identity.chain}
    own = [
        identity
        for identity in context.target.peer.identities
        if identity.chain and identity.chain[0] not in clients
    ]
    if not own:
        raise NotVerifiedError("needs a peer certificate: pass --etcd-peer-cert and --etcd-peer-key")
    of_servers = (one for one in own if "serverAuth" in (purposes(one.chain[0]) or ()))
    return next(of_servers, own[0])


def _server_certificate(context: Context) -> Identity:
    leaf = context.get(ServedChain).leaf
    for identity in _ours(context):
        if identity.chain and identity.chain[0] == leaf:
            return identity
    raise NotVerifiedError("needs the key of the served certificate: pass --etcd-config where its files are")


def _lookalike(context: Context) -> Identity:
    trust = context.target.credentials(listener_of(context).role).client_trust
    announced = {der: None for attempt in tls_answer(context).tls for der in attempt.announced_ca}
    names = tuple(x509.Name.from_bytes(der) for der in announced)
    return identities.lookalike_ca(names, trust.certificates if trust else ())


_MADE: dict[str, Callable[[Context], Identity]] = {
    "none": lambda _: NO_CERTIFICATE,
    "self-signed": lambda _: identities.self_signed(),
    "foreign-ca": lambda _: identities.foreign_ca(),
    "lookalike-ca": _lookalike,
    "revoked": _revoked,
    "client-certificate": _client_certificate,
    "peer-certificate": _peer_certificate,
    "server-certificate": _server_certificate,
}

PROTOCOLS: dict[Role, tuple[Protocol, ...]] = {
    Role.CLIENT: (Protocol.HTTP1, Protocol.GATEWAY, Protocol.GRPC),
    Role.PEER: (Protocol.HTTP1,),
    Role.METRICS: (Protocol.HTTP1,),
    Role.CLIENT_HTTP: (Protocol.HTTP1, Protocol.GATEWAY),
}
"""Protocols of a listener of each role. The peer port selects h2 by ALPN, and yet serves HTTP/1.1 only."""

SAN_RULE_ROLES = frozenset({Role.PEER, Role.METRICS})
"""Where etcd compares a client certificate's SANs with the remote address (client/pkg/transport)."""

OTHER_ROLES = frozenset({"client-certificate", "peer-certificate", "server-certificate"})
"""Good identities of other roles, tried on listeners that they are not meant for."""

UNTRUSTED_IDENTITIES = ("none", "self-signed", "foreign-ca")
"""Bad identities that need nothing but the listener. Where one of them is served, a narrower rule refuses no
client: a client that the rule excludes can present this identity instead."""

Combination = tuple[TLSVersion, Protocol]
"""A TLS version and a protocol in which an identity is tried."""

Tries = tuple[tuple[TLSVersion, Protocol, tuple[Attempt, ...]], ...]


def status_request(
    listener: Listener, identity: Identity, version: TLSVersion | None, protocol: Protocol, purpose: str
) -> Request:
    """Return a request that every etcd answers for every client that TLS accepts."""
    paths = {Protocol.GATEWAY: GATEWAY_STATUS_PATH, Protocol.GRPC: GRPC_STATUS_PATH}
    path = paths.get(protocol, version_path(listener.role))
    return Request(purpose=purpose, identity=identity, version=version, protocol=protocol, path=path)


def has_names(identity: Identity) -> bool:
    """Whether the certificate has a subjectAltName extension."""
    return bool(identity.chain) and extension(identity.chain[0], x509.SubjectAlternativeName) is not None


def _try_each(
    context: Context,
    identity: Identity,
    versions: Sequence[TLSVersion],
    protocols: Sequence[Protocol],
    purpose: str,
    *,
    known: Mapping[Combination, tuple[Attempt, ...]] = MappingProxyType({}),
) -> Tries:
    """Return the tries in each version and protocol; make those that are not known."""
    listener = listener_of(context)
    combinations = list(itertools.product(versions, protocols))
    requests = [status_request(listener, identity, *one, purpose) for one in combinations if one not in known]
    made = iter(context.attempt(*requests) if requests else ())
    return tuple((*one, known[one] if one in known else next(made)) for one in combinations)


def _again(context: Context, identity: Identity, tries: Tries, purpose: str) -> Tries:
    """Repeat the attempts that were closed: an etcd that is stopping closes every connection."""
    listener = listener_of(context)
    closed = [(v, p) for v, p, made in tries if made[-1].ending is Ending.CLOSED]
    if not closed:
        return tries
    requests = [status_request(listener, identity, *one, f"{purpose}, again after a close") for one in closed]
    made_again = dict(zip(closed, context.attempt(*requests), strict=True))
    return tuple((v, p, made + made_again.get((v, p), ())) for v, p, made in tries)


def _accepted_cost(planned: Planned) -> int:
    target, listener = planned.target, planned.listener
    if listener is None or listener.scheme == "http":
        return 0
    credentials = target.credentials(listener.role)
    known = len(credentials.identities) + (credentials.signing_key is not None)
    # Each candidate but the accepted one may be repeated once.
    return known * 2 * len(TLSVersion) * len(PROTOCOLS[listener.role])


@dataclass(frozen=True, slots=True)
class AcceptedConnections:
    """The accepted client, and the attempts that followed on the connections on which it was accepted.

    Attributes:
        sessions: by TLS version, in the listener's first protocol only; they hold secrets.
        more: the attempts of further requests on the connections, by the observation that they are for.
    """

    client: AcceptedClient
    sessions: Mapping[Combination, SessionSlot]
    more: Mapping[Observation, Attempt]


@probe(AcceptedClient, cost=0, needs=[AcceptedConnections])
def _accepted_client(context: Context) -> AcceptedClient:
    return context.get(AcceptedConnections).client


@probe(AcceptedConnections, reported=False, cost=_accepted_cost, needs=[FirstContact, GoodIdentities])
def _accepted_connections(context: Context) -> AcceptedConnections:
    listener = listener_of(context)
    versions = tls_answer(context).offered
    candidates: list[Candidate] = []
    accepted: Candidate | None = None
    for identity in context.get(GoodIdentities).identities:
        purpose = f"good identity {identity.name}"
        protocols = PROTOCOLS[listener.role]
        slots = {(version, protocols[0]): SessionSlot() for version in versions}
        known, more = _try_on_shared_connections(
            context, identity, versions, protocols, purpose, slots, context.shared_requests()
        )
        tries = _try_each(context, identity, versions, protocols, purpose, known=known)
        if not any(made[-1].response is not None for _, _, made in tries):
            tries = _again(context, identity, tries, purpose)
        candidate = _candidate(identity, tries, issued=identity.name == ISSUED)
        excluded = not meets_name_rules(identity, context.target.credentials(listener.role))
        candidates.append(replace(candidate, excluded=excluded))
        if candidates[-1].served:
            accepted = candidates[-1]
            break
    client = AcceptedClient(
        url=listener.url,
        role=listener.role,
        candidates=tuple(candidates),
        accepted=accepted,
        san_rule=listener.role in SAN_RULE_ROLES,
        versions=versions,
    )
    return AcceptedConnections(client, slots, more) if accepted else AcceptedConnections(client, {}, {})


def _try_on_shared_connections(
    context: Context,
    identity: Identity,
    versions: Sequence[TLSVersion],
    protocols: Sequence[Protocol],
    purpose: str,
    slots: Mapping[Combination, SessionSlot] = MappingProxyType({}),
    shared: Mapping[Observation, Request] = MappingProxyType({}),
) -> tuple[dict[Combination, tuple[Attempt, ...]], dict[Observation, Attempt]]:
    """Try a good identity, with one connection for HTTP/1.1 and one for gRPC in each version.

    The gateway's request is sent on the first, and in the highest version the requests of other
    observations are sent on both; a slot keeps the session of a connection.

    Returns:
        The attempts by version and protocol, without those that need a connection of their own; and those for
        other observations.
    """
    listener = listener_of(context)
    conversations: list[dict[Combination | Observation, Request]] = []
    for version in versions:
        status = {
            (version, protocol): replace(
                status_request(listener, identity, version, protocol, purpose),
                keep=slots.get((version, protocol)),
            )
            for protocol in protocols
        }
        for on in (_OVER_HTTP1, (Protocol.GRPC,)):
            one: dict[Combination | Observation, Request] = {
                what: request for what, request in status.items() if request.protocol in on
            }
            if version is versions[-1]:
                one |= {
                    what: replace(request, identity=identity, version=version)
                    for what, request in shared.items()
                    if request.protocol in on
                }
            if not status.keys().isdisjoint(one):
                conversations.append(one)
    known: dict[Combination, tuple[Attempt, ...]] = {}
    more: dict[Observation, Attempt] = {}
    made = context.attempt_shared(*(tuple(one.values()) for one in conversations))
    for one, came in zip(conversations, made, strict=True):
        first, *others = one
        known[cast("Combination", first)] = came.tries
        for what, attempt in zip(others, came.more, strict=False):
            if what[0] in versions:
                known[cast("Combination", what)] = (attempt,)
            else:
                more[cast("Observation", what)] = attempt
    return known, more


_OVER_HTTP1 = (Protocol.HTTP1, Protocol.GATEWAY)


def _candidate(identity: Identity, tries: Tries, *, issued: bool) -> Candidate:
    return Candidate(
        identity=identity.name,
        origin=identity.origin,
        issued=issued,
        has_names=has_names(identity),
        files=_files(identity),
        tries=tries,
        chain=identity.chain,
    )


def _files(identity: Identity) -> tuple[str, str] | None:
    if not identity.chain:
        return None
    return (
        identity.certificate_file or f"{identity.name}.crt",
        identity.key_file or f"{identity.name}.key",
    )


def served_protocols(context: Context) -> tuple[Protocol, ...]:
    """Return the protocols that are tested on the listener: those in which a good client was answered.

    Without an accepted client these are all protocols of the listener's role.
    """
    accepted = context.get(AcceptedClient).accepted
    return accepted.served_protocols if accepted else PROTOCOLS[listener_of(context).role]


def _counterpart_cost(planned: Planned) -> int:
    listener = planned.listener
    if listener is None or listener.scheme == "http":
        return 0
    if planned.target.credentials(listener.role).signing_key is None:
        return 0
    return 2 * len(TLSVersion) * len(PROTOCOLS[listener.role])


@probe(Candidate, cost=_counterpart_cost, needs=[AcceptedClient, IssuedIdentities])
def _valid_counterpart(context: Context, key: str) -> Candidate:
    """Try the valid counterpart of issued identities, unless it was tried as the accepted identity."""
    identity = context.get(IssuedIdentities).issued[key]
    good = context.get(AcceptedClient)
    if good.accepted is not None and good.accepted.identity == identity.name:
        return good.accepted
    purpose = f"valid counterpart {identity.name}"
    protocols = served_protocols(context)
    known, _ = _try_on_shared_connections(context, identity, good.versions, protocols, purpose)
    tries = _try_each(context, identity, good.versions, protocols, purpose, known=known)
    return _candidate(identity, _again(context, identity, tries, purpose), issued=True)


def _protocols(key: str | None, known: tuple[Protocol, ...]) -> tuple[Protocol, ...]:
    """Return the protocols to try with an identity: for one of another role, one protocol is enough."""
    return known[:1] if key in OTHER_ROLES else known


def _matrix_cost(planned: Planned) -> int:
    listener = planned.listener
    if listener is None or listener.scheme == "http":
        return 0
    credentials = planned.target.credentials(listener.role)
    known = {
        "wrong-cn": bool(credentials.allowed_cn),
        "wrong-hostname": bool(credentials.allowed_hostname),
        "revoked": planned.target.configured_by_user or credentials.revoked is not None,
    }
    if not known.get(str(planned.key), True):
        return 0
    # After a close that decides the result, the control is repeated.
    tries = 2 if planned.key in CLOSED_BY_ETCD else 1
    return tries * len(TLSVersion) * len(_protocols(planned.key, PROTOCOLS[listener.role]))


def _needs_of_matrix(planned: Planned) -> Sequence[Wanted]:
    counterpart = identities.VALID_COUNTERPARTS.get(str(planned.key))
    return (
        *(FirstContact, AcceptedClient, GoodIdentities, IssuedIdentities, (ClientIdentity, planned.key)),
        *([(Candidate, counterpart)] if counterpart else []),
        *((AccessMatrix, name) for name in UNTRUSTED_IDENTITIES if name != planned.key),
    )


@probe(AccessMatrix, cost=_matrix_cost, needs=_needs_of_matrix)
def _matrix(context: Context, key: str) -> AccessMatrix:
    try:
        client = context.get(ClientIdentity, key)
        matrix = _try_identity(context, client, key)
        if client.held and not _decides(matrix):
            raise NotVerifiedError(client.held)
    except NotVerifiedError as missing:
        found = served_instead(context, key)
        if found is None:
            raise NotVerifiedError(missing.reason) from missing
        return found
    return matrix


def served_instead(context: Context, key: str) -> AccessMatrix | None:
    """Return a served identity that decides the result for one that cannot be presented.

    Args:
        context: of the listener.
        key: name of the identity that cannot be presented.
    """
    if key in UNTRUSTED_IDENTITIES:
        return None  # one untrusted identity decides nothing for another, and two would need each other
    if key == "revoked" and listener_of(context).member not in context.target.declared:
        return None  # whether a CRL is declared is not known
    for name in ("none",) if key in OTHER_ROLES else UNTRUSTED_IDENTITIES:
        with suppress(UnobservedError):
            seen = context.get(AccessMatrix, name)
            served = tuple(case for case in seen.cases if case.attempt.ending is Ending.SERVED)
            if served:
                return replace(seen, cases=served, instead_of=key)
    return None


def _decides(matrix: AccessMatrix) -> bool:
    """Return whether an identity that we hold, not issued for this run, decides the result for its kind.

    It does if it is served, or if TLS refuses it and serves a good client. A close may be due to its names.
    """
    endings = {case.attempt.ending for case in matrix.cases}
    controls = {case.control.attempt.ending for case in matrix.cases if case.control.attempt}
    return Ending.SERVED in endings or (endings == {Ending.REFUSED} and controls == {Ending.SERVED})


def _try_identity(context: Context, client: ClientIdentity, key: str) -> AccessMatrix:
    listener = listener_of(context)
    good = context.get(AcceptedClient)
    identity = client.identity
    counterpart = client.valid_counterpart
    reference = context.get(Candidate, counterpart) if counterpart else good.reference
    purpose = f"identity {key}" if key in OTHER_ROLES else f"bad identity {identity.name}"
    protocols = _protocols(key, served_protocols(context))
    tries = _known_tries(context, identity, protocols)
    if not tries:
        known = _first_contact(context) if identity is NO_CERTIFICATE else {}
        without = [protocol for protocol in protocols if protocol is not Protocol.GATEWAY]
        tries = _try_each(context, identity, good.versions, without, purpose, known=known)
        known = {(version, protocol): made for version, protocol, made in tries} | _gateway_refusals(tries)
        tries = _try_each(context, identity, good.versions, protocols, purpose, known=known)
    controls = _controls(context, identity, tries, reference, valid_counterpart=counterpart is not None)
    return AccessMatrix(
        url=listener.url,
        role=listener.role,
        identity=identity.name,
        has_names=has_names(identity),
        certificate=describe(identity),
        recipe=identity.recipe,
        files=_files(identity),
        cases=tuple(
            AccessCase(version=v, protocol=p, tries=made, control=controls[v, p]) for v, p, made in tries
        ),
    )


def _first_contact(context: Context) -> dict[Combination, tuple[Attempt, ...]]:
    """Return the attempts of the first contact that count as tries without a certificate over HTTP/1.1."""
    # Before the server at a discovered address has proved who it is, an attempt may end for another reason.
    if listener_of(context).discovered:
        return {}
    return {
        (attempt.offered_version, Protocol.HTTP1): (attempt,)
        for attempt in tls_answer(context).tls
        if attempt.offered_version and attempt.ending in (Ending.SERVED, Ending.REFUSED)
    }


def _gateway_refusals(tries: Tries) -> dict[Combination, tuple[Attempt, ...]]:
    """Return the tries over HTTP/1.1 that TLS refused, as tries of the gateway."""
    # Both begin with the same ClientHello, and a server refuses a certificate before it reads a request.
    return {
        (version, Protocol.GATEWAY): made
        for version, protocol, made in tries
        if protocol is Protocol.HTTP1 and made[-1].ending is Ending.REFUSED
    }


def _known_tries(context: Context, identity: Identity, protocols: Sequence[Protocol]) -> Tries:
    """Return the attempts made when the identity was tried as a good one, empty if it was not."""
    if not any(good is identity for good in context.get(GoodIdentities).identities):
        return ()
    tried = (one for one in context.get(AcceptedClient).candidates if one.identity == identity.name)
    return tuple(made for one in tried for made in one.tries if made[1] in protocols)


@probe(ServedClient, cost=0, needs=[AcceptedClient, (AccessMatrix, "none")])
def _served_client(context: Context) -> ServedClient:
    good = context.get(AcceptedClient)
    client = good.accepted
    if client is None:
        unauthenticated = context.get(AccessMatrix, "none")
        found = Candidate(
            identity=NO_CERTIFICATE.name,
            origin=NO_CERTIFICATE.origin,
            issued=False,
            has_names=False,
            files=None,
            tries=tuple((case.version, case.protocol, case.tries) for case in unauthenticated.cases),
        )
        client = found if found.served else None
    return ServedClient(url=good.url, role=good.role, client=client)


def _controls(
    context: Context,
    identity: Identity,
    tries: Tries,
    reference: Candidate | None,
    *,
    valid_counterpart: bool,
) -> dict[Combination, Control]:
    if reference is None:
        return {(v, p): Control() for v, p, _ in tries}
    made = {(v, p): reference.attempt(v, p) for v, p, _ in tries}
    if identity.name in CLOSED_BY_ETCD:
        closed = [(v, p) for v, p, attempts in tries if attempts[-1].ending is Ending.CLOSED]
        known = {good.name: good for good in context.get(GoodIdentities).identities}
        control = known.get(reference.identity) or context.get(IssuedIdentities).issued[reference.identity]
        purpose = f"control {reference.identity}, again after a close"
        requests = [status_request(listener_of(context), control, *one, purpose) for one in closed]
        for one, again in zip(closed, context.attempt(*requests) if requests else [], strict=True):
            made[one] += again
    return {
        one: Control(identity=reference.identity, tries=attempts, valid_counterpart=valid_counterpart)
        for one, attempts in made.items()
    }


def describe(identity: Identity) -> str:
    """Return subject and issuer of its certificate in words, empty for ``none``."""
    if not identity.chain:
        return ""
    leaf = identity.chain[0]
    return f"subject {name_text(leaf.subject) or '(empty)'}, issuer {name_text(leaf.issuer)}"


_EVERYWHERE = ("none", "self-signed", "foreign-ca", "lookalike-ca")
_CLIENT_AND_PEER = ("expired", "not-yet-valid", "server-auth-only", "intermediate-missing")
_BY_ROLE: dict[Role, tuple[str, ...]] = {
    Role.CLIENT: (*_CLIENT_AND_PEER, "wrong-hostname", "revoked", "peer-certificate", "server-certificate"),
    Role.PEER: (
        *_CLIENT_AND_PEER,
        "wrong-hostname",
        "wrong-cn",
        "revoked",
        "wrong-san",
        "client-certificate",
    ),
    Role.METRICS: ("wrong-san", "revoked"),
    Role.CLIENT_HTTP: ("revoked",),
}
"""Identities that the checks about single identities try, by role; no other is tried for comparison."""


def _needs_of_attempts(planned: Planned) -> Sequence[Wanted]:
    names = _BY_ROLE[planned.listener.role] if planned.listener else ()
    return (AcceptedClient, *((AccessMatrix, name) for name in (*_EVERYWHERE, *names)))


@probe(IdentityAttempts, cost=0, needs=_needs_of_attempts, across=True)
def _identity_attempts(context: Context) -> IdentityAttempts:
    listener = listener_of(context)
    tls_answer(context)
    split = split_off(context, listener)
    return IdentityAttempts(
        url=listener.url,
        role=listener.role,
        here=tuple(_attempts_at(context, listener)),
        split=tuple(_attempts_at(context, split)) if split else (),
        split_url=split.url if split else "",
    )


def split_off(context: Context, listener: Listener) -> Listener | None:
    """Return the member's https listener for HTTP, separate from its gRPC port, if there is one."""
    if listener.role is not Role.CLIENT:
        return None
    others = context.target.siblings(listener, Role.CLIENT_HTTP)
    return next((other for other in others if other.scheme == "https"), None)


def _attempts_at(context: Context, listener: Listener) -> Iterator[IdentityAttempt]:
    yield from _attempts_of_the_accepted(context, listener)
    for name in (*_EVERYWHERE, *_BY_ROLE[listener.role]):
        matrix = observed(context, AccessMatrix, name, listener)
        if matrix is None or matrix.instead_of:
            continue
        for case in matrix.cases:
            yield IdentityAttempt(
                url=listener.url,
                identity=matrix.identity,
                version=case.version,
                protocol=case.protocol,
                attempt=case.attempt,
                closes=matrix.identity in CLOSED_BY_ETCD,
            )


def _attempts_of_the_accepted(context: Context, listener: Listener) -> Iterator[IdentityAttempt]:
    good = observed(context, AcceptedClient, listener=listener)
    if good is None or good.accepted is None:
        return
    for version, protocol, tries in good.accepted.tries:
        yield IdentityAttempt(
            url=listener.url,
            identity=good.accepted.identity,
            version=version,
            protocol=protocol,
            attempt=tries[-1],
        )


@probe(SplitRevocation, cost=0, needs=[(AccessMatrix, "revoked")], across=True)
def _split_revocation(context: Context) -> SplitRevocation:
    listener = listener_of(context)
    tls_answer(context)
    split = split_off(context, listener)
    if split is None:
        accepted = context.get(AcceptedClient).accepted
        if accepted is not None and Protocol.HTTP1 not in accepted.served_protocols:
            raise NotVerifiedError("needs the HTTP listener as well: pass --etcd-client-http-endpoint")
        raise NotApplicableError("HTTP is not split off the gRPC port")
    return SplitRevocation(
        grpc=context.get(AccessMatrix, "revoked"), http=context.get(AccessMatrix, "revoked", listener=split)
    )


@probe(KubernetesCA, cost=0)
def _kubernetes_ca(context: Context) -> KubernetesCA:
    bundle = context.target.kubernetes_ca
    if bundle is None and context.target.origin != "live":
        raise NotApplicableError("this cluster was started here and serves no Kubernetes")
    if bundle is None:
        raise NotVerifiedError(
            "needs the CA of the Kubernetes cluster that uses this etcd: pass --etcd-kubernetes-ca "
            "(/etc/kubernetes/pki/ca.crt)"
        )
    return KubernetesCA(certificates=bundle.certificates, source=bundle.source)


@probe(CAsInUse, cost=0, needs=[AnnouncedCAs, Issuers, ClientTrust, AcceptedClient])
def _in_use(context: Context) -> CAsInUse:
    announced = context.get(AnnouncedCAs)
    issuers, trust = observed(context, Issuers), observed(context, ClientTrust)
    return CAsInUse(
        url=listener_of(context).url,
        known=(
            *(
                (found, "issued the served certificate")
                for found in (issuers.certificates if issuers else ())
            ),
            *((found, "is trusted for clients") for found in (trust.certificates if trust else ())),
            *(
                (found, "has signed the client that is accepted")
                for found in _signers_of_the_accepted(context)
            ),
        ),
        announced=tuple(dict.fromkeys(name for _, names in announced.names for name in names)),
        trust_is_known=trust is not None and bool(trust.certificates),
    )


def _signers_of_the_accepted(context: Context) -> tuple[x509.Certificate, ...]:
    """Return the known CAs that have signed the accepted client where certificates are requested.

    Such a CA is trusted there, whatever is known of the bundle.
    """
    good = observed(context, AcceptedClient)
    if good is None or good.accepted is None:
        return ()
    if not any(requested for _, requested in context.get(AnnouncedCAs).requested):
        return ()
    leaf, *sent = context.get(GoodIdentities).named(good.accepted.identity).chain
    bundles = (context.target.kubernetes_ca, context.target.client.server_ca, context.target.peer.server_ca)
    anchors = [found for bundle in bundles if bundle for found in bundle.certificates]
    path = find_path(leaf, sent, anchors, datetime.now(UTC))
    return path[-1:] if path else ()


def _sample_candidate(listener: SampleListener) -> Candidate:
    """Return a good identity that was accepted."""
    return Candidate(
        identity="client",
        origin="generated",
        issued=False,
        has_names=False,
        files=SAMPLE_FILES,
        tries=tuple(
            (version, protocol, (listener.attempt(offered_version=version, protocol=protocol),))
            for version in TLSVersion
            for protocol in listener.protocols
        ),
    )


@sample(AcceptedClient)
def _sample_accepted(listener: SampleListener) -> AcceptedClient:
    candidate = _sample_candidate(listener)
    return AcceptedClient(
        url=listener.url,
        role=listener.role,
        candidates=(candidate,),
        accepted=candidate,
        san_rule=listener.role is Role.PEER,
        versions=tuple(TLSVersion),
    )


@sample(ServedClient)
def _sample_served(listener: SampleListener) -> ServedClient:
    return ServedClient(url=listener.url, role=listener.role, client=_sample_candidate(listener))


@sample(AccessMatrix)
def sample_matrix(listener: SampleListener, key: str) -> AccessMatrix:
    """Return the conforming attempts of an identity: each is refused, and the control is served."""
    cases = tuple(
        AccessCase(
            version=version,
            protocol=protocol,
            tries=(listener.refused(identity=key, offered_version=version, protocol=protocol),),
            control=Control(
                identity="client", tries=(listener.attempt(offered_version=version, protocol=protocol),)
            ),
        )
        for version in TLSVersion
        for protocol in listener.protocols
    )
    files = None if key == NO_CERTIFICATE.name else (f"{key}.crt", f"{key}.key")
    return AccessMatrix(url=listener.url, role=listener.role, identity=key, files=files, cases=cases)


@sample(IdentityAttempts)
def _sample_attempts(listener: SampleListener) -> IdentityAttempts:
    here = tuple(
        IdentityAttempt(
            url=listener.url, identity=identity, version=version, protocol=protocol, attempt=attempt
        )
        for version in TLSVersion
        for protocol in listener.protocols
        for identity, attempt in (("client", listener.attempt()), ("none", listener.refused()))
    )
    return IdentityAttempts(url=listener.url, role=listener.role, here=here)


@sample(SplitRevocation)
def _sample_split_revocation(listener: SampleListener) -> SplitRevocation:
    http = sample_matrix(SampleListener(Role.CLIENT_HTTP), "revoked")
    closed = tuple(
        replace(case, tries=(replace(case.attempt, ending=Ending.CLOSED, alert=None),)) for case in http.cases
    )
    return SplitRevocation(grpc=sample_matrix(listener, "revoked"), http=replace(http, cases=closed))
