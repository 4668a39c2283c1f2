"""What happens to an identity on a listener, and which good identity the listener accepts.

A :class:`Case` is one identity in one TLS version and protocol; :class:`Access` is several, and can be
narrowed. TLS refuses a client by an alert (crypto/tls, ``processCertsFromClient``). After the handshake etcd
compares its revocation list and, on peer and metrics ports, the certificate's SANs with the client's address
(client/pkg/transport/listener_tls.go), and closes the connection without an alert. An etcd that is stopping
closes connections as well, so a close is tried again.

The good identities are tried first, until etcd answers one. It is the control of every other identity: a
refusal proves something only if the same connection with a good identity is served
(docs/verdicts.md).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType

from cryptography import x509
from msgspec import Struct
from msgspec.structs import replace

from pytest_etcdtls.declared.effective import effective_of
from pytest_etcdtls.errors import NotVerifiedError, needs
from pytest_etcdtls.facts.fact import Planned, Wire, fact
from pytest_etcdtls.facts.good_identities import (
    ISSUED,
    GoodIdentities,
    IssuedIdentities,
    Revocation,
    credentials_at,
    local_host,
    meets_name_rules,
    revocation_of,
)
from pytest_etcdtls.facts.listener import TLSContact, Tried, version_path, versions_of
from pytest_etcdtls.facts.refusal import SANRule, by_etcd, is_of_etcd, san_rule
from pytest_etcdtls.pki.certificate import fingerprint
from pytest_etcdtls.pki.profile import NO_CERTIFICATE, Identity
from pytest_etcdtls.role import Protocol, Role, TLSVersion
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import Attempt, Ending, Phase, Request, SessionSlot
from pytest_etcdtls.tls.http import GATEWAY_STATUS_PATH, GRPC_STATUS_PATH

PROTOCOLS: dict[Role, tuple[Protocol, ...]] = {
    Role.CLIENT: (Protocol.HTTP1, Protocol.GATEWAY, Protocol.GRPC),
    Role.PEER: (Protocol.HTTP1,),
    Role.METRICS: (Protocol.HTTP1,),
    Role.CLIENT_HTTP: (Protocol.HTTP1, Protocol.GATEWAY),
}
"""Protocols of a listener of each role. The peer port selects h2 by ALPN, and yet serves HTTP/1.1 only."""

SAN_RULE_ROLES = frozenset({Role.PEER, Role.METRICS})
"""Where etcd compares a client certificate's SANs with the remote address (client/pkg/transport)."""


Combination = tuple[TLSVersion, Protocol]
"""A TLS version and a protocol in which an identity is tried."""


class Case(Tried, frozen=True, kw_only=True):
    """One identity in one TLS version and protocol.

    Attributes:
        fingerprint: SHA-256 of its certificate, empty for ``none``.
        good: a server that accepts clients must accept it.
        closes: etcd itself closes such a client after the handshake, so a close is a refusal.
        control: the same with a good identity; ``None`` if none is known, and of a good identity itself.
    """

    version: TLSVersion
    protocol: Protocol
    fingerprint: str = ""
    good: bool = False
    closes: bool = False
    control: Case | None = None

    @property
    def attempt(self) -> Attempt:
        """The attempt that counts; of a bad identity, unclear if another server than etcd answers it."""
        last = self.tries[-1]
        return last if self.good else by_etcd(last, self.control.attempt if self.control else None)

    @property
    def is_by_another(self) -> bool:
        """Whether another server than etcd answers the attempt."""
        return self.attempt.ending is not self.tries[-1].ending

    @property
    def identity(self) -> str:
        """The name of the identity."""
        return self.tries[-1].identity

    @property
    def combination(self) -> Combination:
        """Its TLS version and protocol."""
        return self.version, self.protocol


class Access(tuple[Case, ...]):
    """What happened to identities: cases, which can be narrowed."""

    __slots__ = ()

    def where(self, keeps: Callable[[Case], bool]) -> Access:
        """Return the cases for which the function returns true."""
        return Access(filter(keeps, self))

    def over(self, *protocols: Protocol) -> Access:
        """Return the cases over these protocols."""
        return self.where(lambda case: case.protocol in protocols)

    def within(self, *versions: TLSVersion) -> Access:
        """Return the cases in these TLS versions."""
        return self.where(lambda case: case.version in versions)

    def ended(self, *endings: Ending) -> Access:
        """Return the cases that ended in one of these ways."""
        return self.where(lambda case: case.attempt.ending in endings)

    @property
    def accepted(self) -> Access:
        """The cases in which the identity was served."""
        return self.ended(Ending.SERVED)

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts that count."""
        return tuple(case.attempt for case in self)

    @property
    def endings(self) -> frozenset[Ending]:
        """How the cases ended."""
        return frozenset(attempt.ending for attempt in self.attempts)

    @property
    def versions(self) -> tuple[TLSVersion, ...]:
        """The TLS versions, each once."""
        return tuple(dict.fromkeys(case.version for case in self))

    @property
    def protocols(self) -> tuple[Protocol, ...]:
        """The protocols, each once."""
        return tuple(dict.fromkeys(case.protocol for case in self))


class Candidate(Struct, frozen=True, kw_only=True):
    """A good identity and its attempts on a listener.

    Attributes:
        origin: where it comes from.
        issued: the certificate was issued in memory with the CA's signing key.
        named: the user named it for this kind of port.
        has_names: its certificate has IP addresses or DNS names, which etcd's SAN rule compares.
        san_rule: whether that rule explains that connections were closed.
        revocation: whether a declared revocation list does.
        excluded: a declared rule about names excludes its certificate, so a refusal is correct.
        borrowed: it is the client port's certificate, on a peer port for which no other was named.
        cases: one per TLS version and protocol.
        chain: the certificates that it sends, leaf first.
    """

    identity: str
    origin: str
    issued: bool
    has_names: bool
    cases: Access
    named: bool = False
    san_rule: SANRule = SANRule.ACCEPTS
    revocation: Revocation = Revocation.UNKNOWN
    excluded: bool = False
    borrowed: bool = False
    chain: tuple[x509.Certificate, ...] = ()

    def tries_in(self, version: TLSVersion, protocol: Protocol) -> tuple[Attempt, ...]:
        """Return the tries in that TLS version and protocol, empty if there were none."""
        return next((case.tries for case in self.cases if case.combination == (version, protocol)), ())

    def served_over(self, protocol: Protocol) -> tuple[Attempt, ...]:
        """Return the attempts over that protocol whose response could be parsed."""
        return tuple(attempt for attempt in self.served if attempt.protocol is protocol)

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts that count."""
        return self.cases.attempts

    @property
    def served_protocols(self) -> tuple[Protocol, ...]:
        """The protocols that answered this identity, in any TLS version."""
        return self.cases.where(lambda case: case.attempt.response is not None).protocols

    @property
    def served(self) -> tuple[Attempt, ...]:
        """The attempts whose response could be parsed."""
        return tuple(attempt for attempt in self.attempts if attempt.response is not None)

    @property
    def clock_ahead(self) -> timedelta | None:
        """How far the server's clock is ahead of ours, by its Date headers; ``None`` if it sent none.

        Of several, the smallest difference: an answer may have taken its time.
        """
        dated = ((attempt, attempt.response.date) for attempt in self.served if attempt.response)
        return min((date - attempt.started_at for attempt, date in dated if date), key=abs, default=None)

    @property
    def of_etcd(self) -> bool:
        """Whether etcd answered it in any TLS version and protocol."""
        return any(attempt.response is not None and is_of_etcd(attempt.response) for attempt in self.attempts)

    @property
    def lacks_h2(self) -> bool:
        """Whether h2 was offered and not selected: etcd selects it (client/pkg/transport/listener.go)."""
        shaken = (attempt for attempt in self.attempts if attempt.phase is Phase.READ)
        return any("h2" in attempt.offered_alpn and attempt.alpn != "h2" for attempt in shaken)

    @property
    def endings(self) -> frozenset[Ending]:
        """How its attempts ended."""
        return self.cases.endings


class AcceptedClient(Struct, frozen=True, kw_only=True):
    """The good identities tried on a listener, in order, until one was accepted.

    Attributes:
        candidates: in the order tried, until etcd answered one.
        accepted: the identity that etcd answered, else the first with any answer, ``None`` if there was none.
        san_rule: etcd's SAN rule applies on this listener (peer, https metrics).
        versions: TLS versions that the listener offers, and in which identities can be tried.
    """

    candidates: tuple[Candidate, ...]
    accepted: Candidate | None
    san_rule: bool
    versions: tuple[TLSVersion, ...]

    @property
    def reference(self) -> Candidate | None:
        """The candidate that serves as control: the accepted one, else the most informative one."""
        if self.accepted is not None:
            return self.accepted
        # One that etcd closes after the handshake shows that TLS accepts clients.
        closed = [candidate for candidate in self.candidates if candidate.endings == {Ending.CLOSED}]
        return next(iter(closed or self.candidates), None)

    @property
    def hangs(self) -> bool:
        """Whether no good identity gets a response; the first frame of HTTP/2 is not one."""
        waiting = {Ending.UNCLEAR, Ending.SERVED}
        return bool(self.candidates) and all(
            not candidate.served and candidate.endings <= waiting for candidate in self.candidates
        )

    def closed_by_san_rule(self, candidate: Candidate) -> bool:
        """Whether etcd's SAN rule can explain why the candidate was closed after the handshake."""
        return (
            candidate.endings == {Ending.CLOSED}
            and candidate.san_rule is not SANRule.ACCEPTS
            and candidate.revocation is not Revocation.LISTED
        )


class ServedClient(Struct, frozen=True, kw_only=True):
    """A client that a listener serves: a good identity or a client without a certificate.

    Attributes:
        client: the accepted good identity; without one, the client without a certificate if it is served;
            ``None`` if neither is.
        stranger: the answer to plain HTTP of a server without TLS that is not etcd.
    """

    client: Candidate | None
    stranger: Attempt | None = None


class PresentedClient(Struct, frozen=True):
    """The client that a listener serves, ready to be presented; it may hold a key.

    Attributes:
        candidate: that is served, with its attempts.
        identity: its certificate and key, or none.
    """

    candidate: Candidate
    identity: Identity


class AcceptedConnections(Struct, frozen=True):
    """The accepted client, and what is kept of the connections on which it was accepted.

    Attributes:
        identity: the accepted client's certificate and key, or none.
        sessions: by TLS version, in the listener's first protocol only; they hold secrets.
    """

    client: AcceptedClient
    identity: Identity
    sessions: Mapping[Combination, SessionSlot]


def _accepted_cost(planned: Planned) -> int:
    target, listener = planned.target, planned.listener
    if listener is None or listener.scheme == "http":
        return 0
    credentials = target.credentials(listener.role)
    known = len(credentials.identities) + (credentials.signing_key is not None)
    # Each candidate but the accepted one may be repeated once.
    return known * 2 * len(TLSVersion) * len(PROTOCOLS[listener.role])


@fact
def accepted_client(connections: AcceptedConnections) -> AcceptedClient:
    """Return the good identities that were tried, without what is kept of their connections."""
    return connections.client


@fact(connections=_accepted_cost, reported=False)
def accepted_connections(
    here: Listener, target: Target, contact: TLSContact, good: GoodIdentities, wire: Wire
) -> AcceptedConnections:
    """Try the good identities in their order until etcd answers one."""
    versions, protocols = versions_of(contact), PROTOCOLS[here.role]
    credentials = credentials_at(here, target)
    candidates: list[Candidate] = []
    accepted: Candidate | None = None
    presented, sessions = NO_CERTIFICATE, dict[Combination, SessionSlot]()
    for identity in good.identities:
        slots = {(version, protocols[0]): SessionSlot() for version in versions}
        trial = Trial(wire, here, identity, f"good identity {identity.name}", good=True, slots=slots)
        cases = trial.cases(versions, protocols)
        served = cases.where(lambda case: case.attempt.response is not None).protocols
        cases = trial.again(cases, cases.over(*(served or protocols)).ended(Ending.CLOSED))
        candidate = replace(
            _candidate(here, target, identity, cases),
            named=identity == credentials.named,
            excluded=not meets_name_rules(identity.chain, credentials),
            # Where the user names it for peers as well, settings call it "peer".
            borrowed=here.role is Role.PEER
            and identity.name == "client"
            and identity in target.client.identities,
        )
        candidates.append(candidate)
        if candidate.served and (accepted is None or candidate.of_etcd):
            accepted, presented, sessions = candidate, identity, slots
        if accepted is not None and accepted.of_etcd:
            break
    client = AcceptedClient(
        candidates=tuple(candidates),
        accepted=accepted,
        san_rule=here.role in SAN_RULE_ROLES,
        versions=versions,
    )
    return AcceptedConnections(client, presented, sessions)


@fact(reported=False)
def presented_client(
    here: Listener, good: AcceptedClient, served: ServedClient, connections: AcceptedConnections
) -> PresentedClient:
    """Return the good identity that the listener accepts, else the client without a certificate.

    Raises:
        NotVerifiedError: if no good identity is known, or none is accepted.
    """
    client, side = served.client, here.role.prefix
    if client is None and not good.candidates:
        raise NotVerifiedError(needs("a client certificate", f"--etcd-{side}cert", f"--etcd-{side}key"))
    if client is None:
        raise NotVerifiedError(needs("an accepted client", ending=", and no good identity is accepted here"))
    return PresentedClient(client, connections.identity)


def _candidate(
    here: Listener, target: Target, identity: Identity, cases: Access, *, issued: bool = False
) -> Candidate:
    return Candidate(
        identity=identity.name,
        origin=identity.origin,
        issued=issued or identity.name == ISSUED,
        has_names=has_names(identity),
        cases=cases,
        san_rule=san_rule_of(here, target, identity, cases),
        revocation=revocation_of(here, target, identity),
        chain=identity.chain,
    )


def san_rule_of(here: Listener, target: Target, identity: Identity, cases: Access) -> SANRule:
    """Return whether etcd's SAN rule explains that connections of an identity were closed."""
    declared = target.declared.get(here.member)
    if here.role not in SAN_RULE_ROLES or not identity.chain:
        return SANRule.ACCEPTS
    if declared and effective_of(declared, target.etcd_version).sides[here.role.side].skips_san_rule:
        return SANRule.ACCEPTS
    leaf, closed = identity.chain[0], cases.ended(Ending.CLOSED).attempts
    if closed and has_names(identity) and revocation_of(here, target, identity) is Revocation.NO_LIST:
        return SANRule.CLOSES  # nothing else closes a connection without an alert, whatever address etcd sees
    # What forwards a connection (a published port of a container, a tunnel, a load balancer) connects from an
    # address of its own.
    forwarded = target.origin == "container" or (target.live and here.is_forwarded)
    rules = {san_rule(leaf, "" if forwarded else local_host(attempt)) for attempt in closed}
    # One close that the rule does not explain has another cause, and so may the rest.
    order = (SANRule.ACCEPTS, SANRule.MAY_CLOSE, SANRule.CLOSES)
    return next((rule for rule in order if rule in rules), SANRule.ACCEPTS)


def served_protocols(listener: Listener, good: AcceptedClient) -> tuple[Protocol, ...]:
    """Return the protocols that are tested on the listener: those in which a good client was answered.

    Without an accepted client these are all protocols of the listener's role.
    """
    return good.accepted.served_protocols if good.accepted else PROTOCOLS[listener.role]


def _counterpart_cost(planned: Planned) -> int:
    listener = planned.listener
    if listener is None or listener.scheme == "http":
        return 0
    if planned.target.credentials(listener.role).signing_key is None:
        return 0
    return 2 * len(TLSVersion) * len(PROTOCOLS[listener.role])


@fact(connections=_counterpart_cost)
def valid_counterpart(
    here: Listener, target: Target, key: str, issued: IssuedIdentities, good: AcceptedClient, wire: Wire
) -> Candidate:
    """Try the valid counterpart of issued identities, unless it was tried as a good identity."""
    identity = issued.issued[key]
    for tried in good.candidates:
        if tried.identity == identity.name:
            return tried
    protocols = served_protocols(here, good)
    trial = Trial(wire, here, identity, f"valid counterpart {identity.name}", good=True)
    cases = trial.cases(good.versions, protocols)
    cases = trial.again(cases, cases.ended(Ending.CLOSED))
    return _candidate(here, target, identity, cases, issued=True)


def status_request(
    listener: Listener, identity: Identity, version: TLSVersion | None, protocol: Protocol, purpose: str
) -> Request:
    """Return a request that every etcd answers for every client that TLS accepts."""
    paths = {Protocol.GATEWAY: GATEWAY_STATUS_PATH, Protocol.GRPC: GRPC_STATUS_PATH}
    path = paths.get(protocol, version_path(listener.role))
    return Request(purpose=purpose, identity=identity, version=version, protocol=protocol, path=path)


def has_names(identity: Identity) -> bool:
    """Whether the certificate has names that etcd's SAN rule compares."""
    return bool(identity.chain) and san_rule(identity.chain[0], "") is not SANRule.ACCEPTS


class Trial(Struct, frozen=True):
    """An identity that is presented to a listener; a slot keeps the session of a connection."""

    wire: Wire
    here: Listener
    identity: Identity
    purpose: str
    good: bool = False
    slots: Mapping[Combination, SessionSlot] = MappingProxyType({})

    def tries(self, combinations: Sequence[Combination]) -> dict[Combination, tuple[Attempt, ...]]:
        """Make the tries of each version and protocol, on connections of their own."""
        requests = [
            dataclasses.replace(
                status_request(self.here, self.identity, *combination, self.purpose),
                keep=self.slots.get(combination),
            )
            for combination in combinations
        ]
        return dict(zip(combinations, self.wire.attempt(*requests) if requests else (), strict=True))

    def cases(
        self,
        versions: Sequence[TLSVersion],
        protocols: Sequence[Protocol],
        known: Mapping[Combination, tuple[Attempt, ...]] = MappingProxyType({}),
    ) -> Access:
        """Return the case of each version and protocol; make the tries that are not known."""
        combinations = list(itertools.product(versions, protocols))
        tries = {**known, **self.tries([pair for pair in combinations if pair not in known])}
        chain = self.identity.chain
        return Access(
            Case(
                tries=tries[version, protocol],
                version=version,
                protocol=protocol,
                fingerprint=fingerprint(chain[0]) if chain else "",
                good=self.good,
            )
            for version, protocol in combinations
        )

    def again(self, cases: Access, closed: Access) -> Access:
        """Repeat the tries where a close was seen, since an etcd that is stopping closes everything."""
        repeated = replace(self, purpose=f"{self.purpose}, again after a close", slots={})
        tries = repeated.tries([case.combination for case in closed])
        return Access(replace(case, tries=case.tries + tries.get(case.combination, ())) for case in cases)
