"""What is said of a signature that Go does not verify."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from pytest_etcdtls.pki.go_verify import signature_problem

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
