"""A certificate and its issuer, made on the spot with one thing wrong: what counterexamples of checks show.

Knows no checks; keeps no keys.
"""

from __future__ import annotations

from cryptography import x509

from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.profile import AUTHORITY, SERVER, Profile


def specimen(
    leaf: Profile = SERVER, *, authority: Profile = AUTHORITY
) -> tuple[x509.Certificate, x509.Certificate]:
    """Return the certificate of a server on this host, and its issuer's."""
    issuer = CertificateAuthority.create("specimen CA", profile=authority)
    return issuer.issue(leaf, name="specimen", hosts=("localhost", "127.0.0.1")).chain[0], issuer.certificate
