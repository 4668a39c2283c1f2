"""Who is let in: good identities until one is accepted, bad ones with their controls.

Every bad identity is tried in each TLS version and protocol that the listener speaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from cryptography import x509

from pytest_etcdtls.errors import NotVerifiedError, UnobservedError
from pytest_etcdtls.observations.admission import (
    Acceptance,
    Admission,
    Candidate,
    Cell,
    Control,
    ServedClient,
)
from pytest_etcdtls.observations.attempt import Attempt, Protocol, TLSVersion, Way
from pytest_etcdtls.observations.listener import Answer
from pytest_etcdtls.pki.identity import NO_CERTIFICATE, Identity
from pytest_etcdtls.pki.reading import extension
from pytest_etcdtls.probes.contact import listener_of, tls_answer, version_path
from pytest_etcdtls.probes.credentials import MINTED, GoodIdentities, Workshop, is_admitted
from pytest_etcdtls.probes.exchange import GATEWAY_STATUS_PATH, GRPC_STATUS_PATH
from pytest_etcdtls.probes.presentable import Presentable
from pytest_etcdtls.probes.registry import Context, Request, probe
from pytest_etcdtls.refusal import CLOSED_BY_ETCD
from pytest_etcdtls.target import Listener, Role, Target

SPEECHES: dict[Role, tuple[Protocol, ...]] = {
    Role.CLIENT: (Protocol.HTTP1, Protocol.GATEWAY, Protocol.GRPC),
    Role.PEER: (Protocol.HTTP1,),
    Role.METRICS: (Protocol.HTTP1,),
    Role.CLIENT_HTTP: (Protocol.HTTP1, Protocol.GATEWAY),
}
"""What is spoken on a listener of each role; the peer port has no HTTP/2 whatever its ALPN says."""

SAN_RULE_ROLES = frozenset({Role.PEER, Role.METRICS})
"""Where etcd compares a client certificate's SANs with the remote address (client/pkg/transport)."""

OTHER_ROLES = frozenset({"client-certificate", "peer-certificate", "server-certificate"})
"""Good identities, tried where they are not meant for."""

WITNESSES = ("none", "self-signed", "foreign-ca")
"""Bad identities that need nothing but the listener. Where one of them is served, no rule that is narrower
keeps anybody out: who is excluded by it presents this one instead."""

Tries = tuple[tuple[TLSVersion, Protocol, tuple[Attempt, ...]], ...]


def status_request(
    listener: Listener, identity: Identity, version: TLSVersion | None, speech: Protocol, purpose: str
) -> Request:
    """Return a request that every etcd answers to every client that TLS lets in."""
    paths = {Protocol.GATEWAY: GATEWAY_STATUS_PATH, Protocol.GRPC: GRPC_STATUS_PATH}
    path = paths.get(speech, version_path(listener.role))
    return Request(purpose=purpose, identity=identity, version=version, speech=speech, path=path)


def has_names(identity: Identity) -> bool:
    """Whether the certificate has a subjectAltName extension."""
    return bool(identity.chain) and extension(identity.chain[0], x509.SubjectAlternativeName) is not None


def _grid(
    context: Context,
    identity: Identity,
    versions: Sequence[TLSVersion],
    speeches: Sequence[Protocol],
    purpose: str,
) -> Tries:
    places = [(version, speech) for version in versions for speech in speeches]
    listener = listener_of(context)
    tries = context.attempt(*(status_request(listener, identity, *place, purpose) for place in places))
    return tuple((*place, made) for place, made in zip(places, tries, strict=True))


def _again(context: Context, identity: Identity, tries: Tries, purpose: str) -> Tries:
    """Repeat what was closed: a stopping etcd closes everybody."""
    listener = listener_of(context)
    closed = [(v, p) for v, p, made in tries if made[-1].way is Way.CLOSED]
    if not closed:
        return tries
    requests = [
        status_request(listener, identity, *place, f"{purpose}, again after a close") for place in closed
    ]
    made_again = dict(zip(closed, context.attempt(*requests), strict=True))
    return tuple((v, p, made + made_again.get((v, p), ())) for v, p, made in tries)


def _acceptance_cost(target: Target, listener: Listener | None, key: str | None) -> int:
    if listener is None or listener.scheme == "http":
        return 0
    credentials = target.credentials(listener.role)
    known = len(credentials.identities) + (credentials.signing_key is not None)
    # Each candidate but the accepted one may be repeated once.
    return known * 2 * len(TLSVersion) * len(SPEECHES[listener.role])


@probe(Acceptance, cost=_acceptance_cost, needs=[(Answer, None), (GoodIdentities, None)])
def _acceptance(context: Context, key: str | None) -> Acceptance:
    listener = listener_of(context)
    versions = tls_answer(context).offered
    candidates: list[Candidate] = []
    accepted: Candidate | None = None
    for identity in context.get(GoodIdentities).identities:
        purpose = f"good identity {identity.name}"
        tries = _grid(context, identity, versions, SPEECHES[listener.role], purpose)
        if not any(made[-1].response is not None for _, _, made in tries):
            tries = _again(context, identity, tries, purpose)
        candidates.append(
            Candidate(
                identity=identity.name,
                origin=identity.origin,
                minted=identity.name == MINTED,
                has_names=has_names(identity),
                files=_files(identity),
                tries=tries,
                excluded=not is_admitted(identity, context.target.credentials(listener.role)),
                chain=identity.chain,
            )
        )
        if candidates[-1].served:
            accepted = candidates[-1]
            break
    return Acceptance(
        url=listener.url,
        role=listener.role,
        candidates=tuple(candidates),
        accepted=accepted,
        san_rule=listener.role in SAN_RULE_ROLES,
        versions=versions,
    )


def _files(identity: Identity) -> tuple[str, str] | None:
    if not identity.chain:
        return None
    return (
        identity.certificate_file or f"{identity.name}.crt",
        identity.key_file or f"{identity.name}.key",
    )


def spoken(context: Context) -> tuple[Protocol, ...]:
    """Return the protocols that give verdicts on the listener: those in which a good client was answered.

    Without an accepted client nothing is known of that, and it is all that such a listener may speak.
    """
    accepted = context.get(Acceptance).accepted
    return accepted.spoken if accepted else SPEECHES[listener_of(context).role]


def _twin_cost(target: Target, listener: Listener | None, key: str | None) -> int:
    return 2 * len(TLSVersion) * len(SPEECHES[listener.role]) if listener else 0


@probe(Candidate, cost=_twin_cost, needs=[(Acceptance, None), (Workshop, None)])
def _twin(context: Context, key: str | None) -> Candidate:
    """Try the valid twin of minted identities; it is not tried again if it was the accepted identity."""
    identity = context.get(Workshop).minted[str(key)]
    acceptance = context.get(Acceptance)
    if acceptance.accepted is not None and acceptance.accepted.identity == identity.name:
        return acceptance.accepted
    purpose = f"valid twin {identity.name}"
    tries = _grid(context, identity, acceptance.versions, spoken(context), purpose)
    return Candidate(
        identity=identity.name,
        origin=identity.origin,
        minted=True,
        has_names=has_names(identity),
        files=_files(identity),
        tries=_again(context, identity, tries, purpose),
        chain=identity.chain,
    )


def _speeches(key: str | None, known: tuple[Protocol, ...]) -> tuple[Protocol, ...]:
    """Return what is spoken with an identity: one protocol is enough to tell whom a port is for."""
    return known[:1] if key in OTHER_ROLES else known


def _admission_cost(target: Target, listener: Listener | None, key: str | None) -> int:
    if listener is None or listener.scheme == "http":
        return 0
    # After a close that decides, the control is repeated.
    tries = 2 if key in CLOSED_BY_ETCD else 1
    return tries * len(TLSVersion) * len(_speeches(key, SPEECHES[listener.role]))


@probe(
    Admission,
    cost=_admission_cost,
    needs=[
        *((Acceptance, None), (Presentable, None), (Candidate, None)),
        *((Admission, name) for name in WITNESSES),
    ],
)
def _admission(context: Context, key: str | None) -> Admission:
    try:
        presentable = context.get(Presentable, key)
        admission = _presented(context, presentable, key)
        if presentable.held and not _decides(admission):
            raise NotVerifiedError(presentable.held)
    except NotVerifiedError as missing:
        found = served_instead(context, str(key))
        if found is None:
            raise NotVerifiedError(missing.reason) from missing
        return found
    return admission


def served_instead(context: Context, key: str) -> Admission | None:
    """Return what was seen of an identity that is served, and so decides about one that cannot be presented.

    Args:
        context: of the listener.
        key: name of the identity that cannot be presented.
    """
    if key == "revoked" and listener_of(context).member not in context.target.declared:
        return None  # whether there is a revocation list is not known
    for name in ("none",) if key in OTHER_ROLES else WITNESSES:
        with suppress(UnobservedError):
            seen = context.get(Admission, name)
            served = tuple(cell for cell in seen.cells if cell.attempt.way is Way.SERVED)
            if served:
                return replace(seen, cells=served, instead_of=key)
    return None


def _decides(admission: Admission) -> bool:
    """Return whether an identity that we happen to hold shows what becomes of all that are like it.

    It does if it is served, or refused by TLS where a good client is served; a close may be due to its names.
    """
    ways = {cell.attempt.way for cell in admission.cells}
    controls = {cell.control.attempt.way for cell in admission.cells if cell.control.attempt}
    return Way.SERVED in ways or (ways == {Way.REFUSED} and controls == {Way.SERVED})


def _presented(context: Context, presentable: Presentable, key: str | None) -> Admission:
    listener = listener_of(context)
    acceptance = context.get(Acceptance)
    identity = presentable.identity
    reference = context.get(Candidate, presentable.twin) if presentable.twin else acceptance.reference
    purpose = f"identity {key}" if key in OTHER_ROLES else f"bad identity {identity.name}"
    places = _speeches(key, spoken(context))
    tries = _known_tries(context, identity, places)
    if not tries:
        tries = _grid(context, identity, acceptance.versions, places, purpose)
    controls = _controls(context, identity, tries, reference, twin=presentable.twin is not None)
    return Admission(
        url=listener.url,
        role=listener.role,
        identity=identity.name,
        has_names=has_names(identity),
        certificate=describe(identity),
        recipe=identity.recipe,
        files=_files(identity),
        cells=tuple(Cell(version=v, protocol=p, tries=made, control=controls[v, p]) for v, p, made in tries),
    )


def _known_tries(context: Context, identity: Identity, protocols: Sequence[Protocol]) -> Tries:
    """Return what was seen when the identity was tried as a good one, empty if it was not."""
    good = {known.name: known for known in context.get(GoodIdentities).identities}
    if good.get(identity.name) is not identity:
        return ()
    tried = (one for one in context.get(Acceptance).candidates if one.identity == identity.name)
    return tuple(place for one in tried for place in one.tries if place[1] in protocols)


@probe(ServedClient, cost=0, needs=[(Acceptance, None), (Admission, "none")])
def _served_client(context: Context, key: str | None) -> ServedClient:
    acceptance = context.get(Acceptance)
    client = acceptance.accepted
    if client is None:
        stranger = context.get(Admission, "none")
        found = Candidate(
            identity=NO_CERTIFICATE.name,
            origin=NO_CERTIFICATE.origin,
            minted=False,
            has_names=False,
            files=None,
            tries=tuple((cell.version, cell.protocol, cell.tries) for cell in stranger.cells),
        )
        client = found if found.served else None
    return ServedClient(url=acceptance.url, role=acceptance.role, client=client)


def _controls(
    context: Context, identity: Identity, tries: Tries, reference: Candidate | None, *, twin: bool
) -> dict[tuple[TLSVersion, Protocol], Control]:
    if reference is None:
        return {(v, p): Control() for v, p, _ in tries}
    made = {(v, p): reference.attempt(v, p) for v, p, _ in tries}
    if identity.name in CLOSED_BY_ETCD:
        closed = [(v, p) for v, p, attempts in tries if attempts[-1].way is Way.CLOSED]
        control = _identity_of(context, reference)
        purpose = f"control {reference.identity}, again after a close"
        requests = [status_request(listener_of(context), control, *place, purpose) for place in closed]
        for place, again in zip(closed, context.attempt(*requests) if requests else [], strict=True):
            made[place] += again
    return {
        place: Control(identity=reference.identity, tries=attempts, twin=twin)
        for place, attempts in made.items()
    }


def _identity_of(context: Context, reference: Candidate) -> Identity:
    known = {identity.name: identity for identity in context.get(GoodIdentities).identities}
    return known.get(reference.identity) or context.get(Workshop).minted[reference.identity]


def describe(identity: Identity) -> str:
    """Return subject and issuer of its certificate in words, empty for ``none``."""
    if not identity.chain:
        return ""
    leaf = identity.chain[0]
    return f"subject {leaf.subject.rfc4514_string() or '(empty)'}, issuer {leaf.issuer.rfc4514_string()}"
