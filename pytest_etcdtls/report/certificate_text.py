"""A certificate as text: facts for the report, one line or a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from pytest_etcdtls.pki.certificate import (
    extension,
    name_text,
    public_key,
    serial_number,
    signature_hash,
    span,
)
from pytest_etcdtls.pki.go_verify import subject_alt_names
from pytest_etcdtls.untrusted import listed

_USAGES = {
    "digital_signature": "digitalSignature",
    "content_commitment": "nonRepudiation",
    "key_encipherment": "keyEncipherment",
    "data_encipherment": "dataEncipherment",
    "key_agreement": "keyAgreement",
    "key_cert_sign": "keyCertSign",
    "crl_sign": "cRLSign",
}
"""RFC 5280's names of the key usages, by attribute of the library."""

_SHORT = 16
"""Number of hexadecimal digits of a fingerprint in a line."""


def certificate_facts(certificate: x509.Certificate) -> dict[str, Any]:
    """Return the facts of a certificate for the report: times in UTC, names in RFC 4514 format."""
    return {
        "subject": name_text(certificate.subject),
        "issuer": name_text(certificate.issuer),
        "serial_number": f"{serial_number(certificate):x}",
        "not_before": utc(certificate.not_valid_before_utc),
        "not_after": utc(certificate.not_valid_after_utc),
        "key": key_words(certificate),
        "signature": signature_words(certificate),
        "subject_alt_names": list(subject_alt_names(certificate)),
        "key_usage": list(key_usage(certificate)),
        "extended_key_usage": list(extended_key_usage(certificate)),
        "sha256": fingerprint(certificate),
    }


def certificate_card(certificate: x509.Certificate, now: datetime) -> Iterator[tuple[str, str]]:
    """Yield all details of a certificate as pairs of label and value."""
    yield "subject", _name(certificate.subject)
    yield "issuer", _name(certificate.issuer)
    yield "serial", f"{serial_number(certificate):x}"
    yield "from", utc(certificate.not_valid_before_utc)
    yield "until", f"{utc(certificate.not_valid_after_utc)} ({days_left(certificate, now)})"
    yield "key", key_words(certificate)
    yield "signature", signature_words(certificate)
    yield "names", listed(subject_alt_names(certificate)) or "no subjectAltName"
    yield "key usage", ", ".join(key_usage(certificate)) or "no such extension"
    yield "extended", ", ".join(extended_key_usage(certificate)) or "no such extension"
    yield "SHA-256", fingerprint(certificate)


def days_left(certificate: x509.Certificate, now: datetime) -> str:
    """Return ``30 days left``, ``5 hours left`` or ``expired 2 days ago``."""
    left = certificate.not_valid_after_utc - now
    return f"expired {span(-left)} ago" if left < timedelta(0) else f"{span(left)} left"


def key_words(certificate: x509.Certificate) -> str:
    """Return type and size of the public key: ``ECDSA P-256``, ``RSA 2048``."""
    key = public_key(certificate)
    match key:
        case None:
            return "unreadable, or of an unknown kind"
        case rsa.RSAPublicKey():
            return f"RSA {key.key_size}"
        case ec.EllipticCurvePublicKey():
            return f"ECDSA {key.curve.name.replace('secp256r1', 'P-256').replace('secp384r1', 'P-384')}"
        case ed25519.Ed25519PublicKey():
            return "Ed25519"
        case ed448.Ed448PublicKey():
            return "Ed448"
    return type(key).__name__


def signature_words(certificate: x509.Certificate) -> str:
    """Return the signature's hash, or that the algorithm has none."""
    return signature_hash(certificate) or "no separate hash"


def key_usage(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the key usages by their RFC 5280 names; empty without the extension."""
    usage = extension(certificate, x509.KeyUsage)
    if usage is None:
        return ()
    return tuple(name for attribute, name in _USAGES.items() if getattr(usage, attribute))


def extended_key_usage(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the extended key usages by name; empty without the extension."""
    usage = extension(certificate, x509.ExtendedKeyUsage)
    return tuple(getattr(oid, "_name", oid.dotted_string) for oid in usage or ())


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of the certificate's DER, in lower-case hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def utc(when: datetime) -> str:
    """Return an aware time as ISO 8601 in UTC, ending in Z."""
    return when.isoformat().replace("+00:00", "Z")


def _name(name: x509.Name) -> str:
    return name_text(name) or "(empty name)"
