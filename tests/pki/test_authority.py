from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates
from pytest_etcdtls.pki.profile import AUTHORITY, CLIENT, SERVER, KeyType, generate_key

from .conftest import OpenSSL


def test_every_key_type_signs_what_openssl_verifies(
    authority: CertificateAuthority, tmp_path: Path, openssl: OpenSSL
) -> None:
    (tmp_path / "ca.crt").write_bytes(encode_certificates([authority.certificate]))
    for key in (authority.key, generate_key(KeyType.ECDSA_P256), generate_key(KeyType.ED25519)):
        server = authority.issue(SERVER, name="server", key=key, hosts=("localhost", "127.0.0.1"))
        (tmp_path / "server.crt").write_bytes(encode_certificates(server.chain))
        for purpose in ("sslserver", "sslclient"):
            openssl(
                *("verify", "-x509_strict", "-purpose", purpose, "-CAfile", tmp_path / "ca.crt"),
                *("-verify_ip", "127.0.0.1", tmp_path / "server.crt"),
            )


@pytest.mark.parametrize("key_type", [k for k in KeyType if k is not KeyType.RSA_4096])
def test_leaf_has_the_key_type_of_its_ca(key_type: KeyType) -> None:
    ca = CertificateAuthority.create("CA", key_type)
    leaf = ca.issue(CLIENT, name="client")
    assert type(leaf.key) is type(ca.key)
    assert leaf.key is not None
    assert leaf.chain[0].public_key() == leaf.key.public_key()


def test_leaf_may_have_a_key_of_another_type(ca: CertificateAuthority) -> None:
    leaf = ca.issue(replace(CLIENT, key_type=KeyType.ED25519), name="client")
    assert type(leaf.key) is type(generate_key(KeyType.ED25519))


def test_intermediates_are_sent_and_verified(
    ca: CertificateAuthority, tmp_path: Path, openssl: OpenSSL
) -> None:
    lower = ca.intermediate("upper").intermediate("lower")
    identity = lower.issue(CLIENT, name="client")
    subjects = [certificate.subject.rfc4514_string() for certificate in identity.chain]
    assert subjects == ["CN=client", "CN=lower", "CN=upper"]
    assert lower.root is ca
    (tmp_path / "ca.crt").write_bytes(encode_certificates([ca.certificate]))
    (tmp_path / "client.crt").write_bytes(encode_certificates(identity.chain))
    verify = ("verify", "-x509_strict", "-CAfile", tmp_path / "ca.crt")
    openssl(*verify, "-untrusted", tmp_path / "client.crt", tmp_path / "client.crt")
    alone = openssl(*verify, tmp_path / "client.crt", check=False)
    assert alone.returncode != 0
    assert "unable to get local issuer" in alone.stderr


def test_loaded_intermediate_counts_as_the_anchor(ca: CertificateAuthority) -> None:
    below = ca.intermediate("below")
    loaded = CertificateAuthority.from_key(below.certificate, below.key)
    assert (loaded.chain, loaded.root) == ((), loaded)


def test_key_of_another_ca_is_an_error(ca: CertificateAuthority) -> None:
    other = CertificateAuthority.create("other")
    with pytest.raises(ValueError, match="does not belong to the certificate of CN=test CA"):
        CertificateAuthority.from_key(ca.certificate, other.key)


def test_ca_without_key_identifier_is_referred_to_by_its_key() -> None:
    ca = CertificateAuthority.create("CA", profile=replace(AUTHORITY, subject_key_identifier=False))
    leaf = ca.issue(CLIENT, name="client").chain[0]
    referred = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert referred == x509.SubjectKeyIdentifier.from_public_key(ca.key.public_key()).digest


def test_key_is_never_shown(ca: CertificateAuthority) -> None:
    identity = ca.issue(CLIENT, name="client")
    assert repr(ca) == "<CertificateAuthority CN=test CA>"
    assert "key=" not in repr(identity)
    assert "PrivateKey" not in repr(identity)


def test_crl_names_what_is_revoked(authority: CertificateAuthority, tmp_path: Path, openssl: OpenSSL) -> None:
    key = authority.key
    good = authority.issue(CLIENT, name="good", key=key).chain[0]
    revoked = authority.issue(CLIENT, name="revoked", key=key).chain[0]
    authority.revoke(revoked)
    crl = x509.load_der_x509_crl(authority.crl())
    assert crl.get_revoked_certificate_by_serial_number(revoked.serial_number) is not None
    assert crl.get_revoked_certificate_by_serial_number(good.serial_number) is None
    assert crl.is_signature_valid(authority.key.public_key())
    (tmp_path / "crl.pem").write_bytes(authority.crl("pem"))
    (tmp_path / "ca.crt").write_bytes(encode_certificates([authority.certificate]))
    verify = ("verify", "-x509_strict", "-crl_check", "-CAfile", tmp_path / "ca.crt")
    for certificate, message in ((good, ""), (revoked, "certificate revoked")):
        (tmp_path / "leaf.crt").write_bytes(encode_certificates([certificate]))
        result = openssl(*verify, "-CRLfile", tmp_path / "crl.pem", tmp_path / "leaf.crt", check=False)
        assert message in result.stderr
        assert (result.returncode == 0) is (message == "")


def test_crl_may_be_empty_and_stale(ca: CertificateAuthority) -> None:
    crl = x509.load_der_x509_crl(ca.crl(valid_for=timedelta(minutes=1)))
    assert len(crl) == 0
    assert crl.next_update_utc is not None
    assert crl.next_update_utc < datetime.now(UTC)


def test_crl_numbers_grow(ca: CertificateAuthority) -> None:
    numbers = [
        x509.load_der_x509_crl(ca.crl()).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        for _ in range(3)
    ]
    assert numbers == [1, 2, 3]
