"""Which identity is meant by a name on a listener: made, minted, revoked, or taken from another port.

Presents none. What it returns holds keys and therefore never is an observation of a report (those live in
``pytest_etcdtls.observations``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cryptography import x509

from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError
from pytest_etcdtls.observations.chain import ServedChain
from pytest_etcdtls.observations.listener import Answer
from pytest_etcdtls.pki import identities
from pytest_etcdtls.pki.identity import NO_CERTIFICATE, Identity
from pytest_etcdtls.pki.reading import purposes
from pytest_etcdtls.probes.contact import listener_of, tls_answer
from pytest_etcdtls.probes.credentials import Workshop
from pytest_etcdtls.probes.registry import Context, probe
from pytest_etcdtls.target import PortCredentials, Role


@dataclass(frozen=True, slots=True)
class Presentable:
    """An identity ready to be presented; holds a key.

    Attributes:
        twin: name of the good identity that differs in the one point only, ``None`` for those without.
    """

    identity: Identity
    twin: str | None = None


@probe(Presentable, cost=0, needs=[(Answer, None), (Workshop, None), (ServedChain, None)])
def _presentable(context: Context, key: str | None) -> Presentable:
    name = str(key)
    if name in _MADE:
        return Presentable(_MADE[name](context))
    _needs_rule(context, name)
    minted = context.get(Workshop).minted
    return Presentable(minted[name], identities.TWINS.get(name))


def _revoked(context: Context) -> Identity:
    revoked = context.target.credentials(listener_of(context).role).revoked
    if revoked is not None:
        return revoked
    if context.target.origin != "live":
        raise NotApplicableError("this cluster was started without a CRL")
    if not _revokes(context):
        raise NotApplicableError("no revocation list is declared here")
    raise NotVerifiedError(
        "needs a certificate that the CRL in force revokes, which only an owned cluster has"
    )


def _revokes(context: Context) -> bool:
    """Return whether a revocation list may be in force; what was declared is taken at its word."""
    listener = listener_of(context)
    told = context.target.declared.get(listener.member)
    side = "peer" if listener.role is Role.PEER else "client"
    return told is None or told.declaration.text(f"{side}-crl-file") is not None


def _needs_rule(context: Context, name: str) -> None:
    """Refuse an identity with a wrong name where no rule says which is right.

    Raises:
        NotApplicableError: if so.
    """
    credentials = context.target.credentials(listener_of(context).role)
    rules = {"wrong-cn": credentials.allowed_cn, "wrong-hostname": credentials.allowed_hostname}
    if not rules.get(name, (name,)):
        what = "common name" if name == "wrong-cn" else "hostname"
        raise NotApplicableError(f"no rule about the {what} of a certificate is known to be declared here")


def _client_certificate(context: Context) -> Identity:
    identities_of_clients = context.target.client.identities
    if not identities_of_clients:
        raise NotVerifiedError("needs a client certificate: pass --etcd-cert and --etcd-key")
    return identities_of_clients[0]


def _peer_certificate(context: Context) -> Identity:
    """Return a certificate that is none of the clients': a member's own before that of who only asks it."""
    clients = {identity.chain[0] for identity in context.target.client.identities if identity.chain}
    own = [
        identity
        for identity in context.target.peer.identities
        if identity.chain and identity.chain[0] not in clients
    ]
    if not own:
        raise NotVerifiedError(
            "needs a certificate of the peers' own: pass --etcd-peer-cert and --etcd-peer-key"
        )
    return next((identity for identity in own if _is_for_servers(identity)), own[0])


def _is_for_servers(identity: Identity) -> bool:
    return "serverAuth" in (purposes(identity.chain[0]) or ())


def _server_certificate(context: Context) -> Identity:
    leaf = context.get(ServedChain).leaf
    for identity in (*context.target.client.served, *context.target.peer.served):
        if identity.chain and identity.chain[0] == leaf:
            return identity
    raise NotVerifiedError("needs the key of the served certificate, which only an owned cluster gives")


def _lookalike(context: Context) -> Identity:
    credentials: PortCredentials = context.target.credentials(listener_of(context).role)
    announced = {der: None for attempt in tls_answer(context).tls for der in attempt.announced_ca}
    trusted = credentials.client_trust.certificates if credentials.client_trust else ()
    names = [x509.Name.from_bytes(der) for der in announced]
    return identities.lookalike_ca(tuple(names), trusted)


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
