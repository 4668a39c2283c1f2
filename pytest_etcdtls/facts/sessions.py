"""TLS sessions: tickets, resumption, and renegotiation.

A resumed handshake sends no certificate. The server knows the client by the ticket alone, which only its own
keys open. Go verifies the client's chain in the ticket again (``checkForResumption`` in crypto/tls,
handshake_server.go and handshake_server_tls13.go). etcd judges revocation list and SANs after every handshake
(``acceptLoop`` in client/pkg/transport/listener_tls.go), a resumed one too, and each of its listeners has a
``tls.Config`` of its own, so ticket keys of its own.

So three offers are made. The accepted client offers its session where it got it, and so does a revoked one.
Its session is offered without any certificate on the member's other port. The sessions are those of the
connections on which the client was accepted, where there are such, so that no connection is made for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Annotated

from msgspec import Struct, structs

from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError, Reason, needs
from pytest_etcdtls.facts.access import PROTOCOLS, AcceptedConnections, PresentedClient, status_request
from pytest_etcdtls.facts.access_matrix import AccessMatrix
from pytest_etcdtls.facts.bad_identities import ClientIdentity
from pytest_etcdtls.facts.fact import Each, Lazy, Wire, fact
from pytest_etcdtls.facts.listener import TLSContact, versions_of
from pytest_etcdtls.facts.protocol import PlainHello
from pytest_etcdtls.pki.profile import NO_CERTIFICATE, Identity
from pytest_etcdtls.role import Protocol, Role, TLSVersion
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import Attempt, Ending, SessionSlot, Ticket

Sessions = Mapping[TLSVersion, tuple[Attempt, SessionSlot]]
"""The sessions of a client by TLS version, each with the attempt in which the server issued it."""


class KeptSessions(Struct, frozen=True):
    """The sessions of the accepted client on a listener; they hold secrets."""

    identity: Identity
    protocol: Protocol
    sessions: Sessions


class SessionTickets(Struct, frozen=True, kw_only=True):
    """The tickets that the accepted client got on one TLS 1.3 connection.

    Attributes:
        tickets: in the order in which they were sent, empty if none was.
    """

    tickets: tuple[Ticket, ...]


class Resumed(Struct, frozen=True, kw_only=True):
    """One identity on a new connection, and then with the session that it got there.

    Attributes:
        fresh: the attempt with a full handshake, which got the session.
        again: the last attempt that offered the session; ``None`` if none was got.
    """

    version: TLSVersion
    identity: str
    fresh: Attempt
    again: Attempt | None


class Resumption(Struct, frozen=True, kw_only=True):
    """Resumption of sessions on the listener that issued them.

    Attributes:
        good: the accepted client, by TLS version.
        revoked: an identity that TLS accepts and etcd then closes, where one is known.
    """

    good: tuple[Resumed, ...]
    revoked: tuple[Resumed, ...] = ()


class ForeignSession(Struct, frozen=True, kw_only=True):
    """A session of the member's other port, presented without any certificate.

    Attributes:
        other: the listener that issued it.
        presented: TLS version, the attempt that got it, the attempt that presented it.
    """

    other: str
    presented: tuple[tuple[TLSVersion, Attempt, Attempt], ...]


class Renegotiation(Struct, frozen=True, kw_only=True):
    """Whether the listener makes a second handshake on a connection (TLS 1.2).

    Attributes:
        announced: its ServerHello announces secure renegotiation (RFC 5746).
        attempt: the connection on which it was requested; ``None`` if it could not be.
        not_requested: why it could not be requested.
    """

    announced: bool
    attempt: Attempt | None = None
    not_requested: Reason | str = ""


@fact(connections=len(TLSVersion), reported=False)
def kept_sessions(
    here: Listener,
    presented: PresentedClient,
    contact: TLSContact,
    connections: AcceptedConnections,
    wire: Wire,
) -> KeptSessions:
    """Take the sessions by which the client was accepted, or connect for them if one is missing."""
    client, identity, versions = presented.candidate, presented.identity, versions_of(contact)
    protocol = client.served_protocols[0]
    sessions: dict[TLSVersion, tuple[Attempt, SessionSlot]] = {}
    for version in versions:
        slot, tries = connections.sessions.get((version, protocol)), client.tries_in(version, protocol)
        if slot is None or slot.session is None or [attempt.ending for attempt in tries] != [Ending.SERVED]:
            break
        sessions[version] = (tries[0], slot)
    if len(sessions) < len(versions):
        sessions = _new_sessions(here, identity, versions, protocol, wire)
    return KeptSessions(identity, protocol, sessions)


def _new_sessions(
    here: Listener, identity: Identity, versions: Iterable[TLSVersion], protocol: Protocol, wire: Wire
) -> dict[TLSVersion, tuple[Attempt, SessionSlot]]:
    """Connect in each version and keep the sessions."""
    slots = {version: SessionSlot() for version in versions}
    purpose = f"session of {identity.name}"
    requests = [
        replace(status_request(here, identity, version, protocol, purpose), keep=slot)
        for version, slot in slots.items()
    ]
    made = zip(slots.items(), wire.attempt(*requests), strict=True)
    return {version: (tries[-1], slot) for (version, slot), tries in made}


@fact
def session_tickets(here: Listener, contact: TLSContact, kept: Lazy[KeptSessions]) -> SessionTickets:
    """Return the tickets of the accepted client's session in TLS 1.3."""
    if TLSVersion.TLS1_3 not in contact.offered:
        raise NotApplicableError(f"{here.url} does not offer TLS 1.3, and TLS 1.2 has no early data")
    attempt, slot = kept.get().sessions[TLSVersion.TLS1_3]
    if attempt.ending is not Ending.SERVED:
        raise NotVerifiedError(f"the accepted client is not served in TLS 1.3: {attempt.describe()}")
    return SessionTickets(tickets=slot.tickets)


@fact(connections=3 * len(TLSVersion))
def resumption(
    here: Listener,
    kept: KeptSessions,
    revoked: Annotated[ClientIdentity, "revoked"] | None,
    wire: Wire,
) -> Resumption:
    """Offer the sessions of the accepted client and of a revoked one again."""
    good = _offer_again(here, kept.identity, kept.protocol, kept.sessions, wire)
    refused: tuple[Resumed, ...] = ()
    if revoked is not None:
        sessions = _new_sessions(here, revoked.identity, kept.sessions, kept.protocol, wire)
        refused = _offer_again(here, revoked.identity, kept.protocol, sessions, wire)
    return Resumption(good=good, revoked=refused)


def _offer_again(
    here: Listener, identity: Identity, protocol: Protocol, sessions: Sessions, wire: Wire
) -> tuple[Resumed, ...]:
    """Connect again as the same client and offer its session."""
    versions = [version for version, (_, slot) in sessions.items() if slot.session is not None]
    purpose = f"session of {identity.name}, again"
    requests = [
        replace(status_request(here, identity, version, protocol, purpose), resume=sessions[version][1])
        for version in versions
    ]
    again = dict(zip(versions, (tries[-1] for tries in wire.attempt(*requests)), strict=True))
    return tuple(
        Resumed(version=version, identity=identity.name, fresh=fresh, again=again.get(version))
        for version, (fresh, _) in sessions.items()
    )


@fact(connections=len(TLSVersion))
def foreign_session(
    here: Listener,
    target: Target,
    contact: TLSContact,
    unauthenticated: Lazy[Annotated[AccessMatrix, "none"]],
    kept: Each[KeptSessions],
    wire: Wire,
) -> ForeignSession:
    """Offer the sessions of the member's other port, without a certificate."""
    offered, other = versions_of(contact), _other_port(target, here)
    if unauthenticated.get().cases.accepted:
        raise NotApplicableError("a client without a certificate is accepted, see mtls.no-certificate")
    sessions = {
        version: (attempt, slot)
        for version, (attempt, slot) in kept.at(other).sessions.items()
        if version in offered and attempt.ending is Ending.SERVED and slot.session is not None
    }
    if not sessions:
        raise NotApplicableError(f"{other.url} issues no session in a TLS version that {here.url} offers")
    protocol, purpose = PROTOCOLS[here.role][0], f"session of {other.url}, no certificate"
    requests = [
        replace(status_request(here, NO_CERTIFICATE, version, protocol, purpose), resume=slot)
        for version, (_, slot) in sessions.items()
    ]
    again = [tries[-1] for tries in wire.attempt(*requests)]
    return ForeignSession(
        other=other.url,
        presented=tuple(
            (version, fresh, offer)
            for (version, (fresh, _)), offer in zip(sessions.items(), again, strict=True)
        ),
    )


def _other_port(target: Target, here: Listener) -> Listener:
    role = Role.CLIENT if here.role is Role.PEER else Role.PEER
    others = target.siblings(here, role)
    if not others:
        raise NotVerifiedError(needs(f"the {role} listener of the same member", role.option))
    secure = [other for other in others if other.scheme == "https"]
    if not secure:
        raise NotApplicableError(f"the {role} listener of the same member has no TLS")
    return secure[0]


_RENEGOTIATION_INFO = 0xFF01
"""The extension ``renegotiation_info`` (RFC 5746 section 3.2)."""


@fact(connections=1)
def renegotiation(
    here: Listener,
    contact: TLSContact,
    plain: Lazy[Annotated[PlainHello, TLSVersion.TLS1_2]],
    presented: Lazy[PresentedClient],
    wire: Wire,
) -> Renegotiation:
    """Ask for a second handshake as the accepted client: before the first one nobody can."""
    version = TLSVersion.TLS1_2
    if version not in contact.offered:
        raise NotApplicableError(f"{here.url} does not offer TLS 1.2, and TLS 1.3 has no renegotiation")
    if version in contact.unusable:
        raise NotVerifiedError(contact.limit)
    hello = plain.get().exchange.server_hello
    seen = Renegotiation(announced=hello is not None and _RENEGOTIATION_INFO in hello.extensions)
    try:
        client = presented.get()
    except NotVerifiedError as missing:
        return structs.replace(seen, not_requested=missing.why)
    protocol = client.candidate.served_protocols[0]
    tries = client.candidate.tries_in(version, protocol)
    if tries and tries[-1].ending is Ending.OTHER:
        return structs.replace(
            seen, not_requested=f"the client has no connection in TLS 1.2: {tries[-1].describe()}"
        )
    purpose = f"renegotiation by {client.identity.name}"
    request = status_request(here, client.identity, version, protocol, purpose)
    attempt = wire.attempt(replace(request, renegotiate=True))[0][-1]
    return structs.replace(seen, attempt=attempt)
