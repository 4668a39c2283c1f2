"""Identities of untrusted CAs, and the fields that a look-alike copies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pytest_etcdtls.errors import NotVerifiedError
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates
from pytest_etcdtls.pki.go_parser import children
from pytest_etcdtls.pki.identities import foreign_ca, lookalike_ca, self_signed
from pytest_etcdtls.pki.profile import AUTHORITY, KeyType

from .conftest import OpenSSL

MASKS = {
    "PrintableString": "nombstr",
    "UTF8String": "utf8only",
    "BMPString": "MASK:0x800",
    "T61String": "MASK:0x4",
}
SUBJECTS = (
    "/CN=etcd-ca",
    "/C=DE/O=Example, Inc./OU=etcd/CN=etcd CA 1",
    "/DC=org/DC=example/CN=ca/emailAddress=ca@example.org",
    "/O=example/OU=two+CN=in one",
    "/serialNumber=12/CN=ca/1.3.6.1.4.1.55555.1=own",
)
# Positions in TBSCertificate (RFC 5280 section 4.1).
ISSUER, SUBJECT = 3, 5


def raw_name(certificate: x509.Certificate, position: int) -> bytes:
    """The octets of a Name in the certificate, not as a library encodes them."""
    tbs, _, _ = children(certificate.public_bytes(Encoding.DER))
    return children(tbs)[position]


def authority_key_identifier(certificate: x509.Certificate) -> bytes | None:
    return certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier


def subject_key_identifier(certificate: x509.Certificate) -> bytes:
    return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


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


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("mask", MASKS)
def test_issuer_is_byte_for_byte_the_announced_name(
    tmp_path: Path, openssl: OpenSSL, mask: str, subject: str
) -> None:
    ca = openssl_ca(openssl, tmp_path, subject, MASKS[mask])
    announced = raw_name(ca, SUBJECT)
    identity = lookalike_ca([x509.Name.from_bytes(announced)], [])
    assert raw_name(identity.chain[0], ISSUER) == announced


def test_umlauts_keep_their_encoding(tmp_path: Path, openssl: OpenSSL) -> None:
    for mask in ("utf8only", "pkix"):
        ca = openssl_ca(openssl, tmp_path, "/O=Größe GmbH/CN=étcd CA", mask)
        identity = lookalike_ca([], [ca])
        assert raw_name(identity.chain[0], ISSUER) == raw_name(ca, SUBJECT)


def test_openssl_finds_the_trusted_ca_as_issuer(tmp_path: Path, openssl: OpenSSL) -> None:
    """Name and key identifier are those of the trusted CA, and only the signature differs."""
    ca = openssl_ca(openssl, tmp_path, "/CN=etcd-ca", "utf8only")
    identity = lookalike_ca([ca.subject], [ca])
    assert authority_key_identifier(identity.chain[0]) == subject_key_identifier(ca)
    (tmp_path / "leaf.crt").write_bytes(encode_certificates(identity.chain))
    result = openssl("verify", "-CAfile", tmp_path / "ca.crt", tmp_path / "leaf.crt", check=False)
    assert result.returncode != 0
    assert "certificate signature failure" in result.stderr


@pytest.mark.parametrize("key_type", [k for k in KeyType if k is not KeyType.RSA_4096])
def test_signature_algorithm_is_that_of_the_trusted_ca(key_type: KeyType) -> None:
    ca = CertificateAuthority.create("etcd-ca", key_type)
    leaf = lookalike_ca([ca.certificate.subject], [ca.certificate]).chain[0]
    assert leaf.signature_algorithm_oid == ca.certificate.signature_algorithm_oid


def test_announced_name_with_a_known_ca_is_preferred(ca: CertificateAuthority) -> None:
    other = CertificateAuthority.create("other CA").certificate
    leaf = lookalike_ca([other.subject, ca.certificate.subject], [ca.certificate]).chain[0]
    assert leaf.issuer == ca.certificate.subject
    assert authority_key_identifier(leaf) == subject_key_identifier(ca.certificate)


def test_the_first_trusted_ca_is_copied_of_equal_subjects() -> None:
    first, second = (CertificateAuthority.create("etcd-ca").certificate for _ in range(2))
    leaf = lookalike_ca([first.subject], [first, second]).chain[0]
    assert authority_key_identifier(leaf) == subject_key_identifier(first)


def test_announced_name_alone_is_sufficient(ca: CertificateAuthority) -> None:
    leaf = lookalike_ca([ca.certificate.subject], []).chain[0]
    assert leaf.issuer == ca.certificate.subject
    assert authority_key_identifier(leaf) != subject_key_identifier(ca.certificate)


def test_trusted_ca_without_key_identifier_is_copied_by_its_key() -> None:
    profile = replace(AUTHORITY, subject_key_identifier=False)
    trusted = CertificateAuthority.create("etcd-ca", profile=profile).certificate
    expected = x509.SubjectKeyIdentifier.from_public_key(trusted.public_key()).digest
    assert authority_key_identifier(lookalike_ca([], [trusted]).chain[0]) == expected


def test_no_announced_and_no_trusted_ca_is_not_verified() -> None:
    with pytest.raises(NotVerifiedError, match="--etcd-trusted-ca"):
        lookalike_ca([], [])


def test_self_signed_is_its_own_issuer_and_no_ca() -> None:
    (leaf,) = self_signed().chain
    leaf.verify_directly_issued_by(leaf)
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_foreign_ca_is_new_each_time() -> None:
    (first,), (second,) = foreign_ca().chain, foreign_ca().chain
    assert first.issuer == second.issuer
    assert authority_key_identifier(first) != authority_key_identifier(second)
