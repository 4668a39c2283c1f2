"""Which certificate signed which, and paths from a leaf to an anchor: by names and signatures alone.

Validity, usages and constraints are for others to judge. Names are compared as DER, as Go's x509 does.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import HashAlgorithm

from pytest_etcdtls.pki.reading import public_key

Path = tuple[x509.Certificate, ...]


def signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Return whether the issuer has the stated name and its key made the signature, weak ones included."""
    if certificate.issuer.public_bytes() != issuer.subject.public_bytes():
        return False
    try:
        return _verified(certificate, issuer)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False


def _verified(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    signature, signed = certificate.signature, certificate.tbs_certificate_bytes
    match public_key(issuer), certificate.signature_hash_algorithm:
        case rsa.RSAPublicKey() as key, HashAlgorithm() as hash_:
            scheme = certificate.signature_algorithm_parameters
            if not isinstance(scheme, padding.PKCS1v15 | padding.PSS):
                return False
            key.verify(signature, signed, scheme, hash_)
        case ec.EllipticCurvePublicKey() as key, HashAlgorithm() as hash_:
            key.verify(signature, signed, ec.ECDSA(hash_))
        case ed25519.Ed25519PublicKey() as key, None:
            key.verify(signature, signed)
        case _:
            return False
    return True


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Return whether its own key has signed it."""
    return signed_by(certificate, certificate)


def find_path(
    leaf: x509.Certificate,
    pool: Sequence[x509.Certificate],
    anchors: Sequence[x509.Certificate],
    when: datetime,
) -> Path | None:
    """Return a path from the leaf to an anchor, both included, ``None`` if there is none.

    As in Go, every certificate of a bundle is an anchor, also an intermediate one, also the leaf itself.

    Args:
        leaf: where it begins.
        pool: certificates that may stand between.
        anchors: where it may end.
        when: certificates that are valid then are preferred.
    """
    if leaf in anchors:
        return (leaf,)
    visited: set[x509.Certificate] = set()

    def onward(path: Path) -> Path | None:
        for anchor in _valid_first(anchors, when):
            if signed_by(path[-1], anchor):
                return (*path, anchor)
        for candidate in _valid_first(pool, when):
            if candidate not in visited and candidate != leaf and signed_by(path[-1], candidate):
                visited.add(candidate)
                if found := onward((*path, candidate)):
                    return found
        return None

    return onward((leaf,))


def issuers_among(leaf: x509.Certificate, pool: Sequence[x509.Certificate], when: datetime) -> Path:
    """Return the issuers of the leaf as far as the pool goes, the next one first, ``()`` for none.

    Args:
        leaf: whose; one that is self-signed has no other.
        pool: where they are looked for.
        when: certificates that are valid then are preferred.
    """
    path: Path = (leaf,)
    while not is_self_signed(path[-1]):
        above = (found for found in _valid_first(pool, when) if found not in path)
        issuer = next((found for found in above if signed_by(path[-1], found)), None)
        if issuer is None:
            break
        path = (*path, issuer)
    return path[1:]


def ancestors(leaf: x509.Certificate, pool: Sequence[x509.Certificate]) -> frozenset[x509.Certificate]:
    """Return the certificates of the pool that stand above the leaf on any path."""
    found: set[x509.Certificate] = set()
    fresh = {leaf}
    while fresh:
        fresh = {
            candidate
            for candidate in pool
            if candidate not in found and any(signed_by(below, candidate) for below in fresh)
        }
        found |= fresh
    return frozenset(found - {leaf})


def _valid_first(certificates: Sequence[x509.Certificate], when: datetime) -> list[x509.Certificate]:
    return sorted(
        certificates, key=lambda found: not found.not_valid_before_utc <= when <= found.not_valid_after_utc
    )
