"""Serial numbers and hashes that the cryptography library refuses, as openssl reads them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates
from pytest_etcdtls.pki.go_parser import SEQUENCE, children, encode, encode_integer
from pytest_etcdtls.pki.profile import AUTHORITY, CLIENT, KeyType

from .conftest import OpenSSL

SERIALS = (0, 1, -1, 127, 128, -128, -129, 2**159 - 1, 2**159, 2**200)


@pytest.mark.parametrize("serial", SERIALS)
def test_any_serial_number(
    authority: CertificateAuthority, tmp_path: Path, openssl: OpenSSL, serial: int
) -> None:
    profile = replace(CLIENT, serial_number=serial)
    leaf = authority.issue(profile, name="client", key=authority.key).chain[0]
    (tmp_path / "leaf.crt").write_bytes(encode_certificates([leaf]))
    (tmp_path / "ca.crt").write_bytes(encode_certificates([authority.certificate]))
    shown = openssl("x509", "-in", tmp_path / "leaf.crt", "-noout", "-serial").stdout
    assert int(shown.strip().removeprefix("serial="), 16) == serial
    openssl("verify", "-CAfile", tmp_path / "ca.crt", tmp_path / "leaf.crt")


@pytest.mark.parametrize(
    ("key_type", "algorithm"),
    [
        (KeyType.ECDSA_P256, "ecdsa-with-SHA1"),
        (KeyType.ECDSA_P384, "ecdsa-with-SHA1"),
        (KeyType.RSA_2048, "sha1WithRSAEncryption"),
        (KeyType.ED25519, "ED25519"),
    ],
)
def test_sha1(tmp_path: Path, openssl: OpenSSL, key_type: KeyType, algorithm: str) -> None:
    ca = CertificateAuthority.create("CA", key_type, profile=replace(AUTHORITY, signature_hash="sha1"))
    leaf = ca.issue(replace(CLIENT, signature_hash="sha1"), name="client").chain[0]
    (tmp_path / "ca.crt").write_bytes(encode_certificates([ca.certificate]))
    (tmp_path / "leaf.crt").write_bytes(encode_certificates([leaf]))
    for name in ("ca.crt", "leaf.crt"):
        text = openssl("x509", "-in", tmp_path / name, "-noout", "-text").stdout
        assert text.count(f"Signature Algorithm: {algorithm}") == 2
    # Security level 0: at its default openssl refuses SHA-1 before it looks at the signature.
    level = ("-auth_level", "0", "-check_ss_sig")
    openssl("verify", *level, "-CAfile", tmp_path / "ca.crt", tmp_path / "leaf.crt")


@pytest.mark.parametrize("length", [0, 1, 127, 128, 255, 256, 70000])
def test_lengths(length: int) -> None:
    inner = encode(0x04, b"x" * length)
    assert children(encode(SEQUENCE, inner + inner)) == [inner, inner]


@pytest.mark.parametrize(
    ("value", "content"),
    [(0, "00"), (127, "7f"), (128, "0080"), (256, "0100"), (-1, "ff"), (-128, "80"), (-129, "ff7f")],
)
def test_integers_are_shortest(value: int, content: str) -> None:
    assert encode_integer(value).hex() == content
