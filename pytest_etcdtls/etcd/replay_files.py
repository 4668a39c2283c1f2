"""The files of a replayed declaration: the declared ones, or generated ones of the same shape.

If one of the declared files is not here, or no client certificate that etcd accepts, CAs, certificates and
keys are generated with the names, key types and purposes of the declared ones. A revocation list that is
here, and a file of trusted CAs that etcd does not read, are the declared ones even then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from pytest_etcdtls.declared.declaration import FILES, DeclaredMember, Setting, hosts_of
from pytest_etcdtls.declared.effective import SIDES, allowed_names, prefix
from pytest_etcdtls.declared.files import why_absent
from pytest_etcdtls.errors import UnreadableFileError, UsageError
from pytest_etcdtls.etcd.relocation import below_root
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates, encode_key
from pytest_etcdtls.pki.certificate import (
    MAXIMUM_SIZE,
    load_certificates,
    load_trusted_file,
    public_key,
    purposes,
    read_pool,
)
from pytest_etcdtls.pki.go_parser import details
from pytest_etcdtls.pki.go_verify import find_path, is_self_signed
from pytest_etcdtls.pki.profile import CLIENT, SERVER, Identity, KeyType, Profile
from pytest_etcdtls.role import Side
from pytest_etcdtls.target import PortCredentials, SigningKey, TrustBundle
from pytest_etcdtls.untrusted.regular_files import read_regular

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_PAIRS: Final = {"cert-file": "key-file", "client-cert-file": "client-key-file"}
CLIENTS: Final = PurePosixPath("clients")
"""The directory of the generated client certificates, which etcd does not read."""
_LONGEST_NAME: Final = 64
"""Characters of a common name and of an organization (RFC 5280, upper bounds)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayFiles:
    """The files that a replayed etcd gets.

    Attributes:
        contents: by their path below the PKI directory; keys among them are never shown.
        client: the matching credentials for client ports.
        peer: the matching credentials for peer ports.
        generated: why they are generated, and what to do; empty if they are the declared ones.
    """

    contents: Mapping[PurePosixPath, bytes] = field(repr=False)
    client: PortCredentials
    peer: PortCredentials
    generated: str = ""


def replay_files(
    declared: DeclaredMember,
    client: PortCredentials,
    peer: PortCredentials,
    *,
    key_type: KeyType | None = None,
) -> ReplayFiles:
    """Return the declared files if all of them are here, else generated ones of the same shape.

    Args:
        declared: the declared member.
        client: the credentials for client ports, as far as they are known.
        peer: those for peer ports.
        key_type: type of generated keys where no certificate shows it.

    Raises:
        UsageError: if a certificate of that shape cannot be issued.
    """
    contents: dict[PurePosixPath, bytes] = {}
    settings = [setting for name in FILES if (setting := _given(declared, name)) is not None]
    for setting in settings:
        read = _read(declared, setting)
        if isinstance(read, str):
            return _generate(declared, why=read, key_type=key_type)
        contents[below_root(setting.value)] = read
    if settings and not client.identities:
        why = "no client certificate that etcd accepts is here: pass --etcd-cert and --etcd-key"
        return _generate(declared, why=why, key_type=key_type)
    return ReplayFiles(contents=contents, client=client, peer=peer)


def _given(declared: DeclaredMember, name: str) -> Setting | None:
    """Return the setting of a file; one that a configuration file hides counts too."""
    declaration = declared.declaration
    setting = declaration.settings.get(name) or next(
        (setting for setting in declaration.hidden if setting.name == name), None
    )
    return setting if setting is not None and setting.value else None


def _read(declared: DeclaredMember, setting: Setting) -> bytes | str:
    """Return the content of a declared file, or why it cannot be read."""
    path = None if setting.name in declared.others else declared.paths.find(setting.value)
    if path is None:
        return why_absent(declared, setting)
    try:
        return read_regular(path, MAXIMUM_SIZE)
    except UnreadableFileError as error:
        return f"the file of {setting} {error.happened}"


def _attribute(name: x509.Name, oid: x509.ObjectIdentifier) -> str | None:
    attributes = name.get_attributes_for_oid(oid)
    return str(attributes[0].value)[:_LONGEST_NAME] or None if attributes else None


def _key_type(certificate: x509.Certificate) -> KeyType | None:
    key = public_key(certificate)
    if isinstance(key, rsa.RSAPublicKey):
        return KeyType.RSA_2048 if key.key_size < 3072 else KeyType.RSA_4096
    if isinstance(key, ec.EllipticCurvePublicKey):
        return KeyType.ECDSA_P256 if key.curve.key_size == 256 else KeyType.ECDSA_P384
    return KeyType.ED25519 if isinstance(key, ed25519.Ed25519PublicKey) else None


def _generate(declared: DeclaredMember, *, why: str, key_type: KeyType | None) -> ReplayFiles:
    try:
        return _Generation(declared, key_type).files(why)
    except ValueError as error:
        raise UsageError(
            f"{declared.declaration.source}: certificates of the declared shape cannot be issued: "
            f"{error}; name the directory with the declared files by --etcd-pki-dir"
        ) from error


class _Generation:
    """Issues files like those of the declared PKI.

    Args:
        declared: the declared member.
        key_type: type of keys where no certificate shows it.
    """

    def __init__(self, declared: DeclaredMember, key_type: KeyType | None) -> None:
        self._declared = declared
        self._key_type = key_type or KeyType.ECDSA_P256
        self._authorities: dict[object, CertificateAuthority] = {}
        self._bundles = {
            side: self._certificates(f"{prefix(side)}trusted-ca-file", trust=True) for side in SIDES
        }
        self._contents: dict[PurePosixPath, bytes] = {}
        self._served: dict[str, tuple[Identity, CertificateAuthority]] = {}

    def files(self, why: str) -> ReplayFiles:
        """Return the files with the matching credentials."""
        for side in SIDES:
            for name, key_name in _PAIRS.items():
                setting = _given(self._declared, f"{prefix(side)}{name}")
                if setting is not None and setting.value not in self._served:
                    key = _given(self._declared, f"{prefix(side)}{key_name}")
                    self._issue(side, setting, key, dials=name != "cert-file")
        client, peer = self._credentials("client"), self._credentials("peer")
        return ReplayFiles(contents=self._contents, client=client, peer=peer, generated=why)

    def _certificates(self, name: str, *, trust: bool = False) -> tuple[x509.Certificate, ...]:
        """Return the certificates of a declared file; empty if it is not here, or contains none."""
        setting = _given(self._declared, name)
        path = None if setting is None else self._declared.paths.find(setting.value)
        if path is None or name in self._declared.others:
            return ()
        try:
            return load_trusted_file(path, option=name)[0] if trust else load_certificates(path)
        except UsageError:
            return ()

    def _put(self, declared_path: str, content: bytes) -> None:
        path = below_root(declared_path)
        if path.name:  # a directory such as / has none; etcd refuses it unchanged
            self._contents[path] = content

    def _issue(self, side: Side, setting: Setting, key: Setting | None, *, dials: bool) -> None:
        """Issue the certificate of a file; ``dials``: etcd presents it as a client only."""
        declared = self._certificates(setting.name)
        authority = self._issuer(side, setting.value, declared)
        name = PurePosixPath(setting.value).name
        identity = authority.issue(self._profile(declared, dials=dials), name=name)
        self._served[setting.value] = (identity, authority)
        self._put(setting.value, encode_certificates(identity.chain))
        if key is not None and identity.key is not None:
            self._put(key.value, encode_key(identity.key))

    def _trusted(self, side: Side) -> CertificateAuthority:
        """Return the CA in the bundle of a side. Equal bundles, or equal paths, have the same."""
        setting = _given(self._declared, f"{prefix(side)}trusted-ca-file")
        known = frozenset(certificate.subject.public_bytes() for certificate in self._bundles[side])
        key = known or (setting.value if setting else side)
        return self._authority(key, f"{side}-ca", self._bundles[side])

    def _issuer(self, side: Side, path: str, declared: tuple[x509.Certificate, ...]) -> CertificateAuthority:
        """Return the CA that issues a certificate: that of the bundle that verifies it, or one of its own."""
        if not declared or not any(self._bundles.values()):
            known = _given(self._declared, f"{prefix(side)}trusted-ca-file") is not None
            return self._trusted(side) if known else self._authority(path, "server-ca", ())
        first, *sent = declared
        for other in (side, *(each for each in SIDES if each != side)):
            bundle = self._bundles[other]
            if bundle and find_path(first, sent, bundle, first.not_valid_before_utc):
                authority = self._trusted(other)
                has_intermediate = any(not is_self_signed(certificate) for certificate in sent)
                return authority.intermediate("intermediate-ca") if has_intermediate else authority
        return self._authority(first.issuer.public_bytes(), "server-ca", ())

    def _authority(
        self, key: object, name: str, declared: tuple[x509.Certificate, ...]
    ) -> CertificateAuthority:
        """Return the CA with this key; a new one has name and key type of the declared certificate."""
        if key not in self._authorities:
            common_name = _attribute(declared[0].subject, NameOID.COMMON_NAME) if declared else None
            key_type = _key_type(declared[0]) if declared else None
            self._authorities[key] = CertificateAuthority.create(
                common_name or name, key_type or self._key_type
            )
        return self._authorities[key]

    def _profile(self, declared: tuple[x509.Certificate, ...], *, dials: bool) -> Profile:
        """Return the profile of a certificate: like the declared one, with this machine's loopback."""
        if not declared:
            name = self._declared.declaration.name[:_LONGEST_NAME]
            if dials:
                return replace(CLIENT, common_name=name)
            own = dict.fromkeys((*hosts_of(self._declared.declaration), *_LOOPBACK))
            return replace(SERVER, common_name=name, subject_alt_names=tuple(own))
        leaf = declared[0]
        names = details(leaf).alternative_names()
        hosts = [text for kind, text in names if kind in ("DNS", "IP") and text]
        return Profile(
            common_name=_attribute(leaf.subject, NameOID.COMMON_NAME),
            organization=_attribute(leaf.subject, NameOID.ORGANIZATION_NAME),
            subject_alt_names=tuple(dict.fromkeys([*hosts, *(() if dials or not hosts else _LOOPBACK)])),
            extended_key_usage=purposes(leaf),
            key_type=_key_type(leaf),
        )

    def _credentials(self, side: Side) -> PortCredentials:
        authority = self._trusted(side)
        trusted = _given(self._declared, f"{prefix(side)}trusted-ca-file")
        if trusted is not None:
            content = _read(self._declared, trusted)
            # One that keeps etcd from starting, or has no CA for it, is kept.
            if isinstance(content, str) or not ((pool := read_pool(content)).refused or pool.nothing):
                content = encode_certificates([authority.certificate])
            self._put(trusted.value, content)
        declaration = self._declared.declaration
        # As the newest etcd reads them. Before 3.5.15 a list is one name, which no client has.
        cn = allowed_names(declaration, f"{side}-cert-allowed-cn", None)
        hostname = allowed_names(declaration, f"{side}-cert-allowed-hostname", None)
        profile = replace(
            CLIENT,
            common_name=cn[0][:_LONGEST_NAME] if cn else "etcd-peer" if side == "peer" else "client",
            subject_alt_names=hostname[:1],
        )
        served = _given(self._declared, f"{prefix(side)}cert-file")
        pair = self._served.get(served.value) if served is not None else None
        return PortCredentials(
            server_ca=_bundle(pair[1].root) if pair else None,
            identities=(self._client(authority, profile, "peer-client" if side == "peer" else "client"),),
            client_trust=_bundle(authority) if trusted is not None else None,
            signing_key=SigningKey(authority.certificate, authority.key) if trusted is not None else None,
            revoked=self._revoked(side, authority, profile),
            served=(replace(pair[0], name=f"{prefix(side)}server"),) if pair else (),
            allowed_cn=cn,
            allowed_hostname=hostname,
        )

    def _client(self, authority: CertificateAuthority, profile: Profile, name: str) -> Identity:
        identity = authority.issue(profile, name=name)
        if identity.key is not None:
            self._contents[CLIENTS / f"{name}.crt"] = encode_certificates(identity.chain)
            self._contents[CLIENTS / f"{name}.key"] = encode_key(identity.key)
        return identity

    def _revoked(self, side: Side, authority: CertificateAuthority, profile: Profile) -> Identity | None:
        setting = _given(self._declared, f"{side}-crl-file")
        if setting is None:
            return None
        content, revoked = _read(self._declared, setting), None
        if isinstance(content, str):
            revoked = authority.issue(replace(profile, common_name="revoked"), name="revoked")
            authority.revoke(revoked.chain[0])
            content = authority.crl("der")  # every version reads that
        self._put(setting.value, content)
        return revoked


def _bundle(authority: CertificateAuthority) -> TrustBundle:
    return TrustBundle((authority.certificate,), "generated for the replay")
