"""Blocks of PEM as Go finds them, and what is said of a file of trusted CAs; ``declared`` has it on etcds.

The expected values were those of ``pem.Decode`` of Go 1.16 to 1.26.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from oracle.crls import pem

from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates, encode_key
from pytest_etcdtls.pki.certificate import load_trusted_file, read_pool
from pytest_etcdtls.pki.go_pem import decode

CA, OTHER = (CertificateAuthority.create(name) for name in ("a CA", "another CA"))
PEM, OTHER_PEM = (encode_certificates([one.certificate]) for one in (CA, OTHER))
DER = CA.certificate.public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    ("data", "blocks"),
    [
        (b"-----BEGIN A-----\nQUJD\n-----END A-----", {"A": b"ABC"}),
        (b"-----BEGIN A-----\nQUJD\n-----END A-----\r", {}),
        (b"text\n-----BEGIN A-----\nQU JD\t\n-----END A----- \ntext", {"A": b"ABC"}),
        (b"-----BEGIN A-----\nK: v\n\nQUJD\n-----END A-----\n", {"A": b"ABC"}),
        (b"-----BEGIN A-----\nK: v\n-----END A-----\n", {}),
        (b"-----BEGIN A-----\n-----END A-----\n", {"A": b""}),
        (b"-----BEGIN A-----\nQUJD\n-----END B-----\n", {}),
        (b"-----BEGIN A-----\nQUJ\n-----END A-----\n", {}),
        (b"-----BEGIN A-----\nQUI=QUI=\n-----END A-----\n", {}),
        (b"-----BEGIN A-----\nQUJD====\n-----END A-----\n", {}),
        (b"-----BEGIN A-----\nQUJD\n-----END A----------BEGIN B-----\nQUJD\n-----END B-----\n", {}),
        (
            b"-----BEGIN A-----\nQUJD\n-----END A-----x\n-----BEGIN B-----\nQUJD\n-----END B-----\n",
            {"B": b"ABC"},
        ),
        (
            b"-----BEGIN A-----\nQUJD\n----END A-----\n-----BEGIN B-----\nQUJD\n-----END B-----\n",
            {"B": b"ABC"},
        ),
    ],
)
def test_blocks_are_those_of_go(data: bytes, blocks: dict[str, bytes]) -> None:
    assert {block.label: block.content for block in decode(data)} == blocks


def test_many_blocks_take_linear_time() -> None:
    """Each of these would take hours in quadratic time."""
    for part in (b"-----BEGIN A-----\n", b"-----BEGIN A-----\nK: v\n", b"\n-----END A-----"):
        assert list(decode(part * 50_000)) == []
    assert len(list(decode(b"-----BEGIN :-----\n\n-----END :-----\n" * 50_000))) == 50_000


@pytest.mark.parametrize(
    "data",
    [
        # What etcd skips is not trusted.
        PEM.rstrip() + OTHER_PEM + PEM,
        # With these etcd does not start, or trusts nobody: they are read leniently.
        PEM + encode_key(CA.key),
        DER,
    ],
    ids=["skipped", "key", "der"],
)
def test_a_file_of_trusted_cas_is_loaded_as_etcd_does(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(data)
    assert load_trusted_file(path, option="trusted-ca-file")[0] == (CA.certificate,)


def test_blocks_of_which_etcd_does_not_start_or_trusts_nobody_are_named() -> None:
    for label, content in (("X509 CRL", CA.crl()), ("CERTIFICATE", DER[:-1])):
        pool = read_pool(PEM + pem(content, label) + OTHER_PEM)
        assert f"block 2, {label}, is not a certificate" in pool.refused
        assert pool.certificates == (CA.certificate, OTHER.certificate)
    assert "there is data after the certificate" in read_pool(pem(DER + b"\x30\x00", "CERTIFICATE")).refused
    for data, nothing in ((b" \n", "is empty"), (DER, "is DER"), (b"text", "has no PEM block")):
        pool = read_pool(data)
        assert (pool.certificates, pool.refused) == ((), "")
        assert pool.nothing.startswith(nothing)


def test_certificates_that_are_written_into_each_other_are_skipped_and_comments_are_not() -> None:
    pool = read_pool(PEM.rstrip() + OTHER_PEM + PEM)
    assert pool.certificates == (CA.certificate,)
    assert (pool.skipped, pool.nothing) == (1, "")
    comment = b"".join(b"# " + line for line in OTHER_PEM.splitlines(keepends=True))
    pool = read_pool(comment + PEM + b"  " + PEM + OTHER_PEM.replace(b"-----END", b" -----END"))
    assert pool.certificates == (CA.certificate,)
    assert pool.skipped == 1
