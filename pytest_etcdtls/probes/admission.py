"""Who is let in: good identities until one is accepted, bad ones with their controls.

Every bad identity is tried in each TLS version and protocol that the listener speaks.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509

from pytest_etcdtls.observations.admission import Acceptance, Admission, Candidate, Cell, Control
from pytest_etcdtls.observations.attempt import Attempt, Protocol, TLSVersion, Way
from pytest_etcdtls.observations.listener import Answer
from pytest_etcdtls.pki.identity import Identity
from pytest_etcdtls.probes.contact import listener_of, tls_answer, version_path
from pytest_etcdtls.probes.credentials import MINTED, GoodIdentities, Workshop
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
    if not identity.chain:
        return False
    try:
        identity.chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return False
    return True


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
    needs=[(Acceptance, None), (Presentable, None), (Candidate, None)],
)
def _admission(context: Context, key: str | None) -> Admission:
    listener = listener_of(context)
    acceptance = context.get(Acceptance)
    presentable = context.get(Presentable, key)
    identity = presentable.identity
    reference = context.get(Candidate, presentable.twin) if presentable.twin else acceptance.reference
    purpose = f"identity {key}" if key in OTHER_ROLES else f"bad identity {identity.name}"
    tries = _grid(context, identity, acceptance.versions, _speeches(key, spoken(context)), purpose)
    controls = _controls(context, identity, tries, reference, twin=presentable.twin is not None)
    return Admission(
        url=listener.url,
        role=listener.role,
        identity=identity.name,
        has_names=has_names(identity),
        certificate=_describe(identity),
        recipe=identity.recipe,
        files=_files(identity),
        cells=tuple(Cell(version=v, protocol=p, tries=made, control=controls[v, p]) for v, p, made in tries),
    )


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


def _describe(identity: Identity) -> str:
    if not identity.chain:
        return ""
    leaf = identity.chain[0]
    return f"subject {leaf.subject.rfc4514_string() or '(empty)'}, issuer {leaf.issuer.rfc4514_string()}"
