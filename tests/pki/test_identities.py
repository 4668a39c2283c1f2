"""Issued identities have one fault each, those of untrusted CAs copy names, and recipes make both."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from pytest_etcdtls.checks.cert_form import state_of
from pytest_etcdtls.errors import NotVerifiedError
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates, encode_key
from pytest_etcdtls.pki.certificate import load_identity
from pytest_etcdtls.pki.go_parser import children
from pytest_etcdtls.pki.identities import (
    ISSUED_NAMES,
    VALID_COUNTERPARTS,
    foreign_ca,
    issue_identities,
    lookalike_ca,
    self_signed,
)
from pytest_etcdtls.pki.profile import AUTHORITY, Identity

from .conftest import DEADLINE, OpenSSL

CA = CertificateAuthority.create("test CA")


def facts(identity: Identity) -> dict[str, object]:
    """Return the facts that distinguish identities."""
    leaf, now = identity.chain[0], datetime.now(UTC)
    extensions = leaf.extensions
    names = [e.value for e in extensions if isinstance(e.value, x509.SubjectAlternativeName)]
    return {
        "subject": leaf.subject.rfc4514_string(),
        "names": [str(name.value) for name in names[0]] if names else None,
        "usages": list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value),
        "key usage": extensions.get_extension_for_class(x509.KeyUsage).value,
        "ca": extensions.get_extension_for_class(x509.BasicConstraints).value.ca,
        "started": leaf.not_valid_before_utc <= now,
        "ended": leaf.not_valid_after_utc <= now,
        "sent": len(identity.chain),
    }


def authority_identifier(certificate: x509.Certificate) -> bytes | None:
    return certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier


def subject_identifier(certificate: x509.Certificate) -> bytes:
    return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


# Positions in TBSCertificate (RFC 5280 section 4.1).
ISSUER, SUBJECT = 3, 5


def raw_name(certificate: x509.Certificate, position: int) -> bytes:
    """Return the octets of a Name in the certificate, not as a library encodes them."""
    tbs, _, _ = children(certificate.public_bytes(Encoding.DER))
    return children(tbs)[position]


# -- issued by a CA -------------------------------------------------------------------------------------

DIFFERENCES: dict[str, dict[str, object]] = {
    "expired": {"ended": True},
    "not-yet-valid": {"started": False},
    "server-auth-only": {"usages": [ExtendedKeyUsageOID.SERVER_AUTH]},
    "wrong-cn": {"subject": "CN=pytest-etcdtls-wrong-cn"},
    "wrong-hostname": {"names": None},
    "wrong-san": {"names": ["192.0.2.1"]},
    "intermediate-missing": {"sent": 1},
}


def test_a_bad_identity_differs_from_its_valid_counterpart_in_one_point() -> None:
    issued = issue_identities(CA, subject_alt_names=("allowed.example",))
    assert set(issued) == set(ISSUED_NAMES)
    differences = {}
    for name, valid_counterpart in VALID_COUNTERPARTS.items():
        bad, good = facts(issued[name]), facts(issued[valid_counterpart])
        differences[name] = {key: value for key, value in bad.items() if value != good[key]}
    assert differences == DIFFERENCES
    public_keys = [identity.chain[0].public_key() for identity in issued.values()]
    assert all(key == public_keys[0] for key in public_keys)
    issued["intermediate-missing"].chain[0].verify_directly_issued_by(issued["intermediate-sent"].chain[1])


# -- of untrusted CAs -----------------------------------------------------------------------------------

SUBJECTS = (
    "/CN=etcd-ca",
    "/C=DE/O=Größe, Inc./OU=etcd/CN=étcd CA 1",
    "/DC=org/DC=example/CN=ca/emailAddress=ca@example.org",
    "/O=example/OU=two+CN=in one",
    "/serialNumber=12/CN=ca/1.3.6.1.4.1.55555.1=own",
)


def openssl_ca(openssl: OpenSSL, directory: Path, subject: str, mask: str) -> x509.Certificate:
    (directory / "req.cnf").write_text(
        f"[req]\ndistinguished_name=dn\nstring_mask={mask}\n[dn]\n", encoding="utf-8"
    )
    openssl(
        *("req", "-x509", "-config", directory / "req.cnf", "-subj", subject, "-utf8", "-days", "1"),
        *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-addext", "subjectKeyIdentifier=hash", "-addext", "basicConstraints=critical,CA:TRUE"),
        *("-keyout", directory / "ca.key", "-out", directory / "ca.crt"),
    )
    return x509.load_pem_x509_certificate((directory / "ca.crt").read_bytes())


@pytest.mark.parametrize("mask", ["utf8only", "pkix", "MASK:0x800"])
def test_a_lookalike_has_the_octets_of_the_trusted_name(tmp_path: Path, openssl: OpenSSL, mask: str) -> None:
    """Whatever type of string openssl writes: PrintableString, UTF8String, BMPString."""
    for subject in SUBJECTS:
        ca = openssl_ca(openssl, tmp_path, subject, mask)
        announced = raw_name(ca, SUBJECT)
        for identity in (lookalike_ca([x509.Name.from_bytes(announced)], []), lookalike_ca([], [ca])):
            assert raw_name(identity.chain[0], ISSUER) == announced


def test_openssl_finds_the_trusted_ca_as_issuer(tmp_path: Path, openssl: OpenSSL) -> None:
    """Name and key identifier are those of the trusted CA, and only the signature differs."""
    ca = openssl_ca(openssl, tmp_path, "/CN=etcd-ca", "utf8only")
    identity = lookalike_ca([ca.subject], [ca])
    assert authority_identifier(identity.chain[0]) == subject_identifier(ca)
    (tmp_path / "leaf.crt").write_bytes(encode_certificates(identity.chain))
    result = openssl("verify", "-CAfile", tmp_path / "ca.crt", tmp_path / "leaf.crt", check=False)
    assert result.returncode != 0
    assert "certificate signature failure" in result.stderr


def test_which_ca_a_lookalike_copies() -> None:
    """One that is announced and known, before others; the first of one name; else what is known of it."""
    other, first, second = (CertificateAuthority.create(n).certificate for n in ("other", "etcd", "etcd"))
    leaf = lookalike_ca([other.subject, first.subject], [first, second]).chain[0]
    assert leaf.issuer == first.subject
    assert authority_identifier(leaf) == subject_identifier(first)
    leaf = lookalike_ca([first.subject], []).chain[0]
    assert leaf.issuer == first.subject
    assert authority_identifier(leaf) != subject_identifier(first)
    without = replace(AUTHORITY, subject_key_identifier=False)
    trusted = CertificateAuthority.create("etcd", profile=without).certificate
    of_key = x509.SubjectKeyIdentifier.from_public_key(trusted.public_key()).digest
    assert authority_identifier(lookalike_ca([], [trusted]).chain[0]) == of_key
    with pytest.raises(NotVerifiedError, match="--etcd-trusted-ca"):
        lookalike_ca([], [])


def test_identities_of_other_cas_are_always_valid_and_new() -> None:
    """They must be refused for their CA, so nothing else may be wrong with them."""
    for identity in (self_signed(), foreign_ca(), lookalike_ca([], [CA.certificate])):
        for year in (1970, 2020, 2060, 9000):
            assert not state_of(identity.chain[0], datetime(year, 1, 1, tzinfo=UTC))
    (first,), (second,) = foreign_ca().chain, foreign_ca().chain
    assert first.issuer == second.issuer
    assert authority_identifier(first) != authority_identifier(second)
    (own,) = self_signed().chain
    own.verify_directly_issued_by(own)


# -- recipes --------------------------------------------------------------------------------------------


def follow(identity: Identity, directory: Path) -> Identity:
    """Run a recipe in a new shell and return the identity that it wrote."""
    assert identity.recipe
    assert "PRIVATE" not in "".join(identity.recipe)
    subprocess.run(
        ["sh", "-eu", "-c", "\n".join(identity.recipe)],
        cwd=directory,
        check=True,
        capture_output=True,
        timeout=DEADLINE,
    )
    stem = directory / identity.name
    theirs = load_identity(stem.with_suffix(".crt"), stem.with_suffix(".key"), identity.name)
    assert facts(theirs) == facts(identity)
    assert theirs.chain[0].issuer == identity.chain[0].issuer
    assert theirs.chain[0].serial_number > 0
    return theirs


@pytest.mark.program("openssl")
@pytest.mark.parametrize("name", ISSUED_NAMES)
def test_recipes_of_issued_identities(authority: CertificateAuthority, tmp_path: Path, name: str) -> None:
    (tmp_path / "ca's.crt").write_bytes(encode_certificates([authority.certificate]))
    (tmp_path / "ca's.key").write_bytes(encode_key(authority.key))
    theirs = follow(issue_identities(authority, ca_files=("ca's.crt", "ca's.key"))[name], tmp_path)
    if name != "intermediate-missing":
        theirs.chain[-1].verify_directly_issued_by(authority.certificate)


@pytest.mark.program("openssl")
def test_recipes_of_untrusted_identities(authority: CertificateAuthority, tmp_path: Path) -> None:
    for identity in (self_signed(), foreign_ca()):
        follow(identity, tmp_path)
    ca = authority.certificate
    ours = lookalike_ca([ca.subject], [ca])
    theirs = follow(ours, tmp_path)
    assert ours.chain[0].signature_algorithm_oid == ca.signature_algorithm_oid
    assert raw_name(theirs.chain[0], ISSUER) == raw_name(ours.chain[0], ISSUER)
    assert authority_identifier(theirs.chain[0]) == authority_identifier(ours.chain[0])
    made = x509.load_pem_x509_certificate((tmp_path / "lookalike-ca-authority.crt").read_bytes())
    assert type(made.public_key()) is type(ca.public_key())
    assert made.public_key() != ca.public_key()
