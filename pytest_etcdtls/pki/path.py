"""Which certificate signed which, and the path from a leaf to an anchor that is to be judged.

Where Go accepts none, the best by names and signatures alone is taken, for checks to say what is wrong.
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
    """Return whether the issuer has the stated name and its key made the signature, weak ones included."""
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
    """Return whether its own key has signed it."""
    return signed_by(certificate, certificate)


def find_path(
    leaf: x509.Certificate,
    pool: Sequence[x509.Certificate],
    anchors: Sequence[x509.Certificate],
    when: datetime,
) -> Path | None:
    """Return a path from the leaf to an anchor, both included, ``None`` if there is none.

    One that a Go client accepts comes first, since any will do; else the one with the fewest faults. As in
    Go, every certificate of a bundle is an anchor, also an intermediate one, also the leaf itself.

    Args:
        leaf: where it begins.
        pool: certificates that may stand between.
        anchors: where it may end.
        when: the time for which it is judged.
    """
    if leaf in anchors:
        return (leaf,)
    if path := verified_path(leaf, pool, anchors, when):
        return path
    paths = islice(_Signatures(pool, anchors).paths((leaf,)), _MOST_PATHS)
    return min(paths, key=lambda path: (len(list(faults(path, when))), len(path)), default=None)


def faults(path: Path, when: datetime) -> Iterator[str]:
    """Yield why a Go client does not accept a path, whose names and signatures fit, for a server."""
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
    """A search by names and signatures alone, bounded, since a server decides what there is to search."""

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
