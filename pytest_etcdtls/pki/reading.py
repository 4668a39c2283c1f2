"""What stands in a certificate, read so that a strange one neither raises nor warns.

Knows no usage rules: what a field means for a server or a CA is for others to judge.
"""

from __future__ import annotations

import warnings
from datetime import timedelta
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID

from pytest_etcdtls.pki.der import children
from pytest_etcdtls.pki.extensions import KEY_USAGES

Extension = TypeVar("Extension", bound=x509.ExtensionType)

_PURPOSES = {
    ExtendedKeyUsageOID.SERVER_AUTH: "serverAuth",
    ExtendedKeyUsageOID.CLIENT_AUTH: "clientAuth",
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE: "anyExtendedKeyUsage",
}


def load(der: bytes) -> x509.Certificate:
    """Return the certificate, its extensions and key looked into once, so that reading on does not fail.

    Raises:
        ValueError: if it, or one of its extensions, cannot be parsed, or an extension is there twice.
    """
    with warnings.catch_warnings():
        # It warns of serial numbers that are not positive: that is for a check to say.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        certificate = x509.load_der_x509_certificate(der)
    try:
        list(certificate.extensions)
    except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ValueError(str(error)) from error
    return certificate


def serial_number(certificate: x509.Certificate) -> int:
    """Return the serial number, also one that RFC 5280 forbids."""
    tbs, *_ = children(certificate.public_bytes(Encoding.DER))
    # TBSCertificate: [0] version, absent in version 1, then serialNumber (RFC 5280 section 4.1).
    fields = children(tbs)
    element = fields[1] if certificate.version is x509.Version.v3 else fields[0]
    return int.from_bytes(element[2:], "big", signed=True)


def extension(certificate: x509.Certificate, kind: type[Extension]) -> Extension | None:
    """Return the value of an extension, ``None`` if there is none."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def key_usages(certificate: x509.Certificate) -> frozenset[str] | None:
    """Return the key usage bits by their RFC 5280 names, ``None`` without that extension."""
    usage = extension(certificate, x509.KeyUsage)
    if usage is None:
        return None
    # Without keyAgreement these two mean nothing, and asking for them raises (RFC 5280 section 4.2.1.3).
    undefined = set() if usage.key_agreement else {"encipherOnly", "decipherOnly"}
    return frozenset(
        name for name, field in KEY_USAGES.items() if name not in undefined and getattr(usage, field)
    )


def purposes(certificate: x509.Certificate) -> tuple[str, ...] | None:
    """Return the extended key usages, unknown ones as dotted OIDs; ``None`` without that extension."""
    usages = extension(certificate, x509.ExtendedKeyUsage)
    if usages is None:
        return None
    return tuple(_PURPOSES.get(oid, oid.dotted_string) for oid in usages)


def is_for(certificate: x509.Certificate, purpose: str) -> bool:
    """Return whether the extended key usage, if there is one, names the purpose or any (as in Go's x509)."""
    named = purposes(certificate)
    return named is None or purpose in named or "anyExtendedKeyUsage" in named


def public_key(certificate: x509.Certificate) -> CertificatePublicKeyTypes | None:
    """Return the public key, ``None`` for a kind that the cryptography library does not know."""
    try:
        return certificate.public_key()
    except (UnsupportedAlgorithm, ValueError):
        return None


def signature_hash(certificate: x509.Certificate) -> str | None:
    """Return the hash of the signature as ``sha256``; ``None`` where it has none of its own (Ed25519).

    An algorithm that the cryptography library does not know is named by its OID.
    """
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return certificate.signature_algorithm_oid.dotted_string
    return algorithm.name if algorithm is not None else None


def span(time: timedelta) -> str:
    """Return a positive time in words: hours below two days, whole days above."""
    hours = time // timedelta(hours=1)
    if hours < 1:
        return "less than an hour"
    number, unit = (hours, "hour") if hours < 48 else (time.days, "day")
    return f"{number} {unit}{'' if number == 1 else 's'}"


def shown(certificate: x509.Certificate) -> str:
    """Return the subject for reports."""
    return certificate.subject.rfc4514_string() or "(empty subject)"
