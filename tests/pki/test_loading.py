"""Loading any file ends with the credential or with one message that has a remedy."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates, encode_key
from pytest_etcdtls.pki.certificate import (
    MAXIMUM_SIZE,
    load_certificates,
    load_identity,
    load_key,
    load_trust,
)
from pytest_etcdtls.pki.profile import CLIENT, KeyType, generate_key

from .conftest import DEADLINE, Files, OpenSSL, store

CA = CertificateAuthority.create("CA")
OTHER = CertificateAuthority.create("other CA")
CERTIFICATES = encode_certificates([CA.certificate, OTHER.certificate])
KEY = encode_key(CA.key)


@pytest.fixture
def pair(tmp_path: Path) -> Files:
    return store(CA.intermediate("sub").issue(CLIENT, name="client"), tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        CERTIFICATES,
        CERTIFICATES.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + CERTIFICATES,
        b"subject=CN = CA\n" + CERTIFICATES + b"trailing words",
        KEY + CERTIFICATES,
        CERTIFICATES.strip(),
        CERTIFICATES.replace(b"CERTIFICATE", b"X509 CERTIFICATE"),
    ],
    ids=["plain", "CRLF", "BOM", "text around", "key beside", "no last newline", "older label"],
)
def test_certificates_of_pem(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert load_certificates(tmp_path / "file") == (CA.certificate, OTHER.certificate)


def test_certificate_of_der(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CA.certificate.public_bytes(Encoding.DER))
    assert load_certificates(tmp_path / "file") == (CA.certificate,)


def test_trust_has_each_certificate_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CERTIFICATES * 2)
    assert load_trust(tmp_path / "file") == (CA.certificate, OTHER.certificate)


@pytest.mark.parametrize("key_type", list(KeyType))
@pytest.mark.parametrize("traditional", [False, True])
def test_key_of_every_type_and_encoding(tmp_path: Path, key_type: KeyType, traditional: bool) -> None:
    key = CertificateAuthority.create("CA", key_type).key
    (tmp_path / "file").write_bytes(CERTIFICATES + encode_key(key, traditional=traditional))
    assert load_key(tmp_path / "file").public_key() == key.public_key()


def test_keys_that_openssl_writes(tmp_path: Path, openssl: OpenSSL) -> None:
    # With the parameters before the key, as `openssl ecparam -genkey` has it.
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-out", tmp_path / "ec.key")
    assert "BEGIN EC PARAMETERS" in (tmp_path / "ec.key").read_text(encoding="utf-8")
    assert isinstance(load_key(tmp_path / "ec.key"), ec.EllipticCurvePrivateKey)
    openssl("genrsa", "-traditional", "-out", tmp_path / "rsa.key", "2048")
    assert isinstance(load_key(tmp_path / "rsa.key"), rsa.RSAPrivateKey)


def test_identity(pair: Files) -> None:
    identity = load_identity(pair.certificate, pair.key, "client")
    assert [certificate.subject.rfc4514_string() for certificate in identity.chain] == [
        "CN=client",
        "CN=sub",
    ]
    assert (identity.name, identity.certificate_file, identity.key_file) == (
        "client",
        str(pair.certificate),
        str(pair.key),
    )


def test_identity_of_one_file(pair: Files) -> None:
    pair.certificate.write_bytes(pair.key.read_bytes() + pair.certificate.read_bytes())
    assert len(load_identity(pair.certificate, pair.certificate, "client").chain) == 2


def test_pipe() -> None:
    """As a shell's process substitution passes one."""
    reading, writing = os.pipe()
    with open(reading, "rb"), open(writing, "wb") as pipe:
        pipe.write(CERTIFICATES)
        pipe.close()
        assert len(load_certificates(Path(f"/dev/fd/{reading}"))) == 2


def test_serial_number_that_is_not_positive_is_no_error(tmp_path: Path) -> None:
    leaf = CA.issue(replace(CLIENT, serial_number=0), name="client").chain[0]
    (tmp_path / "file").write_bytes(encode_certificates([leaf]))
    assert load_certificates(tmp_path / "file") == (leaf,)


def _missing(path: Path) -> None:
    path.with_name("unrelated").touch()


Maker = Callable[[Path], object]
BROKEN_FILES: dict[str, tuple[Maker, str]] = {
    "missing": (_missing, "does not exist; check the path"),
    "a directory": (Path.mkdir, "is a directory; name the file in it"),
    "empty": (Path.touch, "is empty; check how it was made"),
    "blank": (lambda path: path.write_text(" \n\n", encoding="utf-8"), "is empty"),
    "too large": (lambda path: path.write_bytes(b"x" * (MAXIMUM_SIZE + 1)), "is larger than 16 MiB"),
    "a loop": (lambda path: path.symlink_to(path), "cannot be read"),
}
NO_CERTIFICATES: dict[str, tuple[Maker, str]] = {
    "text": (
        lambda path: path.write_text("hello", encoding="utf-8"),
        "is neither PEM nor a certificate in DER; pass a file",
    ),
    "binary": (lambda path: path.write_bytes(b"\x30\x82\x01"), "is neither PEM nor a certificate in DER"),
    "a key": (lambda path: path.write_bytes(KEY), "holds no certificate but a PRIVATE KEY; pass the file"),
    "a request": (
        lambda path: path.write_text(
            "-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----", encoding="utf-8"
        ),
        "holds no certificate but a CERTIFICATE REQUEST; pass the certificate that the CA made of this",
    ),
    "a CRL": (lambda path: path.write_bytes(CA.crl("pem")), "holds no certificate but a X509 CRL"),
    "openssl's own form": (
        lambda path: path.write_bytes(CERTIFICATES.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE")),
        "convert it: openssl x509",
    ),
    "cut off": (
        lambda path: path.write_bytes(CERTIFICATES[:-30]),
        "certificate 2 of 2 is cut off: it has no END line; copy the file again",
    ),
    "cut in the middle": (
        lambda path: path.write_bytes(CERTIFICATES[:300] + b"\n" + CERTIFICATES),
        "certificate 1 of 3 is cut off",
    ),
    "damaged": (
        lambda path: path.write_bytes(CERTIFICATES.replace(b"MII", b"MIJ", 1)),
        "see what is wrong with it: openssl x509 -in",
    ),
    "not Base64": (
        lambda path: path.write_bytes(CERTIFICATES.replace(b"MII", b"!!!", 1)),
        "certificate 1 of 2 cannot be parsed",
    ),
}
NO_KEYS: dict[str, tuple[Maker, str]] = {
    "text": (
        lambda path: path.write_text("hello", encoding="utf-8"),
        "is not PEM; if it is a DER key, convert it",
    ),
    "certificates": (
        lambda path: path.write_bytes(CERTIFICATES),
        "holds no private key but a CERTIFICATE; pass the file with the line BEGIN PRIVATE KEY",
    ),
    "damaged": (
        lambda path: path.write_bytes(KEY.replace(b"MIG", b"MIH", 1)),
        "holds a private key that cannot be decoded; see what is wrong with it: openssl pkey",
    ),
    "cut off": (
        lambda path: path.write_bytes(KEY[:-20]),
        "holds a private key that cannot be decoded",
    ),
}


@pytest.mark.parametrize("name", BROKEN_FILES)
@pytest.mark.parametrize("load", [load_certificates, load_trust, load_key])
def test_file_that_cannot_be_read(tmp_path: Path, load: Callable[..., object], name: str) -> None:
    make, message = BROKEN_FILES[name]
    path = tmp_path / "broken file"
    make(path)
    with pytest.raises(UsageError) as caught:
        load(path, option="--etcd-cacert")
    assert str(caught.value).startswith(f"--etcd-cacert {path}: {message}")


def test_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test may run as root, who can read every file: the refusal cannot be produced."""

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "key").touch()
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UsageError, match="may not be read by this user; run as a user who may"):
        load_key(tmp_path / "key", option="--etcd-key")


@pytest.mark.parametrize("name", NO_CERTIFICATES)
@pytest.mark.parametrize("load", [load_certificates, load_trust])
def test_no_certificate(tmp_path: Path, load: Callable[..., object], name: str) -> None:
    make, message = NO_CERTIFICATES[name]
    make(tmp_path / "file")
    with pytest.raises(UsageError) as caught:
        load(tmp_path / "file", option="--etcd-cert")
    assert str(caught.value).startswith(f"--etcd-cert {tmp_path / 'file'}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("name", NO_KEYS)
def test_no_key(tmp_path: Path, name: str) -> None:
    make, message = NO_KEYS[name]
    make(tmp_path / "file")
    with pytest.raises(UsageError) as caught:
        load_key(tmp_path / "file", option="--etcd-key")
    assert str(caught.value).startswith(f"--etcd-key {tmp_path / 'file'}: {message}")


@pytest.mark.parametrize(
    "arguments",
    [("genrsa", "-aes128"), ("genrsa", "-traditional", "-aes128")],
    ids=["PKCS #8", "older form"],
)
def test_encrypted_key(tmp_path: Path, openssl: OpenSSL, arguments: tuple[str, ...]) -> None:
    path = tmp_path / "key"
    openssl(*arguments, "-passout", "pass:secret", "-out", path, "2048")
    with pytest.raises(UsageError, match=r"holds an encrypted key.*decrypt a copy of it: openssl pkey -in"):
        load_key(path)
    with pytest.raises(UsageError, match=r"and no passphrase of it is given; pass --etcd-key-password-file"):
        load_key(path, passphrases=lambda *_: [])
    with pytest.raises(UsageError, match=r"and the passphrase is wrong; see whether it is the right one"):
        load_key(path, passphrases=lambda *_: [b"wrong"])
    with pytest.raises(UsageError, match=r"and none of 2 passphrases is right"):
        load_key(path, passphrases=lambda *_: [b"wrong", b""])
    assert isinstance(load_key(path, passphrases=lambda *_: [b"wrong", b"secret"]), rsa.RSAPrivateKey)


def test_key_that_etcd_cannot_use(tmp_path: Path, openssl: OpenSSL) -> None:
    openssl("genpkey", "-algorithm", "ED448", "-out", tmp_path / "key")
    with pytest.raises(UsageError, match=r"etcd cannot use \(Ed448\); use RSA, EC or Ed25519"):
        load_key(tmp_path / "key")


def test_key_of_another_certificate(pair: Files) -> None:
    pair.key.write_bytes(encode_key(generate_key(KeyType.RSA_2048)))
    with pytest.raises(UsageError) as caught:
        load_identity(pair.certificate, pair.key, "client", options=("--etcd-cert", "--etcd-key"))
    assert str(caught.value) == (
        f"--etcd-key {pair.key}: does not belong to the first certificate of {pair.certificate} (CN=client); "
        "pass the key of that certificate with --etcd-key, or its certificate with --etcd-cert"
    )


def test_leaf_that_does_not_come_first(pair: Files) -> None:
    leaf, issuer = load_certificates(pair.certificate)
    pair.certificate.write_bytes(encode_certificates([issuer, leaf]))
    with pytest.raises(UsageError, match="but to the one at place 2; put the leaf first"):
        load_identity(pair.certificate, pair.key, "client")


def test_certificate_and_key_swapped(pair: Files) -> None:
    with pytest.raises(UsageError, match="holds no certificate but a PRIVATE KEY"):
        load_identity(pair.key, pair.certificate, "client")


def test_no_message_shows_a_key(tmp_path: Path) -> None:
    body = KEY.decode().splitlines()[1]
    (tmp_path / "key").write_bytes(KEY.replace(b"MIG", b"MIH", 1))
    with pytest.raises(UsageError) as caught:
        load_key(tmp_path / "key")
    chain = [caught.value, caught.value.__cause__, caught.value.__context__]
    assert not any(body[8:24] in str(error) for error in chain)


@pytest.mark.program("openssl")
def test_certificate_that_openssl_accepts_and_we_cannot_decode(tmp_path: Path) -> None:
    """A name in T61String with umlauts, which Go and OpenSSL accept and the cryptography library does not."""
    (tmp_path / "req.cnf").write_text(
        "[req]\ndistinguished_name=dn\nstring_mask=MASK:0x4\n[dn]\n", encoding="utf-8"
    )
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-config",
                "req.cnf",
                "-utf8",
                "-subj",
                "/CN=Größe".encode(),
                "-nodes",
            ),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", "ca.key", "-out", "ca.crt"),
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        timeout=DEADLINE,
    )
    with pytest.raises(UsageError, match="certificate 1 of 1 cannot be parsed"):
        load_certificates(tmp_path / "ca.crt")
