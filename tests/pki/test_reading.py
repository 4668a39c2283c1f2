"""Unusual certificates are read without an error and without a warning."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.certificate import (
    describe_key,
    extension,
    is_for,
    is_generated,
    is_strong,
    key_usages,
    load,
    public_key,
    purposes,
    serial_number,
    shown,
    signature_hash,
)
from pytest_etcdtls.pki.profile import SERVER, KeyType, Profile, generate_key

CA = CertificateAuthority.create("CA")


def loaded(profile: Profile) -> x509.Certificate:
    issued = CA.issue(profile, name="leaf", hosts=("localhost",)).chain[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load(issued.public_bytes(Encoding.DER))


@pytest.mark.parametrize("serial", [0, 1, -1, -5, 127, 128, 255, 1 << 159, 1 << 170, -(1 << 200)])
def test_any_serial_number_is_read(serial: int) -> None:
    certificate = loaded(replace(SERVER, serial_number=serial))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert serial_number(certificate) == serial


def test_threads_leave_the_filters_of_warnings_as_they_were() -> None:
    der = CA.certificate.public_bytes(Encoding.DER)
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as threads:
        assert len({*threads.map(load, [der] * 2000)}) == 1
    assert warnings.filters == before


def test_other_data_is_an_error() -> None:
    der = loaded(SERVER).public_bytes(Encoding.DER)
    for broken in (b"", b"\x30\x00", der[:-1], der + b"\0"):
        with pytest.raises(ValueError, match=r"."):
            load(broken)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, {"digitalSignature"}),
        (frozenset(), None),
        (frozenset({"keyAgreement", "encipherOnly"}), {"keyAgreement", "encipherOnly"}),
        (frozenset({"keyCertSign", "cRLSign"}), {"keyCertSign", "cRLSign"}),
    ],
)
def test_key_usages(given: frozenset[str] | None, expected: set[str] | None) -> None:
    assert key_usages(loaded(replace(SERVER, key_usage=given))) == expected


@pytest.mark.parametrize(
    ("given", "expected", "server"),
    [
        (None, None, True),
        (("serverAuth",), ("serverAuth",), True),
        (("clientAuth", "1.2.3"), ("clientAuth", "1.2.3"), False),
        (("2.5.29.37.0",), ("anyExtendedKeyUsage",), True),
    ],
)
def test_purposes(given: tuple[str, ...] | None, expected: tuple[str, ...] | None, server: bool) -> None:
    certificate = loaded(replace(SERVER, extended_key_usage=given))
    assert purposes(certificate) == expected
    assert is_for(certificate, "serverAuth") is server


def test_extensions_that_are_not_there() -> None:
    certificate = loaded(replace(SERVER, subject_alt_names=()))
    assert extension(certificate, x509.SubjectAlternativeName) is None
    assert extension(certificate, x509.BasicConstraints) == x509.BasicConstraints(ca=False, path_length=None)


def test_hashes_and_subjects() -> None:
    assert signature_hash(loaded(SERVER)) == "sha256"
    assert signature_hash(loaded(replace(SERVER, signature_hash="sha1"))) == "sha1"
    ed25519 = CertificateAuthority.create("CA", KeyType.ED25519).certificate
    assert signature_hash(ed25519) is None
    assert shown(loaded(replace(SERVER, common_name=None))) == "(empty subject)"


@pytest.mark.parametrize("key_type", list(KeyType))
def test_usual_keys_are_strong(key_type: KeyType) -> None:
    key = public_key(loaded(replace(SERVER, key_type=key_type)))
    assert is_strong(key)
    assert describe_key(key).split()[0] in {"RSA", "ECDSA", "Ed25519"}


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (generate_key(KeyType.RSA_2048, rsa_bits=1024).public_key(), "RSA 1024 bits"),
        (generate_key(KeyType.RSA_2048, rsa_bits=2047).public_key(), "RSA 2047 bits"),
        (ec.generate_private_key(ec.SECP256K1()).public_key(), "ECDSA secp256k1"),
        (ed448.Ed448PrivateKey.generate().public_key(), "Ed448"),
        (dsa.generate_private_key(1024).public_key(), "DSA"),  # noqa: S505 - quickly made
        (rsa.RSAPublicNumbers(65537, (1 << 8192) + 1).public_key(), "RSA 8193 bits"),
        (None, "a key of unknown kind"),
    ],
)
def test_other_keys_are_not(key: object, words: str) -> None:
    assert not is_strong(key)  # type: ignore[arg-type]
    assert describe_key(key) == words  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("profile", "generated"),
    [
        (replace(SERVER, common_name=None, organization="etcd", self_signed=True), True),
        (replace(SERVER, common_name=None, organization="etcd", self_signed=True, ca=True), True),
        (replace(SERVER, common_name=None, organization="etcd"), False),
        (replace(SERVER, common_name="etcd", organization="etcd", self_signed=True), False),
        (replace(SERVER, common_name=None, organization="Etcd", self_signed=True), False),
        (replace(SERVER, common_name=None, self_signed=True), False),
        (SERVER, False),
    ],
)
def test_certificates_that_etcd_generated_are_recognised(profile: Profile, generated: bool) -> None:
    assert is_generated(loaded(profile)) is generated
