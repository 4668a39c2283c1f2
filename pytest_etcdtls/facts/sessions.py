"""TLS sessions: tickets, resumption, renegotiation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError
from pytest_etcdtls.facts.access import (
    PROTOCOLS,
    AcceptedConnections,
    AccessMatrix,
    Candidate,
    ClientIdentity,
    ServedClient,
    status_request,
)
from pytest_etcdtls.facts.api import accepted_client
from pytest_etcdtls.facts.listener import listener_of, tls_answer
from pytest_etcdtls.facts.probe import SAMPLE_FILES, Context, SampleListener, observed, probe, sample
from pytest_etcdtls.facts.protocol import PlainHello
from pytest_etcdtls.pki.profile import NO_CERTIFICATE, Identity
from pytest_etcdtls.role import Protocol, Role, TLSVersion
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import (
    Attempt,
    Ending,
    ForeignSession,
    Renegotiation,
    Resumed,
    Resumption,
    SessionSlot,
    SessionTickets,
    StreamEnd,
    Ticket,
)

_OTHER_PORT = {Role.CLIENT: Role.PEER, Role.PEER: Role.CLIENT}


@dataclass(frozen=True, slots=True)
class KeptSessions:
    """An identity's sessions on a listener, by TLS version; they hold secrets."""

    identity: Identity
    files: tuple[str, str] | None
    protocol: Protocol
    sessions: Mapping[TLSVersion, tuple[Attempt, SessionSlot]]


def _keep(
    context: Context, identity: Identity, protocol: Protocol
) -> dict[TLSVersion, tuple[Attempt, SessionSlot]]:
    versions = tls_answer(context).offered
    slots = [SessionSlot() for _ in versions]
    purpose = f"session of {identity.name}"
    requests = [
        replace(status_request(listener_of(context), identity, version, protocol, purpose), keep=slot)
        for version, slot in zip(versions, slots, strict=True)
    ]
    made = context.attempt(*requests)
    return {v: (tries[-1], slot) for v, tries, slot in zip(versions, made, slots, strict=True)}


@probe(KeptSessions, reported=False, cost=len(TLSVersion), needs=[ServedClient, AcceptedConnections])
def _kept(context: Context) -> KeptSessions:
    accepted, identity = accepted_client(context)
    protocol = accepted.served_protocols[0]
    sessions = _of_accepted(context, accepted, protocol) or _keep(context, identity, protocol)
    return KeptSessions(identity, accepted.files, protocol, sessions)


def _of_accepted(
    context: Context, accepted: Candidate, protocol: Protocol
) -> dict[TLSVersion, tuple[Attempt, SessionSlot]]:
    """Return the sessions of the attempts by which the client was accepted, none if one was not served."""
    found = {}
    for version in tls_answer(context).offered:
        slot = context.get(AcceptedConnections).sessions.get((version, protocol))
        made = accepted.attempt(version, protocol)
        if slot is None or slot.session is None or [one.ending for one in made] != [Ending.SERVED]:
            return {}
        found[version] = (made[0], slot)
    return found


@probe(SessionTickets, cost=0, needs=[KeptSessions])
def _tickets(context: Context) -> SessionTickets:
    listener = listener_of(context)
    if TLSVersion.TLS1_3 not in tls_answer(context).offered:
        raise NotApplicableError(f"{listener.url} does not offer TLS 1.3, and TLS 1.2 has no early data")
    kept = context.get(KeptSessions)
    attempt, slot = kept.sessions[TLSVersion.TLS1_3]
    if attempt.ending is not Ending.SERVED:
        raise NotVerifiedError(f"the accepted client is not served in TLS 1.3: {attempt.describe()}")
    return SessionTickets(url=listener.url, role=listener.role, files=kept.files, tickets=slot.tickets)


def _offer_again(
    context: Context,
    identity: Identity,
    protocol: Protocol,
    sessions: Mapping[TLSVersion, tuple[Attempt, SessionSlot]],
) -> tuple[Resumed, ...]:
    """Connect again as the same client and offer its session."""
    listener = listener_of(context)
    versions = [version for version, (_, slot) in sessions.items() if slot.session is not None]
    purpose = f"session of {identity.name}, again"
    requests = [
        replace(status_request(listener, identity, version, protocol, purpose), resume=sessions[version][1])
        for version in versions
    ]
    again = dict(zip(versions, (tries[-1] for tries in context.attempt(*requests)), strict=True))
    return tuple(
        Resumed(version=version, identity=identity.name, fresh=fresh, again=again.get(version))
        for version, (fresh, _) in sessions.items()
    )


@probe(Resumption, cost=3 * len(TLSVersion), needs=[KeptSessions, (ClientIdentity, "revoked")])
def _resumption(context: Context) -> Resumption:
    listener = listener_of(context)
    kept = context.get(KeptSessions)
    client = observed(context, ClientIdentity, "revoked")
    revoked = client.identity if client else None
    return Resumption(
        url=listener.url,
        role=listener.role,
        files=kept.files,
        good=_offer_again(context, kept.identity, kept.protocol, kept.sessions),
        revoked=()
        if revoked is None
        else _offer_again(context, revoked, kept.protocol, _keep(context, revoked, kept.protocol)),
    )


@probe(ForeignSession, cost=len(TLSVersion), needs=[KeptSessions, (AccessMatrix, "none")], across=True)
def _foreign(context: Context) -> ForeignSession:
    listener = listener_of(context)
    offered = tls_answer(context).offered
    other = _other_port(context.target, listener)
    if any(case.attempt.ending is Ending.SERVED for case in context.get(AccessMatrix, "none").cases):
        raise NotApplicableError("a client without a certificate is accepted, see mtls.no-certificate")
    kept = context.get(KeptSessions, listener=other)
    got = {
        version: (attempt, slot)
        for version, (attempt, slot) in kept.sessions.items()
        if version in offered and attempt.ending is Ending.SERVED and slot.session is not None
    }
    if not got:
        raise NotApplicableError(f"{other.url} issues no session in a TLS version that {listener.url} offers")
    protocol, purpose = PROTOCOLS[listener.role][0], f"session of {other.url}, no certificate"
    requests = [
        replace(status_request(listener, NO_CERTIFICATE, version, protocol, purpose), resume=slot)
        for version, (_, slot) in got.items()
    ]
    made = [tries[-1] for tries in context.attempt(*requests)]
    return ForeignSession(
        url=listener.url,
        role=listener.role,
        other=other.url,
        files=kept.files,
        presented=tuple(
            (version, fresh, again) for (version, (fresh, _)), again in zip(got.items(), made, strict=True)
        ),
    )


def _other_port(target: Target, listener: Listener) -> Listener:
    role = _OTHER_PORT[listener.role]
    found = target.siblings(listener, role)
    if not found:
        raise NotVerifiedError(f"needs the {role} listener of the same member: pass {role.option}")
    secure = [other for other in found if other.scheme == "https"]
    if not secure:
        raise NotApplicableError(f"the {role} listener of the same member has no TLS")
    return secure[0]


_RENEGOTIATION_INFO = 0xFF01
"""The extension ``renegotiation_info`` (RFC 5746 section 3.2)."""


@probe(Renegotiation, cost=1, needs=[(PlainHello, str(TLSVersion.TLS1_2)), ServedClient])
def _renegotiation(context: Context) -> Renegotiation:
    listener = listener_of(context)
    if TLSVersion.TLS1_2 not in tls_answer(context).offered:
        raise NotApplicableError(f"{listener.url} does not offer TLS 1.2, and TLS 1.3 has no renegotiation")
    hello = context.get(PlainHello, str(TLSVersion.TLS1_2)).exchange.server_hello
    seen = Renegotiation(
        url=listener.url,
        role=listener.role,
        announced=hello is not None and _RENEGOTIATION_INFO in hello.extensions,
    )
    try:
        accepted, identity = accepted_client(context)
    except NotVerifiedError as missing:
        return replace(seen, not_requested=missing.reason)
    request = status_request(
        listener,
        identity,
        TLSVersion.TLS1_2,
        accepted.served_protocols[0],
        f"renegotiation by {identity.name}",
    )
    attempt = context.attempt(replace(request, renegotiate=True))[0][-1]
    return replace(seen, files=accepted.files, attempt=attempt)


@sample(SessionTickets)
def _sample_tickets(listener: SampleListener) -> SessionTickets:
    ticket = Ticket(lifetime=604800, max_early_data=0)
    return SessionTickets(url=listener.url, role=listener.role, files=SAMPLE_FILES, tickets=(ticket,))


@sample(Resumption)
def _sample_resumption(listener: SampleListener) -> Resumption:
    def resumed(
        version: TLSVersion,
        identity: str,
        **changes: Any,  # noqa: ANN401 - fields of Attempt
    ) -> Resumed:
        attempt = listener.attempt(offered_version=version, identity=identity, **changes)
        return Resumed(version=version, identity=identity, fresh=attempt, again=attempt)

    closed = {
        "ending": Ending.CLOSED,
        "stream_end": StreamEnd.CLOSE_NOTIFY,
        "first_bytes": b"",
        "response": None,
    }
    return Resumption(
        url=listener.url,
        role=listener.role,
        files=SAMPLE_FILES,
        good=tuple(resumed(version, "client") for version in TLSVersion),
        revoked=tuple(resumed(version, "revoked", **closed) for version in TLSVersion),
    )


@sample(ForeignSession)
def _sample_foreign(listener: SampleListener) -> ForeignSession:
    return ForeignSession(
        url=listener.url,
        role=listener.role,
        other="https://127.0.0.1:2381",
        files=SAMPLE_FILES,
        presented=tuple(
            (
                version,
                listener.attempt(offered_version=version),
                listener.refused(offered_version=version, identity="none"),
            )
            for version in TLSVersion
        ),
    )


@sample(Renegotiation)
def _sample_renegotiation(listener: SampleListener) -> Renegotiation:
    attempt = listener.attempt(
        offered_version=TLSVersion.TLS1_2,
        version="TLSv1.2",
        ending=Ending.OTHER,
        alert=10,
        response=None,
        first_bytes=b"",
    )
    return Renegotiation(
        url=listener.url, role=listener.role, announced=True, files=SAMPLE_FILES, attempt=attempt
    )
