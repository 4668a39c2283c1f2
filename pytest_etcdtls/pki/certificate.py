"""Builds and signs one X.509 certificate from a profile.

Knows RFC 5280; does not know what the certificate is for, nor who keeps the keys.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

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
_KEY_USAGES = {
    "digitalSignature": "digital_signature",
    "contentCommitment": "content_commitment",
    "keyEncipherment": "key_encipherment",
    "dataEncipherment": "data_encipherment",
    "keyAgreement": "key_agreement",
    "keyCertSign": "key_cert_sign",
    "cRLSign": "crl_sign",
    "encipherOnly": "encipher_only",
    "decipherOnly": "decipher_only",
}
_EXTENDED_KEY_USAGES = {
    "serverAuth": ExtendedKeyUsageOID.SERVER_AUTH,
    "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH,
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


def general_name(text: str) -> x509.GeneralName:
    """Return an IP literal as iPAddress, anything else as dNSName.

    Raises:
        ValueError: if a name is not ASCII.
    """
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


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
    for extension, critical in _extensions(profile, key, subject, hosts):
        builder = builder.add_extension(extension, critical)
    if profile.subject_key_identifier:
        builder = builder.add_extension(x509.SubjectKeyIdentifier(own_identifier), critical=False)
    if profile.authority_key_identifier and issuer.key_identifier is not None:
        identifier = x509.AuthorityKeyIdentifier(issuer.key_identifier, None, None)
        builder = builder.add_extension(identifier, critical=False)
    certificate = builder.sign(issuer.key, signature_hash(issuer.key, profile.signature_hash))
    sha1 = profile.signature_hash == "sha1"
    if not sha1 and profile.serial_number is None:
        return certificate
    return resign(certificate, issuer.key, serial_number=profile.serial_number, sha1=sha1)


def _extensions(
    profile: Profile, key: PrivateKey, subject: x509.Name, hosts: tuple[str, ...]
) -> list[tuple[x509.ExtensionType, bool]]:
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
        # NOTE: no empty extension, ever: etcd's Go rejects an empty critical subjectAltName as unhandled.
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
    if unknown := names - _KEY_USAGES.keys():
        raise ValueError(
            f"unknown key usage {', '.join(sorted(unknown))}, known are {', '.join(_KEY_USAGES)}"
        )
    if not names:
        return None
    return x509.KeyUsage(**{argument: name in names for name, argument in _KEY_USAGES.items()})
