"""Which certificates are above another, and what is said of a signature that Go does not verify.

Paths to an anchor are compared with Go in ``oracle``.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from pytest_etcdtls.pki.authority import CertificateAuthority, Issuer, build_certificate
from pytest_etcdtls.pki.go_verify import (
    Rule,
    ancestors,
    constraint_faults,
    find_path,
    is_self_signed,
    issuers_among,
    signature_problem,
)
from pytest_etcdtls.pki.profile import AUTHORITY, SERVER, OtherExtension, Profile

NOW = datetime.now(UTC)
ROOT = CertificateAuthority.create("root")
MIDDLE = ROOT.intermediate("middle")
LOW = MIDDLE.intermediate("low")
OTHER = CertificateAuthority.create("other")


def leaf_of(authority: CertificateAuthority, profile: Profile = SERVER) -> x509.Certificate:
    return authority.issue(profile, name="leaf", hosts=("localhost",)).chain[0]


def cross_signed(
    authority: CertificateAuthority, by: CertificateAuthority, profile: Profile = AUTHORITY
) -> x509.Certificate:
    """Return a certificate of the authority's name and key that another one has signed."""
    issuer = Issuer(by.certificate.subject, by.key, None)
    return build_certificate(profile, authority.key, issuer, subject=authority.certificate.subject)


LEAF = leaf_of(LOW)


def test_the_search_ends_with_ca_certificates_that_signed_each_other() -> None:
    one, other = CertificateAuthority.create("one"), CertificateAuthority.create("other")
    pool = [cross_signed(one, other), cross_signed(other, one)]
    leaf = leaf_of(one)
    assert find_path(leaf, pool, [ROOT.certificate], NOW) is None
    assert ancestors(leaf, pool) == frozenset(pool)
    assert len(issuers_among(leaf, pool, NOW)) == 2


def test_a_valid_certificate_is_preferred() -> None:
    expired = cross_signed(
        LOW, ROOT, replace(AUTHORITY, valid_from=timedelta(days=-2), valid_for=timedelta(days=1))
    )
    valid = cross_signed(LOW, ROOT)
    for pool in ([expired, valid], [valid, expired]):
        assert find_path(LEAF, pool, [ROOT.certificate], NOW) == (LEAF, valid, ROOT.certificate)
        assert issuers_among(LEAF, pool, NOW) == (valid,)
    assert find_path(LEAF, [expired], [ROOT.certificate], NOW) == (LEAF, expired, ROOT.certificate)


def test_names_and_constraints_that_take_long_to_compare_are_not_judged() -> None:
    """2,000 names and 2,000 constraints of a server would take this client most of a minute."""
    begin = time.thread_time()
    permitted = x509.NameConstraints([x509.DNSName(f"a{number}.test") for number in range(2000)], None)
    constrained = replace(
        AUTHORITY, other_extensions=(OtherExtension("2.5.29.30", permitted.public_bytes()),)
    )
    authority = CertificateAuthority.create("ca", profile=constrained)
    names = tuple(f"m{number}.example" for number in range(2000))
    path = (leaf_of(authority, replace(SERVER, subject_alt_names=names)), authority.certificate)
    (flaw,) = constraint_faults(path)
    assert flaw.rule is Rule.UNJUDGED
    assert flaw.text == "has 2000 names, and a CA above it 2000 name constraints"
    assert time.thread_time() - begin < 10


_KEY = rsa.generate_private_key(65537, 2048)
_SHA256 = padding.MGF1(hashes.SHA256())
_OTHER = "RSASSA-PSS with parameters that Go does not take: one hash, and a salt of its length"


@pytest.mark.parametrize(
    ("scheme", "problem"),
    [
        (padding.PKCS1v15(), ""),
        (padding.PSS(_SHA256, 32), ""),
        (padding.PSS(_SHA256, 20), _OTHER),
        (padding.PSS(_SHA256, 222), _OTHER),
        (padding.PSS(padding.MGF1(hashes.SHA512()), 32), _OTHER),
    ],
    ids=["PKCS #1", "salt of the hash's length", "default salt", "longest salt", "another mask"],
)
def test_parameters_that_go_does_not_take_are_named(
    scheme: padding.PSS | padding.PKCS1v15, problem: str
) -> None:
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(x509.Name([]), x509.Name([]), _KEY.public_key(), 1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(_KEY, hashes.SHA256(), rsa_padding=scheme)
    )
    assert signature_problem(certificate) == problem
    assert is_self_signed(certificate)
