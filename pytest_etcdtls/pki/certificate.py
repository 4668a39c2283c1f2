"""Builds and signs one X.509 certificate from a profile.

Knows RFC 5280; does not know what the certificate is for, nor who keeps the keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes
from cryptography.x509.oid import NameOID

from pytest_etcdtls.pki.extensions import extensions
from pytest_etcdtls.pki.identity import PrivateKey
from pytest_etcdtls.pki.profile import Profile
from pytest_etcdtls.pki.resign import resign

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
    for extension, critical in found:
        if extension.oid not in others:
            builder = builder.add_extension(extension, critical)
    for oid, other in others.items():
        if other.value is not None:
            builder = builder.add_extension(x509.UnrecognizedExtension(oid, other.value), other.critical)
    certificate = builder.sign(issuer.key, signature_hash(issuer.key, profile.signature_hash))
    sha1 = profile.signature_hash == "sha1"
    if not sha1 and profile.serial_number is None:
        return certificate
    return resign(certificate, issuer.key, serial_number=profile.serial_number, sha1=sha1)
