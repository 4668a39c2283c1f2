"""A certificate authority that issues and revokes certificates and signs CRLs, in memory.

It also issues what no CA should: certificates with a wrong usage, a malformed extension or a bad serial
number, for identities that etcd must refuse and for etcds with a known fault. The cryptography library builds
no certificate with a serial number that RFC 5280 forbids or a signature with SHA-1. These are built with
values that it accepts, and then changed in DER and signed again (:func:`resign`).
"""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

from pytest_etcdtls.pki.certificate import load, name_text, public_key
from pytest_etcdtls.pki.go_parser import (
    BIT_STRING,
    INTEGER,
    SEQUENCE,
    children,
    details,
    encode,
    encode_integer,
)
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

# AlgorithmIdentifier of sha1WithRSAEncryption and ecdsa-with-SHA1 (RFC 3279 section 2.2).
_SHA1_WITH_RSA = bytes.fromhex("300d06092a864886f70d0101050500")
_ECDSA_WITH_SHA1 = bytes.fromhex("300906072a8648ce3d0401")

SignatureHash = hashes.SHA256 | hashes.SHA384 | hashes.SHA512

_HASHES: dict[str, type[SignatureHash]] = {
    # :func:`resign` replaces it: the cryptography library does not sign certificates with SHA-1.
    "sha1": hashes.SHA256,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
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


def _extensions(
    profile: Profile, key: PrivateKey, subject: x509.Name, hosts: tuple[str, ...]
) -> list[tuple[x509.ExtensionType, bool]]:
    """Return the extensions of a profile with their criticality, without the key identifiers."""
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=profile.ca, path_length=profile.path_length if profile.ca else None), True)
    ]
    usages = _key_usage(profile, key)
    if usages is not None:
        extensions.append((usages, True))
    if profile.extended_key_usage is not None:
        purposes = [
            _EXTENDED_KEY_USAGES.get(name) or x509.ObjectIdentifier(name)
            for name in profile.extended_key_usage
        ]
        extensions.append((x509.ExtendedKeyUsage(purposes), False))
    names = [
        general_name(text)
        for text in (hosts if profile.subject_alt_names is None else profile.subject_alt_names)
    ]
    names += [x509.DNSName(text) for text in profile.dns_names]
    if names:
        # NOTE: An empty extension is omitted: Go rejects an empty critical subjectAltName as unhandled. It is
        # critical if the subject is empty (RFC 5280 section 4.2.1.6).
        extensions.append((x509.SubjectAlternativeName(names), not list(subject)))
    if profile.unknown_critical_extension is not None:
        oid = x509.ObjectIdentifier(profile.unknown_critical_extension)
        extensions.append((x509.UnrecognizedExtension(oid, b"\x05\x00"), True))
    return extensions


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


def resign(
    certificate: x509.Certificate, key: PrivateKey, *, serial_number: int | None = None, sha1: bool = False
) -> x509.Certificate:
    """Return the certificate with the given values replaced, signed again.

    Args:
        certificate: a certificate signed by the key.
        key: the issuer's private key.
        serial_number: as in :class:`Profile`; ``None`` keeps the serial number.
        sha1: sign with SHA-1. It has no effect on an Ed25519 key, which has no choice of hash.
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
    return load(encode(SEQUENCE, tbs + algorithm + signature))


def _sign(key: PrivateKey, data: bytes, hash_: hashes.HashAlgorithm) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(hash_))
    return key.sign(data, padding.PKCS1v15(), hash_)


class Issuer(Struct, frozen=True):
    """The issuer's name, its private key, and its key identifier (``None`` for none)."""

    name: x509.Name
    key: PrivateKey
    key_identifier: bytes | None


def signature_hash(key: PrivateKey, name: str | None = None) -> SignatureHash | None:
    """Return the hash to sign with: the named one, else the one that fits the key; ``None`` for Ed25519.

    For ``sha1`` it is SHA-256, which :func:`resign` replaces.

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
    """Return a Name of O and CN, in this order, without those that are not given."""
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
        profile: contents of the certificate.
        key: the certificate's key. It also signs if there is no issuer or the profile is self-signed.
        issuer: the CA that signs.
        hosts: the names to use if the profile's ``subject_alt_names`` is ``None``.
        not_before: overrides the profile's ``valid_from``; aware. ``valid_for`` counts from it.
        subject: overrides the profile's names.
        subject_key_identifier: overrides the identifier computed from the key.

    Raises:
        ValueError: if the profile cannot be encoded.
    """
    if subject is None:
        subject = distinguished_name(profile.common_name, profile.organization)
    own_identifier = subject_key_identifier or key_identifier(key.public_key())
    if issuer is None or profile.self_signed:
        issuer = Issuer(subject, key, own_identifier)
    # Times in certificates are whole seconds (RFC 5280 section 4.1.2.5).
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
    extensions = _extensions(profile, key, subject, hosts)
    if profile.subject_key_identifier:
        extensions.append((x509.SubjectKeyIdentifier(own_identifier), False))
    if profile.authority_key_identifier and issuer.key_identifier is not None:
        extensions.append((x509.AuthorityKeyIdentifier(issuer.key_identifier, None, None), False))
    others = {x509.ObjectIdentifier(other.oid): other for other in profile.other_extensions}
    for value, critical in extensions:
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


class CertificateAuthority:
    """A CA with its key.

    Attributes:
        certificate: the CA's certificate.
        parent: the CA that signed it; ``None`` for a root and for a loaded CA.
        key_type: default key type of the certificates that it issues.
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
        return f"<{type(self).__name__} {name_text(self.certificate.subject)}>"

    @classmethod
    def create(
        cls,
        common_name: str,
        key_type: KeyType = KeyType.ECDSA_P256,
        *,
        profile: Profile = AUTHORITY,
    ) -> Self:
        """Return a new root CA.

        Args:
            common_name: CN of the subject.
            key_type: type of the CA's key, unless the profile sets one, and default for issued certificates.
            profile: further contents of the CA's certificate.
        """
        profile = replace(profile, common_name=common_name)
        key = generate_key(profile.key_type or key_type, rsa_bits=profile.rsa_bits)
        return cls(build_certificate(profile, key), key, key_type, None)

    @classmethod
    def from_key(cls, certificate: x509.Certificate, key: PrivateKey) -> Self:
        """Return the CA of an existing certificate and key. It is the trust anchor, whichever CA signed it.

        Raises:
            ValueError: if the key does not match the certificate.
        """
        if public_key(certificate) != key.public_key():
            subject = name_text(certificate.subject)
            raise ValueError(f"the key does not belong to the certificate of {subject}")
        return cls(certificate, key, KeyType.ECDSA_P256, None)

    @property
    def key(self) -> PrivateKey:
        """The CA's private key. It is never printed."""
        return self._key

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """The intermediate certificates to send after a leaf of this CA, this CA first; () for a root."""
        return () if self.parent is None else (self.certificate, *self.parent.chain)

    @property
    def root(self) -> CertificateAuthority:
        """The root CA, whose certificate is the trust anchor."""
        return self if self.parent is None else self.parent.root

    def intermediate(
        self, common_name: str, *, profile: Profile = AUTHORITY, not_before: datetime | None = None
    ) -> CertificateAuthority:
        """Return a new CA signed by this CA; ``not_before`` overrides the profile's ``valid_from``."""
        profile = replace(profile, common_name=common_name)
        key = generate_key(profile.key_type or self.key_type, rsa_bits=profile.rsa_bits)
        certificate = build_certificate(profile, key, self._issuer(), not_before=not_before)
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
        """Return an identity with a new certificate. Its chain is the leaf and the intermediates.

        Args:
            profile: contents of the certificate.
            name: name of the identity.
            key: an existing key to certify; ``None`` for a new one.
            hosts: the names to use if the profile's ``subject_alt_names`` is ``None``.
            not_before: overrides the profile's ``valid_from``.

        Raises:
            ValueError: if the profile cannot be encoded.
        """
        if key is None:
            key = generate_key(profile.key_type or self.key_type, rsa_bits=profile.rsa_bits)
        leaf = build_certificate(profile, key, self._issuer(), hosts=hosts, not_before=not_before)
        chain = () if profile.self_signed else self.chain
        return Identity(name=name, chain=(leaf, *chain), key=key, origin="made in memory")

    def revoke(self, certificate: x509.Certificate) -> None:
        """Add the certificate's serial number to the lists that :meth:`crl` returns from now on."""
        self._revoked[certificate.serial_number] = datetime.now(UTC)

    def crl(
        self, encoding: Literal["der", "pem"] = "der", *, valid_for: timedelta = timedelta(days=90)
    ) -> bytes:
        """Return a certificate revocation list (RFC 5280 section 5) of the certificates revoked so far.

        Args:
            encoding: etcd 3.6 and later reads DER only; earlier versions read DER and PEM.
            valid_for: time from thisUpdate, which is one hour ago, to nextUpdate. A list with less than
                one hour is stale.
        """
        self._crl_number += 1
        issuer, start = self._issuer(), datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
        identifier = x509.AuthorityKeyIdentifier(issuer.key_identifier, None, None)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer.name)
            .last_update(start)
            .next_update(start + valid_for)
            .add_extension(x509.CRLNumber(self._crl_number), critical=False)
            .add_extension(identifier, critical=False)
        )
        for serial_number, since in self._revoked.items():
            entry = x509.RevokedCertificateBuilder().serial_number(serial_number).revocation_date(since)
            builder = builder.add_revoked_certificate(entry.build())
        crl = builder.sign(issuer.key, signature_hash(issuer.key))
        return crl.public_bytes(Encoding.DER if encoding == "der" else Encoding.PEM)

    def _issuer(self) -> Issuer:
        digest = details(self.certificate).subject_key or key_identifier(self._key.public_key())
        return Issuer(self.certificate.subject, self._key, digest)


def specimen(
    leaf: Profile = SERVER, *, authority: Profile = AUTHORITY
) -> tuple[x509.Certificate, x509.Certificate]:
    """Return a server certificate for this host and its issuer's certificate."""
    issuer = CertificateAuthority.create("specimen CA", profile=authority)
    return issuer.issue(leaf, name="specimen", hosts=("localhost", "127.0.0.1")).chain[0], issuer.certificate
