"""CAs issue and revoke what their profiles say and openssl verifies."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import ClusterPKI, encode_certificates
from pytest_etcdtls.pki.go_parser import details
from pytest_etcdtls.pki.profile import (
    CLIENT,
    SERVER,
    KeyType,
    MemberNames,
    PKIPlan,
    Profile,
    generate_key,
)

from .conftest import OpenSSL

CA = CertificateAuthority.create("test CA")


def leaf(profile: Profile, *hosts: str) -> x509.Certificate:
    return CA.issue(profile, name="leaf", hosts=hosts).chain[0]


def critical(certificate: x509.Certificate) -> dict[type, bool]:
    return {type(extension.value): extension.critical for extension in certificate.extensions}


def test_a_leaf_has_what_its_profile_says() -> None:
    start = datetime(2024, 2, 29, 12, tzinfo=UTC)
    profile = replace(SERVER, key_type=KeyType.ED25519)
    hosts = ("localhost", "127.0.0.1", "::1", "etcd-0.example")
    identity = CA.issue(profile, name="leaf", hosts=hosts, not_before=start)
    certificate = identity.chain[0]
    assert critical(certificate) == {
        x509.BasicConstraints: True,
        x509.KeyUsage: True,
        x509.ExtendedKeyUsage: False,
        x509.SubjectAlternativeName: False,
        x509.SubjectKeyIdentifier: False,
        x509.AuthorityKeyIdentifier: False,
    }
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "etcd-0.example"]
    addresses = [ipaddress.ip_address(text) for text in ("127.0.0.1", "::1")]
    assert names.get_values_for_type(x509.IPAddress) == addresses
    assert type(identity.key) is type(generate_key(KeyType.ED25519))
    assert (certificate.not_valid_before_utc, certificate.not_valid_after_utc) == (
        start,
        start + SERVER.valid_for,
    )
    nameless = leaf(replace(SERVER, common_name=None), "localhost")
    assert not list(nameless.subject)
    assert critical(nameless)[x509.SubjectAlternativeName]


def test_validity_counts_from_an_hour_ago_and_serial_numbers_are_short() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    issued = [leaf(CLIENT) for _ in range(50)]
    hour = timedelta(hours=1)
    assert before - hour <= issued[0].not_valid_before_utc <= datetime.now(UTC) - hour
    serials = {certificate.serial_number for certificate in issued}
    assert len(serials) == 50
    # 20 octets with the sign bit clear (RFC 5280 section 4.1.2.2).
    assert all(0 < serial < 1 << 159 for serial in serials)


UNKNOWN: dict[str, tuple[Callable[[], object], str]] = {
    "name": (lambda: leaf(SERVER, "größe.example"), "A-label"),
    "key usage": (
        lambda: leaf(replace(CLIENT, key_usage=frozenset({"nonRepudiation"}))),
        "unknown key usage nonRepudiation, known are digitalSignature",
    ),
    "hash": (
        lambda: leaf(replace(CLIENT, signature_hash="md4")),
        "unknown signature hash 'md4', known are sha1",
    ),
    "key below 1024 bits": (lambda: generate_key(KeyType.RSA_2048, rsa_bits=512), "1024"),
    "key of another CA": (
        lambda: CertificateAuthority.from_key(CA.certificate, generate_key(KeyType.ECDSA_P256)),
        "does not belong to the certificate of CN=test CA",
    ),
    "no members": (lambda: ClusterPKI.generate(PKIPlan(), []), "members with distinct names"),
    "members of one name": (
        lambda: ClusterPKI.generate(PKIPlan(), [MemberNames("m0"), MemberNames("m0")]),
        "members with distinct names",
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_cannot_be_made_is_an_error(name: str) -> None:
    make, message = UNKNOWN[name]
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("key_type", list(KeyType))
def test_the_names_of_key_types_are_those_of_the_command_line(key_type: KeyType) -> None:
    key = generate_key(key_type)
    size = getattr(key, "key_size", None)
    assert {
        "ecdsa-p256": ("ECPrivateKey", 256),
        "ecdsa-p384": ("ECPrivateKey", 384),
        "rsa-2048": ("RSAPrivateKey", 2048),
        "rsa-4096": ("RSAPrivateKey", 4096),
        "ed25519": ("Ed25519PrivateKey", None),
    }[str(key_type)] == (type(key).__name__, size)


def test_intermediates_are_sent() -> None:
    lower = CA.intermediate("upper").intermediate("lower")
    identity = lower.issue(CLIENT, name="client")
    subjects = [certificate.subject.rfc4514_string() for certificate in identity.chain]
    assert subjects == ["CN=client", "CN=lower", "CN=upper"]
    assert lower.root is CA
    # One that is loaded counts as the anchor.
    loaded = CertificateAuthority.from_key(lower.certificate, lower.key)
    assert (loaded.chain, loaded.root) == ((), loaded)


def test_key_is_never_shown() -> None:
    identity = CA.issue(CLIENT, name="client")
    assert repr(CA) == "<CertificateAuthority CN=test CA>"
    assert "key=" not in repr(identity)
    pki = ClusterPKI.generate(PKIPlan(), [MemberNames("m0")])
    assert "PrivateKey" not in repr(identity) + repr(pki)


def test_crls_may_be_empty_and_stale_and_their_numbers_grow() -> None:
    lists = [x509.load_der_x509_crl(CA.crl(valid_for=timedelta(minutes=1))) for _ in range(3)]
    assert [len(crl) for crl in lists] == [0, 0, 0]
    assert all(crl.next_update_utc and crl.next_update_utc < datetime.now(UTC) for crl in lists)
    numbers = [crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for crl in lists]
    assert [number - numbers[0] for number in numbers] == [0, 1, 2]


@pytest.mark.parametrize("serial", [0, 1, -1, 127, 128, -128, -129, 2**159 - 1, 2**159, 2**200])
def test_any_serial_number(tmp_path: Path, openssl: OpenSSL, serial: int) -> None:
    """The cryptography library refuses to make most of these, and warns when it reads some."""
    certificate = leaf(replace(CLIENT, serial_number=serial))
    (tmp_path / "leaf.crt").write_bytes(encode_certificates([certificate]))
    (tmp_path / "ca.crt").write_bytes(encode_certificates([CA.certificate]))
    shown = openssl("x509", "-in", tmp_path / "leaf.crt", "-noout", "-serial").stdout
    assert int(shown.strip().removeprefix("serial="), 16) == details(certificate).serial_number == serial
    openssl("verify", "-CAfile", tmp_path / "ca.crt", tmp_path / "leaf.crt")
