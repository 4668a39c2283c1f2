"""The recipes are run unchanged, and their identities are compared with the issued ones."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates, encode_key
from pytest_etcdtls.pki.certificate import load_identity
from pytest_etcdtls.pki.identities import (
    ISSUED_NAMES,
    foreign_ca,
    issue_identities,
    lookalike_ca,
    self_signed,
)
from pytest_etcdtls.pki.profile import Identity, KeyType

from .conftest import DEADLINE
from .test_issued import facts
from .test_untrusted import ISSUER, authority_key_identifier, raw_name

pytestmark = pytest.mark.program("openssl")


def follow(identity: Identity, directory: Path) -> Identity:
    """Run a recipe in a new shell and return the identity that it wrote."""
    subprocess.run(
        ["sh", "-eu", "-c", "\n".join(identity.recipe)],
        cwd=directory,
        check=True,
        capture_output=True,
        timeout=DEADLINE,
    )
    return load_identity(
        directory / f"{identity.name}.crt", directory / f"{identity.name}.key", identity.name
    )


@pytest.mark.parametrize("name", ISSUED_NAMES)
def test_issued_identities(authority: CertificateAuthority, tmp_path: Path, name: str) -> None:
    (tmp_path / "ca's.crt").write_bytes(encode_certificates([authority.certificate]))
    (tmp_path / "ca's.key").write_bytes(encode_key(authority.key))
    ours = issue_identities(authority, [name], ca_files=("ca's.crt", "ca's.key"))[name]
    theirs = follow(ours, tmp_path)
    assert facts(theirs) == facts(ours)
    last, issuers = theirs.chain[-1], authority.certificate
    if name != "intermediate-missing":
        last.verify_directly_issued_by(issuers)
    assert theirs.chain[0].issuer == ours.chain[0].issuer
    assert theirs.chain[0].serial_number > 0


@pytest.mark.parametrize("make", [self_signed, foreign_ca])
def test_untrusted(tmp_path: Path, make: object) -> None:
    assert callable(make)
    ours: Identity = make()
    theirs = follow(ours, tmp_path)
    assert facts(theirs) == facts(ours)
    assert theirs.chain[0].issuer == ours.chain[0].issuer


@pytest.mark.parametrize("key_type", [k for k in KeyType if k is not KeyType.RSA_4096])
def test_lookalike(tmp_path: Path, key_type: KeyType) -> None:
    ca = CertificateAuthority.create("etcd-ca", key_type).certificate
    ours = lookalike_ca([ca.subject], [ca])
    theirs = follow(ours, tmp_path)
    assert facts(theirs) == facts(ours)
    leaf = theirs.chain[0]
    assert raw_name(leaf, ISSUER) == raw_name(ours.chain[0], ISSUER)
    assert authority_key_identifier(leaf) == authority_key_identifier(ours.chain[0])
    made = x509.load_pem_x509_certificate((tmp_path / "lookalike-ca-authority.crt").read_bytes())
    assert type(made.public_key()) is type(ca.public_key())
    assert made.public_key() != ca.public_key()


def test_no_recipe_contains_a_key(ca: CertificateAuthority) -> None:
    identities = [
        *issue_identities(ca).values(),
        self_signed(),
        foreign_ca(),
        lookalike_ca([], [ca.certificate]),
    ]
    for identity in identities:
        assert identity.recipe
        assert "PRIVATE" not in "".join(identity.recipe)
