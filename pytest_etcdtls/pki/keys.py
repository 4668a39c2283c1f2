"""Public keys: what they are, and whether they are strong enough for TLS as Go speaks it.

Knows no certificates. Bounds are those of NIST SP 800-131A and of Go's crypto/tls.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

RSA_LEAST_BITS: Final = 2048
RSA_MOST_BITS: Final = 8192
"""Go's TLS refuses a peer whose certificate has a larger RSA key (crypto/tls, from 1.20.7 on)."""

_RSA_LARGEST_EXPONENT: Final = 2**31 - 1
"""Of Go's crypto/rsa."""

_CURVES: Final = frozenset({"secp256r1", "secp384r1", "secp521r1"})

STRONG: Final = "RSA of 2048 to 8192 bits, ECDSA on P-256, P-384 or P-521, or Ed25519"


def describe_key(key: CertificatePublicKeyTypes | None) -> str:
    """Return ``RSA 2048 bits``, ``ECDSA secp256r1`` or ``Ed25519``."""
    match key:
        case rsa.RSAPublicKey():
            return f"RSA {key.key_size} bits"
        case ec.EllipticCurvePublicKey():
            return f"ECDSA {key.curve.name}"
        case ed25519.Ed25519PublicKey():
            return "Ed25519"
    return "a key of unknown kind" if key is None else type(key).__name__.removesuffix("PublicKey")


def is_strong(key: CertificatePublicKeyTypes | None) -> bool:
    """Return whether the key is one of :data:`STRONG`."""
    match key:
        case rsa.RSAPublicKey():
            return RSA_LEAST_BITS <= key.key_size <= RSA_MOST_BITS and _fits_go(key)
        case ec.EllipticCurvePublicKey():
            return key.curve.name in _CURVES
        case ed25519.Ed25519PublicKey():
            return True
    return False


def is_strong_issuer(key: CertificatePublicKeyTypes | None) -> bool:
    """Return whether the key is strong enough for certificates, where TLS does not limit what is used."""
    match key:
        case rsa.RSAPublicKey():
            return key.key_size >= RSA_LEAST_BITS and _fits_go(key)
        case ec.EllipticCurvePublicKey():
            # Go's x509 verifies P-224 too, which is no weaker than RSA of 2048 bits.
            return key.curve.name in _CURVES | {"secp224r1"}
    return is_strong(key)


def _fits_go(key: rsa.RSAPublicKey) -> bool:
    return key.public_numbers().e <= _RSA_LARGEST_EXPONENT


def is_too_long(key: CertificatePublicKeyTypes | None) -> bool:
    """Return whether Go's TLS refuses a server that sends a certificate with it, on the path or not."""
    return isinstance(key, rsa.RSAPublicKey) and key.key_size > RSA_MOST_BITS
