"""Finds the issuers of a certificate and its path to a trust anchor.

If Go accepts no path, the best path by names and signatures is used, so that checks can report its faults.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import HashAlgorithm

from pytest_etcdtls.pki.certificate import public_key, shown
from pytest_etcdtls.pki.go_verify import (
    Path,
    details,
    has_signed,
    is_current,
    is_on,
    issuer_faults,
    path_faults,
    verified_path,
)


@functools.lru_cache(maxsize=4096)
def signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Return whether the issuer's name matches and its key verifies the signature, also a weak one."""
    if details(certificate).issuer != details(issuer).subject:
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
    """Return whether the certificate is signed with its own key."""
    return signed_by(certificate, certificate)


def find_path(
    leaf: x509.Certificate,
    pool: Sequence[x509.Certificate],
    anchors: Sequence[x509.Certificate],
    when: datetime,
) -> Path | None:
    """Return a path from the leaf to a trust anchor, both included; ``None`` if there is none.

    A path that a Go client accepts is preferred, else the path with the fewest faults is returned. As in Go,
    every certificate of the bundle is a trust anchor, including an intermediate CA and the leaf itself.

    Args:
        leaf: the first certificate of the path.
        pool: candidates for intermediate certificates.
        anchors: the trust anchors.
        when: the time at which the path is verified.
    """
    if leaf in anchors:
        return (leaf,)
    if path := verified_path(leaf, pool, anchors, when):
        return path
    paths = islice(_Signatures(pool, anchors).paths((leaf,)), _MOST_PATHS)
    return min(paths, key=lambda path: (len(list(faults(path, when))), len(path)), default=None)


def faults(path: Path, when: datetime) -> Iterator[str]:
    """Yield why a Go client refuses a path for a server. The path's names and signatures match."""
    for place, certificate in enumerate(path):
        is_anchor = place == len(path) - 1
        for oid in details(certificate).unhandled:
            yield f"{shown(certificate)} has the critical extension {oid}"
        if not is_current(certificate, when):
            yield f"{shown(certificate)} is not valid then"
        if place:
            for fault in issuer_faults(certificate, place - 1, is_anchor=is_anchor):
                yield f"{shown(certificate)} has {fault}"
        if not is_anchor and not has_signed(path[place + 1], certificate):
            yield f"the signature of {shown(certificate)} is of a kind that Go does not take"
    yield from path_faults(path)


_MOST_PATHS = 50
_MOST_CHECKS = 200


class _Signatures:
    """A search by names and signatures only. It is bounded, since the server supplies the certificates."""

    def __init__(self, pool: Sequence[x509.Certificate], anchors: Sequence[x509.Certificate]) -> None:
        self._pool = tuple(dict.fromkeys(pool))
        self._anchors = tuple(dict.fromkeys(anchors))
        self._checks = 0

    def paths(self, path: Path) -> Iterator[Path]:
        for candidates in (self._anchors, self._pool):
            for candidate in candidates:
                if details(candidate).subject != details(path[-1]).issuer or is_on(path, candidate):
                    continue
                self._checks += 1
                if self._checks > _MOST_CHECKS:
                    return
                if not signed_by(path[-1], candidate):
                    continue
                if candidates is self._anchors:
                    yield (*path, candidate)
                else:
                    yield from self.paths((*path, candidate))


def issuers_among(leaf: x509.Certificate, pool: Sequence[x509.Certificate], when: datetime) -> Path:
    """Return the issuers of the leaf that are in the pool, the direct issuer first; ``()`` for none.

    Args:
        leaf: the certificate; a self-signed one has no other issuer.
        pool: the candidates.
        when: certificates that are valid at this time are preferred.
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
    """Return the certificates of the pool that are above the leaf on any path."""
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
