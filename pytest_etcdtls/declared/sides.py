"""What TLS really is on the two sides of a member, client's and peers', from its declaration and version.

Source: ``TLSInfo.ServerConfig``, ``ClientSelfCert`` and ``PeerSelfCert`` of etcd. Knows nothing of URLs.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from pytest_etcdtls.declared.crl_file import CRLFile, Encoding
from pytest_etcdtls.declared.declaration import Declaration
from pytest_etcdtls.declared.version import has, version_key

Side = Literal["client", "peer"]
SIDES: Final[tuple[Side, ...]] = ("client", "peer")

_LISTS_OF_NAMES: Final = {"3.5": 15}
"""The patch releases from which on allowed names may be lists."""


class Admission(StrEnum):
    """Who is let in by TLS."""

    ANYBODY = "anybody"
    """No certificate is asked for."""
    TRUSTED_CA = "who holds a certificate of the trusted CA"
    SYSTEM_ROOTS = "who holds a certificate of any CA in the system's root store"


class CRLEffect(StrEnum):
    """What a CRL does."""

    NONE = "no CRL"
    ENFORCED = "revoked certificates are refused"
    REFUSES_ALL = "everybody who shows a certificate is refused"
    IGNORED = "the CRL is not looked at"
    UNKNOWN = "the file is not here, so it is not known whether etcd can read it"


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSSide:
    """TLS on one side.

    Attributes:
        certificate: path of what is served as it is declared; ``None`` if it is generated or there is none.
        key: path of its key.
        generated: etcd generates a self-signed certificate (``--auto-tls``), and what else is declared for
            TLS on this side is dropped.
        admission: who is let in.
        asks: ``--client-cert-auth`` is on, and not dropped.
        trusted_ca: path of the bundle that clients' certificates must come from.
        allowed_cn: common names that are let in, empty for all.
        allowed_hostname: names of which a certificate must be valid for one, empty for all.
        crl_file: path of the CRL.
        crl: what it does, on listeners where etcd looks at it.
        dials_with: path of the certificate with which etcd itself connects: its gateway on the client side, a
            member to its peers on the peer side.
        skips_san_rule: the SAN rule does not apply.
        cn_is_user: a certificate's CN is the user's name where authentication is on.
    """

    side: Side
    certificate: str | None
    key: str | None
    generated: bool
    admission: Admission
    asks: bool
    trusted_ca: str | None
    allowed_cn: tuple[str, ...]
    allowed_hostname: tuple[str, ...]
    crl_file: str | None
    crl: CRLEffect
    dials_with: str | None
    skips_san_rule: bool
    cn_is_user: bool

    @property
    def has_certificate(self) -> bool:
        """Whether it can serve TLS."""
        return self.generated or self.certificate is not None


def prefix(side: Side) -> str:
    """Return what the side's flags begin with."""
    return "peer-" if side == "peer" else ""


def tls_side(
    declaration: Declaration, side: Side, version: str | None, crl: CRLFile | None = None
) -> TLSSide:
    """Return what TLS is on one side.

    Args:
        declaration: of the member.
        side: of it.
        version: of etcd; ``None`` stands for today's.
        crl: the file of that side's CRL, if one is declared and was looked at.
    """
    p = prefix(side)
    certificate, key = declaration.text(f"{p}cert-file"), declaration.text(f"{p}key-file")
    generated = declaration.on(f"{p}auto-tls") and certificate is None and key is None
    asks = declaration.on(f"{p}client-cert-auth") and not generated
    ca = None if generated else declaration.text(f"{p}trusted-ca-file")
    admission = _admission(asks, ca, version)
    own = declaration.text(f"{p}client-cert-file") if version_key(version) >= (3, 5) else None
    return TLSSide(
        side=side,
        certificate=None if generated else certificate,
        key=None if generated else key,
        generated=generated,
        admission=admission,
        asks=asks,
        trusted_ca=ca,
        allowed_cn=() if generated else allowed_names(declaration, f"{side}-cert-allowed-cn", version),
        allowed_hostname=()
        if generated
        else allowed_names(declaration, f"{side}-cert-allowed-hostname", version),
        crl_file=None if generated else declaration.text(f"{side}-crl-file"),
        crl=CRLEffect.NONE if generated else crl_effect(declaration, side, version, admission, crl),
        dials_with=None if generated else own or certificate,
        skips_san_rule=not generated and _skips_san_rule(declaration, side, version),
        cn_is_user=side == "client" and asks,
    )


def _admission(asks: bool, ca: str | None, version: str | None) -> Admission:
    if ca is not None and (asks or version_key(version) >= (3, 4)):
        return Admission.TRUSTED_CA
    return Admission.SYSTEM_ROOTS if asks else Admission.ANYBODY


def allowed_names(declaration: Declaration, name: str, version: str | None) -> tuple[str, ...]:
    """Return the allowed names; before 3.5.15 a list with commas is one single name."""
    text = declaration.text(name)
    if text is None:
        return ()
    return declaration.words(name) if has(version, _LISTS_OF_NAMES) else (text,)


def crl_effect(
    declaration: Declaration, side: Side, version: str | None, admission: Admission, crl: CRLFile | None
) -> CRLEffect:
    """Return what the CRL of a side does where etcd looks at it."""
    if declaration.text(f"{side}-crl-file") is None:
        return CRLEffect.NONE
    if admission is Admission.ANYBODY:
        return CRLEffect.IGNORED  # nobody is asked for a certificate that could be in it
    if crl is None or crl.found is None:
        return CRLEffect.UNKNOWN
    if crl.encoding is Encoding.DER:
        return CRLEffect.ENFORCED
    readable = crl.encoding is Encoding.PEM and version_key(version) < (3, 6)
    return CRLEffect.ENFORCED if readable else CRLEffect.REFUSES_ALL


def _skips_san_rule(declaration: Declaration, side: Side, version: str | None) -> bool:
    setting = declaration.settings
    names = [f"{side}-skip-client-san-verification"]
    if side == "peer" and version_key(version) < (3, 7):
        names.append("experimental-peer-skip-client-san-verification")
    return any(name in setting and setting[name].on for name in names)
