"""A certificate authority: issues, revokes and signs certificate lists, in memory.

Knows nothing of etcd, and writes no files.
"""

from __future__ import annotations

import ipaddress
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pytest_etcdtls.pki.certificate import extension, public_key
from pytest_etcdtls.pki.go_parser import BIT_STRING, INTEGER, SEQUENCE, children, encode, encode_integer
from pytest_etcdtls.pki.profile import (
    AUTHORITY,
    KEY_USAGES,
    SERVER,
    Identity,
    KeyType,
    PrivateKey,
    Profile,
    generate_key,
)

_EXTENDED_KEY_USAGES = {
    "serverAuth": ExtendedKeyUsageOID.SERVER_AUTH,
    "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH,
}


def general_name(text: str) -> x509.GeneralName:
    """Return an IP literal as iPAddress, anything else as dNSName.

    Raises:
        ValueError: if a name is not ASCII.
    """
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def extensions(
    profile: Profile, key: PrivateKey, subject: x509.Name, hosts: tuple[str, ...]
) -> list[tuple[x509.ExtensionType, bool]]:
    """Return the extensions that a profile asks for, with their criticality, but for key identifiers.

    Args:
        profile: what is asked for.
        key: the certificate's own, which decides the default key usage.
        subject: the certificate's own; an empty one makes the subjectAltName critical.
        hosts: names that the profile's ``subject_alt_names`` of ``None`` stands for.

    Raises:
        ValueError: if the profile asks for what cannot be encoded.
    """
    found: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=profile.ca, path_length=profile.path_length if profile.ca else None), True)
    ]
    usages = _key_usage(profile, key)
    if usages is not None:
        found.append((usages, True))
    if profile.extended_key_usage is not None:
        purposes = [
            _EXTENDED_KEY_USAGES.get(name) or x509.ObjectIdentifier(name)
            for name in profile.extended_key_usage
        ]
        found.append((x509.ExtendedKeyUsage(purposes), False))
    names = [
        general_name(text)
        for text in (hosts if profile.subject_alt_names is None else profile.subject_alt_names)
    ]
    names += [x509.DNSName(text) for text in profile.dns_names]
    if names:
        # NOTE: no empty extension, ever: etcd's Go rejects an empty critical subjectAltName as unhandled.
        found.append((x509.SubjectAlternativeName(names), not list(subject)))
    if profile.unknown_critical_extension is not None:
        oid = x509.ObjectIdentifier(profile.unknown_critical_extension)
        found.append((x509.UnrecognizedExtension(oid, b"\x05\x00"), True))
    return found


def _key_usage(profile: Profile, key: PrivateKey) -> x509.KeyUsage | None:
    names = profile.key_usage
    if names is None:
        rsa_key = isinstance(key, rsa.RSAPrivateKey)
        names = frozenset({"digitalSignature", "keyEncipherment"} if rsa_key else {"digitalSignature"})
    if unknown := names - KEY_USAGES.keys():
        raise ValueError(f"unknown key usage {', '.join(sorted(unknown))}, known are {', '.join(KEY_USAGES)}")
    if not names:
        return None
    return x509.KeyUsage(**{argument: name in names for name, argument in KEY_USAGES.items()})


# AlgorithmIdentifier of sha1WithRSAEncryption and ecdsa-with-SHA1 (RFC 3279 section 2.2).
_SHA1_WITH_RSA = bytes.fromhex("300d06092a864886f70d0101050500")
_ECDSA_WITH_SHA1 = bytes.fromhex("300906072a8648ce3d0401")


def resign(
    certificate: x509.Certificate, key: PrivateKey, *, serial_number: int | None = None, sha1: bool = False
) -> x509.Certificate:
    """Return the certificate with other values in it, signed again.

    Args:
        certificate: a certificate that the key has signed.
        key: the issuer's.
        serial_number: any integer, zero, negative and more than 20 octets included; ``None`` to keep it.
        sha1: sign with SHA-1; with an Ed25519 key, which has no choice of hash, without effect.
    """
    tbs, algorithm, _ = children(certificate.public_bytes(Encoding.DER))
    sha1 = sha1 and not isinstance(key, ed25519.Ed25519PrivateKey)
    hash_ = hashes.SHA1() if sha1 else certificate.signature_hash_algorithm or hashes.SHA256()  # noqa: S303 - weak on purpose
    if sha1:
        algorithm = _ECDSA_WITH_SHA1 if isinstance(key, ec.EllipticCurvePrivateKey) else _SHA1_WITH_RSA
    # TBSCertificate: version, serialNumber, signature, issuer ... (RFC 5280 section 4.1).
    version, serial, _, *rest = children(tbs)
    if serial_number is not None:
        serial = encode(INTEGER, encode_integer(serial_number))
    tbs = encode(SEQUENCE, b"".join((version, serial, algorithm, *rest)))
    signature = encode(BIT_STRING, b"\0" + _sign(key, tbs, hash_))
    return _parse(encode(SEQUENCE, tbs + algorithm + signature))


def _parse(der: bytes) -> x509.Certificate:
    with warnings.catch_warnings():
        # It warns of serial numbers that are not positive: that is what was asked for.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        return x509.load_der_x509_certificate(der)


def _sign(key: PrivateKey, data: bytes, hash_: hashes.HashAlgorithm) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(hash_))
    return key.sign(data, padding.PKCS1v15(), hash_)


SignatureHash = hashes.SHA256 | hashes.SHA384 | hashes.SHA512

_HASHES: dict[str, type[SignatureHash]] = {
    # Replaced by SHA-1 after the fact: the cryptography library does not sign certificates with it.
    "sha1": hashes.SHA256,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signs: the name to state, the key, and the key identifier to refer to (``None`` for none)."""

    name: x509.Name
    key: PrivateKey
    key_identifier: bytes | None


def signature_hash(key: PrivateKey, name: str | None = None) -> SignatureHash | None:
    """Return the hash to sign with: the named one, else what fits the key; ``None`` for Ed25519.

    For ``sha1`` that is SHA-256, for :func:`resign` to replace.

    Raises:
        ValueError: if the name is unknown.
    """
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None
    if name is not None:
        if name not in _HASHES:
            raise ValueError(f"unknown signature hash {name!r}, known are {', '.join(_HASHES)}")
        return _HASHES[name]()
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size > 256:
        return hashes.SHA384()
    return hashes.SHA256()


def distinguished_name(common_name: str | None, organization: str | None = None) -> x509.Name:
    """Return a Name of O and CN, in this order, as far as given."""
    attributes = [(NameOID.ORGANIZATION_NAME, organization), (NameOID.COMMON_NAME, common_name)]
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes if value is not None])


def key_identifier(public_key: CertificateIssuerPublicKeyTypes) -> bytes:
    """Return the key identifier by method 1 of RFC 5280 section 4.2.1.2."""
    return x509.SubjectKeyIdentifier.from_public_key(public_key).digest


def build_certificate(
    profile: Profile,
    key: PrivateKey,
    issuer: Issuer | None = None,
    *,
    hosts: tuple[str, ...] = (),
    not_before: datetime | None = None,
    subject: x509.Name | None = None,
    subject_key_identifier: bytes | None = None,
) -> x509.Certificate:
    """Return a signed certificate.

    Args:
        profile: what to put into it.
        key: its own key; signs it too if there is no issuer or the profile says self-signed.
        issuer: who signs.
        hosts: names that a ``subject_alt_names`` of ``None`` stands for.
        not_before: instead of the profile's ``valid_from``; aware. ``valid_for`` counts from it.
        subject: instead of the profile's names.
        subject_key_identifier: instead of the key's own.

    Raises:
        ValueError: if the profile asks for what cannot be encoded.
    """
    if subject is None:
        subject = distinguished_name(profile.common_name, profile.organization)
    own_identifier = subject_key_identifier or key_identifier(key.public_key())
    if issuer is None or profile.self_signed:
        issuer = Issuer(subject, key, own_identifier)
    start = (not_before or datetime.now(UTC) + profile.valid_from).replace(microsecond=0)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + profile.valid_for)
    )
    found = extensions(profile, key, subject, hosts)
    if profile.subject_key_identifier:
        found.append((x509.SubjectKeyIdentifier(own_identifier), False))
    if profile.authority_key_identifier and issuer.key_identifier is not None:
        found.append((x509.AuthorityKeyIdentifier(issuer.key_identifier, None, None), False))
    others = {x509.ObjectIdentifier(other.oid): other for other in profile.other_extensions}
    for value, critical in found:
        if value.oid not in others:
            builder = builder.add_extension(value, critical)
    for oid, other in others.items():
        if other.value is not None:
            builder = builder.add_extension(x509.UnrecognizedExtension(oid, other.value), other.critical)
    certificate = builder.sign(issuer.key, signature_hash(issuer.key, profile.signature_hash))
    sha1 = profile.signature_hash == "sha1"
    if not sha1 and profile.serial_number is None:
        return certificate
    return resign(certificate, issuer.key, serial_number=profile.serial_number, sha1=sha1)


def build_crl(
    issuer: Issuer,
    revoked: Mapping[int, datetime],
    *,
    number: int,
    encoding: Literal["der", "pem"],
    valid_for: timedelta,
) -> bytes:
    """Return a signed list.

    Args:
        issuer: the CA that signs it.
        revoked: time of revocation by serial number; aware.
        number: the CRL number, which grows from list to list (section 5.2.3).
        encoding: of what is returned.
        valid_for: from thisUpdate, one hour ago, to nextUpdate.
    """
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.name)
        .last_update(start)
        .next_update(start + valid_for)
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    if issuer.key_identifier is not None:
        identifier = x509.AuthorityKeyIdentifier(issuer.key_identifier, None, None)
        builder = builder.add_extension(identifier, critical=False)
    for serial_number, since in revoked.items():
        entry = x509.RevokedCertificateBuilder().serial_number(serial_number).revocation_date(since)
        builder = builder.add_revoked_certificate(entry.build())
    crl = builder.sign(issuer.key, signature_hash(issuer.key))
    return crl.public_bytes(Encoding.DER if encoding == "der" else Encoding.PEM)


class CertificateAuthority:
    """A CA with its key.

    Attributes:
        certificate: its own.
        parent: the CA that signed it; ``None`` for a root, and for one that was loaded.
        key_type: kind of the keys that it issues certificates for by default.
    """

    def __init__(
        self,
        certificate: x509.Certificate,
        key: PrivateKey,
        key_type: KeyType,
        parent: CertificateAuthority | None,
    ) -> None:
        """Use :meth:`create`, :meth:`intermediate` or :meth:`from_key`."""
        self.certificate = certificate
        self.key_type = key_type
        self.parent = parent
        self._key = key
        self._revoked: dict[int, datetime] = {}
        self._crl_number = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.certificate.subject.rfc4514_string()}>"

    @classmethod
    def create(
        cls,
        common_name: str,
        key_type: KeyType = KeyType.ECDSA_P256,
        *,
        valid_from: timedelta | None = None,
        valid_for: timedelta | None = None,
        profile: Profile = AUTHORITY,
    ) -> Self:
        """Return a new root CA.

        Args:
            common_name: its subject's CN.
            key_type: of its key, unless the profile says otherwise, and of the keys of what it issues.
            valid_from: notBefore relative to now, instead of the profile's.
            valid_for: from notBefore to notAfter, instead of the profile's.
            profile: what else its certificate shall contain.
        """
        profile = _with_validity(replace(profile, common_name=common_name), valid_from, valid_for)
        key = generate_key(profile.key_type or key_type, rsa_bits=profile.rsa_bits)
        return cls(build_certificate(profile, key), key, key_type, None)

    @classmethod
    def from_key(
        cls, certificate: x509.Certificate, key: PrivateKey, *, key_type: KeyType = KeyType.ECDSA_P256
    ) -> Self:
        """Return the CA of a certificate and key at hand; it counts as the anchor, whoever signed it.

        Raises:
            ValueError: if the key does not belong to the certificate.
        """
        if public_key(certificate) != key.public_key():
            subject = certificate.subject.rfc4514_string()
            raise ValueError(f"the key does not belong to the certificate of {subject}")
        return cls(certificate, key, key_type, None)

    @property
    def key(self) -> PrivateKey:
        """The CA's private key; never to be shown."""
        return self._key

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """Certificates to send between a leaf of this CA and the root: this one first, () for a root."""
        return () if self.parent is None else (self.certificate, *self.parent.chain)

    @property
    def root(self) -> CertificateAuthority:
        """The CA at the top, whose certificate is the trust anchor."""
        return self if self.parent is None else self.parent.root

    def intermediate(self, common_name: str, *, profile: Profile = AUTHORITY) -> CertificateAuthority:
        """Return a new CA that is signed by this one."""
        profile = replace(profile, common_name=common_name)
        key = generate_key(profile.key_type or self.key_type, rsa_bits=profile.rsa_bits)
        certificate = build_certificate(profile, key, self._issuer())
        return CertificateAuthority(certificate, key, self.key_type, self)

    def issue(
        self,
        profile: Profile,
        *,
        name: str,
        key: PrivateKey | None = None,
        hosts: tuple[str, ...] = (),
        not_before: datetime | None = None,
    ) -> Identity:
        """Return an identity with a new certificate; its chain is the leaf and the intermediates.

        Args:
            profile: what the certificate shall contain.
            name: the identity's.
            key: an existing key to certify; ``None`` for a new one.
            hosts: names that the profile's ``subject_alt_names`` of ``None`` stands for.
            not_before: instead of the profile's ``valid_from``.

        Raises:
            ValueError: if the profile asks for what cannot be encoded.
        """
        if key is None:
            key = generate_key(profile.key_type or self.key_type, rsa_bits=profile.rsa_bits)
        leaf = build_certificate(profile, key, self._issuer(), hosts=hosts, not_before=not_before)
        chain = () if profile.self_signed else self.chain
        return Identity(name=name, chain=(leaf, *chain), key=key, origin="made in memory")

    def revoke(self, certificate: x509.Certificate) -> None:
        """Put the certificate's serial number on the lists that :meth:`crl` makes from now on."""
        self._revoked[certificate.serial_number] = datetime.now(UTC)

    def crl(
        self, encoding: Literal["der", "pem"] = "der", *, valid_for: timedelta = timedelta(days=90)
    ) -> bytes:
        """Return a certificate revocation list (RFC 5280 section 5) of what was revoked so far.

        Args:
            encoding: etcd from 3.6 on reads DER only, before it reads both.
            valid_for: from thisUpdate, one hour ago, to nextUpdate; shorter than an hour is stale.
        """
        self._crl_number += 1
        return build_crl(
            self._issuer(), self._revoked, number=self._crl_number, encoding=encoding, valid_for=valid_for
        )

    def _issuer(self) -> Issuer:
        return Issuer(self.certificate.subject, self._key, self._key_identifier())

    def _key_identifier(self) -> bytes:
        identifier = extension(self.certificate, x509.SubjectKeyIdentifier)
        return identifier.digest if identifier else key_identifier(self._key.public_key())


def _with_validity(profile: Profile, valid_from: timedelta | None, valid_for: timedelta | None) -> Profile:
    return replace(
        profile,
        valid_from=profile.valid_from if valid_from is None else valid_from,
        valid_for=profile.valid_for if valid_for is None else valid_for,
    )


def specimen(
    leaf: Profile = SERVER, *, authority: Profile = AUTHORITY
) -> tuple[x509.Certificate, x509.Certificate]:
    """Return the certificate of a server on this host, and its issuer's."""
    issuer = CertificateAuthority.create("specimen CA", profile=authority)
    return issuer.issue(leaf, name="specimen", hosts=("localhost", "127.0.0.1")).chain[0], issuer.certificate
