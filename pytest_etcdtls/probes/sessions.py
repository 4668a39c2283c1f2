"""TLS sessions of the accepted client: kept, read, and offered again, here and on the member's other port."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError, UnobservedError
from pytest_etcdtls.observations.admission import Admission, ServedClient
from pytest_etcdtls.observations.attempt import Attempt, Protocol, TLSVersion, Way
from pytest_etcdtls.observations.session import ForeignSession, Resumed, Resumption, SessionTickets
from pytest_etcdtls.pki.identity import NO_CERTIFICATE, Identity
from pytest_etcdtls.probes.admission import SPEECHES, status_request
from pytest_etcdtls.probes.api import accepted_client
from pytest_etcdtls.probes.contact import listener_of, tls_answer
from pytest_etcdtls.probes.presentable import Presentable
from pytest_etcdtls.probes.registry import Context, probe
from pytest_etcdtls.probes.session import SessionSlot
from pytest_etcdtls.target import Listener, Role

_OTHER_PORT = {Role.CLIENT: Role.PEER, Role.PEER: Role.CLIENT}


@dataclass(frozen=True, slots=True)
class Kept:
    """An identity's sessions on a listener, by TLS version; they hold secrets."""

    identity: Identity
    files: tuple[str, str] | None
    speech: Protocol
    sessions: Mapping[TLSVersion, tuple[Attempt, SessionSlot]]


def _keep(
    context: Context, identity: Identity, speech: Protocol
) -> dict[TLSVersion, tuple[Attempt, SessionSlot]]:
    versions = tls_answer(context).offered
    slots = [SessionSlot() for _ in versions]
    purpose = f"session of {identity.name}"
    requests = [
        replace(status_request(listener_of(context), identity, version, speech, purpose), keep=slot)
        for version, slot in zip(versions, slots, strict=True)
    ]
    made = context.attempt(*requests)
    return {v: (tries[-1], slot) for v, tries, slot in zip(versions, made, slots, strict=True)}


@probe(Kept, cost=len(TLSVersion), needs=[(ServedClient, None)])
def _kept(context: Context, key: str | None) -> Kept:
    accepted, identity = accepted_client(context)
    speech = accepted.spoken[0]
    return Kept(identity, accepted.files, speech, _keep(context, identity, speech))


@probe(SessionTickets, cost=0, needs=[(Kept, None)])
def _tickets(context: Context, key: str | None) -> SessionTickets:
    listener = listener_of(context)
    if TLSVersion.TLS1_3 not in tls_answer(context).offered:
        raise NotApplicableError(
            f"{listener.url} does not offer TLS 1.3, and before it there is no early data"
        )
    kept = context.get(Kept)
    attempt, slot = kept.sessions[TLSVersion.TLS1_3]
    if attempt.way is not Way.SERVED:
        raise NotVerifiedError(f"the accepted client is not served in TLS 1.3: {attempt.describe()}")
    return SessionTickets(url=listener.url, role=listener.role, files=kept.files, tickets=slot.tickets)


def _offer_again(
    context: Context,
    identity: Identity,
    speech: Protocol,
    sessions: Mapping[TLSVersion, tuple[Attempt, SessionSlot]],
) -> tuple[Resumed, ...]:
    """Connect once more as the same client, with its session."""
    listener = listener_of(context)
    versions = [version for version, (_, slot) in sessions.items() if slot.session is not None]
    purpose = f"session of {identity.name}, again"
    requests = [
        replace(status_request(listener, identity, version, speech, purpose), resume=sessions[version][1])
        for version in versions
    ]
    again = dict(zip(versions, (tries[-1] for tries in context.attempt(*requests)), strict=True))
    return tuple(
        Resumed(version=version, identity=identity.name, fresh=fresh, again=again.get(version))
        for version, (fresh, _) in sessions.items()
    )


def _revoked(context: Context) -> Identity | None:
    try:
        return context.get(Presentable, "revoked").identity
    except UnobservedError:
        return None


@probe(Resumption, cost=3 * len(TLSVersion), needs=[(Kept, None), (Presentable, None)])
def _resumption(context: Context, key: str | None) -> Resumption:
    listener = listener_of(context)
    kept = context.get(Kept)
    revoked = _revoked(context)
    return Resumption(
        url=listener.url,
        role=listener.role,
        files=kept.files,
        good=_offer_again(context, kept.identity, kept.speech, kept.sessions),
        revoked=()
        if revoked is None
        else _offer_again(context, revoked, kept.speech, _keep(context, revoked, kept.speech)),
    )


@probe(ForeignSession, cost=len(TLSVersion), needs=[(Kept, None), (Admission, "none")], across=True)
def _foreign(context: Context, key: str | None) -> ForeignSession:
    listener = listener_of(context)
    offered = tls_answer(context).offered
    other = _other_port(context.target.listeners, listener)
    if any(cell.attempt.way is Way.SERVED for cell in context.get(Admission, "none").cells):
        raise NotApplicableError("a client without a certificate is let in, see mtls.no-certificate")
    kept = context.get(Kept, listener=other)
    got = {
        version: (attempt, slot)
        for version, (attempt, slot) in kept.sessions.items()
        if version in offered and attempt.way is Way.SERVED and slot.session is not None
    }
    if not got:
        raise NotApplicableError(
            f"{other.url} gives out no session in a TLS version that {listener.url} offers"
        )
    speech, purpose = SPEECHES[listener.role][0], f"session of {other.url}, no certificate"
    requests = [
        replace(status_request(listener, NO_CERTIFICATE, version, speech, purpose), resume=slot)
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


def _other_port(listeners: Sequence[Listener], listener: Listener) -> Listener:
    role = _OTHER_PORT[listener.role]
    found = [other for other in listeners if other.role is role and other.member == listener.member]
    if not found:
        raise NotVerifiedError(f"needs the {role} listener of the same member: pass {role.option}")
    secure = [other for other in found if other.scheme == "https"]
    if not secure:
        raise NotApplicableError(f"the {role} listener of the same member has no TLS")
    return secure[0]
