"""Signs what the cryptography library refuses to: SHA-1, and serial numbers that RFC 5280 forbids.

Takes a certificate apart, exchanges the fields, and signs again. Knows no profiles.
"""

from __future__ import annotations

import warnings

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning

from pytest_etcdtls.pki.der import BIT_STRING, INTEGER, SEQUENCE, children, encode, encode_integer
from pytest_etcdtls.pki.identity import PrivateKey

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
