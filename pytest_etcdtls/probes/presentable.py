"""Which identity is meant by a name on a listener: made, minted, revoked, held, or taken from another port.

Presents none. What it returns holds keys and therefore never is an observation of a report (those live in
``pytest_etcdtls.observations``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from cryptography import x509

from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError
from pytest_etcdtls.observations.admission import Acceptance
from pytest_etcdtls.observations.chain import ServedChain
from pytest_etcdtls.observations.listener import Answer
from pytest_etcdtls.pki import identities
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.go_verify import Path
from pytest_etcdtls.pki.identity import NO_CERTIFICATE, Identity
from pytest_etcdtls.pki.path import find_path
from pytest_etcdtls.pki.reading import is_for, purposes, serial_number
from pytest_etcdtls.probes.contact import listener_of, tls_answer
from pytest_etcdtls.probes.credentials import GoodIdentities, Workshop, is_admitted
from pytest_etcdtls.probes.registry import Context, probe
from pytest_etcdtls.target import PortCredentials, Role


@dataclass(frozen=True, slots=True)
class Presentable:
    """An identity ready to be presented; holds a key.

    Attributes:
        twin: name of the good identity that differs in the one point only, ``None`` for those without.
        held: it was not made for this, but happens to be at hand: why no better one is, which is the reason
            if nothing is proved by it. Empty for all others.
    """

    identity: Identity
    twin: str | None = None
    held: str = ""


@probe(
    Presentable,
    cost=0,
    needs=[(Answer, None), (Workshop, None), (ServedChain, None), (Acceptance, None)],
)
def _presentable(context: Context, key: str | None) -> Presentable:
    name = str(key)
    if name in _MADE:
        return Presentable(_MADE[name](context))
    _needs_rule(context, name)
    try:
        minted = context.get(Workshop).minted
    except NotVerifiedError as missing:
        for identity in _held(context):
            if _is_excluded(context, identity, name):
                return Presentable(identity, held=missing.reason)
        raise
    return Presentable(minted[name], identities.TWINS.get(name))


def _held(context: Context) -> Iterator[Identity]:
    """Yield what we hold and a rule may exclude: who was accepted, then all whom the same CA would let in."""
    trust = context.target.credentials(listener_of(context).role).client_trust
    anchors = trust.certificates if trust else ()
    accepted = context.get(Acceptance).accepted
    if accepted is not None:
        known = {one.name: one for one in context.get(GoodIdentities).identities}
        good = known[accepted.identity]
        yield good
        path = _path(good, anchors)
        anchors = path[-1:] if path else ()
    yield from (one for one in _ours(context) if one.chain and _path(one, anchors))


def _path(identity: Identity, anchors: tuple[x509.Certificate, ...]) -> Path | None:
    return find_path(identity.chain[0], identity.chain[1:], anchors, datetime.now(UTC))


def _ours(context: Context) -> Iterator[Identity]:
    """Yield the key pairs that we hold, those for the port first."""
    role = listener_of(context).role
    first, second = context.target.credentials(role), context.target.client
    if role is not Role.PEER:
        second = context.target.peer
    for credentials in (first, second):
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
        "wrong-cn": not is_admitted(identity, replace(credentials, allowed_hostname=())),
        "wrong-hostname": not is_admitted(identity, replace(credentials, allowed_cn=())),
    }
    return broken.get(name, False) and not any(found for rule, found in broken.items() if rule != name)


def _revoked(context: Context) -> Identity:
    """Return a certificate that the list revokes: given, ours, or made with the CA's key and a listed serial.

    etcd compares serial numbers and nothing else.
    """
    listener = listener_of(context)
    credentials = context.target.credentials(listener.role)
    if credentials.revoked is not None:
        return credentials.revoked
    if context.target.origin != "live":
        raise NotApplicableError("this cluster was started without a CRL")
    told = context.target.declared.get(listener.member)
    if told is None:
        raise NotVerifiedError("whether a revocation list is in force is not known: pass --etcd-config")
    side = "peer" if listener.role is Role.PEER else "client"
    setting = told.declaration.settings.get(f"{side}-crl-file")
    if setting is None or not setting.value:
        raise NotApplicableError("no revocation list is declared here")
    crl = told.crls.get(setting.value)
    if crl is None or crl.found is None:
        raise NotVerifiedError(f"{setting} is not here: name a directory with a copy by --etcd-pki-dir")
    if not crl.serial_numbers:
        raise NotApplicableError(f"{crl.found} revokes nothing")
    for one in _held(context):
        if serial_number(one.chain[0]) in crl.serial_numbers:
            return replace(one, name="revoked")
    signing = credentials.signing_key
    if signing is None or signing.certificate.subject.rfc4514_string() != crl.issuer:
        option = "--etcd-peer-ca-key" if side == "peer" else "--etcd-ca-key"
        raise NotVerifiedError(
            f"needs a certificate that {crl.found} revokes: pass {option}, the key of {crl.issuer}"
        )
    return identities.revoked(
        CertificateAuthority.from_key(signing.certificate, signing.key),
        serial=min(crl.serial_numbers),
        ca_files=(signing.certificate_file or "ca.crt", signing.key_file or "ca.key"),
    )


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
    for identity in _ours(context):
        if identity.chain and identity.chain[0] == leaf:
            return identity
    raise NotVerifiedError("needs the key of the served certificate: pass --etcd-config where the files are")


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
