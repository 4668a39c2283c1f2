"""Which identities can be presented on a listener, good ones and bad ones.

Makes them, in memory; presents none. What it returns holds keys and therefore never is an
observation of a report (those live in ``pytest_etcdtls.observations``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cryptography import x509

from pytest_etcdtls.errors import NotVerifiedError
from pytest_etcdtls.observations.listener import Answer
from pytest_etcdtls.pki import identities
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.identity import NO_CERTIFICATE, Identity
from pytest_etcdtls.probes.contact import listener_of, tls_answer
from pytest_etcdtls.probes.registry import Context, probe
from pytest_etcdtls.target import PortCredentials, Role

MINTED = "minted"
"""The good identity that is made with a CA's key, and the valid twin of the bad ones made with it."""

NEED_CA_KEY = frozenset(
    {"expired", "not-yet-valid", "server-auth-only", "wrong-cn", "wrong-san", "intermediate-missing"}
)


@dataclass(frozen=True, slots=True)
class Presentable:
    """An identity ready to be presented; holds a key.

    Attributes:
        twin: name of the good identity that differs in the one point only, ``None`` for those without.
    """

    identity: Identity
    twin: str | None = None


@dataclass(frozen=True, slots=True)
class GoodIdentities:
    """The good identities of a listener, in the order in which they are tried; they hold keys."""

    identities: tuple[Identity, ...]


@dataclass(frozen=True, slots=True)
class Workshop:
    """The identities minted with the CA's key of a listener, made once; they hold keys."""

    minted: dict[str, Identity]


@probe(Workshop, cost=0)
def _workshop(context: Context, key: str | None) -> Workshop:
    listener = listener_of(context)
    signing = context.target.credentials(listener.role).signing_key
    if signing is None:
        side = "peer-" if listener.role is Role.PEER else ""
        raise NotVerifiedError(f"needs the key of the CA that signs its clients: pass --etcd-{side}ca-key")
    authority = CertificateAuthority.from_key(signing.certificate, signing.key)
    files = (signing.certificate_file or "ca.crt", signing.key_file or "ca.key")
    return Workshop(identities.mint_all(authority, ca_files=files))


@probe(GoodIdentities, cost=0, needs=[(Workshop, None)])
def _good(context: Context, key: str | None) -> GoodIdentities:
    credentials = context.target.credentials(listener_of(context).role)
    good = credentials.identities
    if credentials.signing_key is not None:
        good += (context.get(Workshop).minted[MINTED],)
    return GoodIdentities(good)


@probe(Presentable, cost=0, needs=[(Answer, None), (Workshop, None)])
def _presentable(context: Context, key: str | None) -> Presentable:
    name = str(key)
    if name in _MADE:
        return Presentable(_MADE[name](context))
    if name == "revoked":
        return Presentable(_revoked(context))
    minted = context.get(Workshop).minted
    return Presentable(minted[name], identities.TWINS.get(name))


def _revoked(context: Context) -> Identity:
    revoked = context.target.credentials(listener_of(context).role).revoked
    if revoked is None:
        raise NotVerifiedError(
            "needs a certificate that the CRL in force revokes, which only an owned cluster has"
        )
    return revoked


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
}
