"""Loading any file ends with the credential or with one message that has a remedy."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

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

from .conftest import OpenSSL

CA = CertificateAuthority.create("CA")
OTHER = CertificateAuthority.create("other CA")
CERTIFICATES = encode_certificates([CA.certificate, OTHER.certificate])
KEY = encode_key(CA.key)


class Files(NamedTuple):
    certificate: Path
    key: Path


@pytest.fixture
def pair(tmp_path: Path) -> Files:
    identity = CA.intermediate("sub").issue(CLIENT, name="client")
    files = Files(tmp_path / "client.crt", tmp_path / "client.key")
    assert identity.key is not None
    files.certificate.write_bytes(encode_certificates(identity.chain))
    files.key.write_bytes(encode_key(identity.key))
    return files


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


def test_certificates_of_other_files(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(CA.certificate.public_bytes(Encoding.DER))
    assert load_certificates(file) == (CA.certificate,)
    file.write_bytes(CERTIFICATES * 2)
    assert load_trust(file) == (CA.certificate, OTHER.certificate)
    leaf = CA.issue(replace(CLIENT, serial_number=0), name="client").chain[0]
    file.write_bytes(encode_certificates([leaf]))
    assert load_certificates(file) == (leaf,)
    # As a shell's process substitution passes one.
    reading, writing = os.pipe()
    with open(reading, "rb"), open(writing, "wb") as pipe:
        pipe.write(CERTIFICATES)
        pipe.close()
        assert len(load_certificates(Path(f"/dev/fd/{reading}"))) == 2


@pytest.mark.parametrize("key_type", [key_type for key_type in KeyType if key_type is not KeyType.RSA_4096])
@pytest.mark.parametrize("traditional", [False, True])
def test_key_of_every_type_and_encoding(tmp_path: Path, key_type: KeyType, traditional: bool) -> None:
    key = generate_key(key_type)
    (tmp_path / "file").write_bytes(CERTIFICATES + encode_key(key, traditional=traditional))
    assert load_key(tmp_path / "file").public_key() == key.public_key()


def test_keys_that_openssl_writes(tmp_path: Path, openssl: OpenSSL) -> None:
    # With the parameters before the key, as `openssl ecparam -genkey` has it.
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-out", tmp_path / "ec.key")
    assert "BEGIN EC PARAMETERS" in (tmp_path / "ec.key").read_text(encoding="utf-8")
    assert isinstance(load_key(tmp_path / "ec.key"), ec.EllipticCurvePrivateKey)
    openssl("genpkey", "-algorithm", "ED448", "-out", tmp_path / "key")
    with pytest.raises(UsageError, match=r"etcd cannot use \(Ed448\); use RSA, EC or Ed25519"):
        load_key(tmp_path / "key")


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
    pair.certificate.write_bytes(pair.key.read_bytes() + pair.certificate.read_bytes())
    assert len(load_identity(pair.certificate, pair.certificate, "client").chain) == 2


Content = bytes | Callable[[Path], object]
ALL, CERTIFICATE, PRIVATE_KEY = (
    (load_certificates, load_trust, load_key),
    (load_certificates, load_trust),
    (load_key,),
)
_REQUEST = b"-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----"
UNUSABLE: dict[str, tuple[tuple[Callable[..., object], ...], Content, str]] = {
    "missing": (ALL, lambda path: path.with_name("unrelated").touch(), "does not exist; check the path"),
    "a directory": (ALL, Path.mkdir, "is a directory; name the file in it"),
    "empty": (ALL, b"", "is empty; check how it was made"),
    "too large": (ALL, b"x" * (MAXIMUM_SIZE + 1), "is larger than 16 MiB"),
    "a loop": (ALL, lambda path: path.symlink_to(path), "cannot be read"),
    "text": (CERTIFICATE, b"hello", "is neither PEM nor a certificate in DER; pass a file"),
    "a key": (CERTIFICATE, KEY, "holds no certificate but a PRIVATE KEY; pass the file"),
    "a request": (
        *(CERTIFICATE, _REQUEST),
        "holds no certificate but a CERTIFICATE REQUEST; pass the certificate that the CA made of this",
    ),
    "openssl's own form": (
        *(CERTIFICATE, CERTIFICATES.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE")),
        "convert it: openssl x509",
    ),
    "cut off": (
        *(CERTIFICATE, CERTIFICATES[:-30]),
        "certificate 2 of 2 is cut off: it has no END line; copy the file again",
    ),
    "damaged": (
        *(CERTIFICATE, CERTIFICATES.replace(b"MII", b"MIJ", 1)),
        "see what is wrong with it: openssl x509 -in",
    ),
    "not Base64": (
        *(CERTIFICATE, CERTIFICATES.replace(b"MII", b"!!!", 1)),
        "certificate 1 of 2 cannot be parsed",
    ),
    "text for a key": (PRIVATE_KEY, b"hello", "is not PEM; if it is a DER key, convert it"),
    "certificates for a key": (
        *(PRIVATE_KEY, CERTIFICATES),
        "holds no private key but a CERTIFICATE; pass the file with the line BEGIN PRIVATE KEY",
    ),
    "damaged key": (
        *(PRIVATE_KEY, KEY.replace(b"MIG", b"MIH", 1)),
        "holds a private key that cannot be decoded; see what is wrong with it: openssl pkey",
    ),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_file_that_cannot_be_used(tmp_path: Path, name: str) -> None:
    loads, content, message = UNUSABLE[name]
    path = tmp_path / "broken file"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)
    secret = KEY.decode().splitlines()[1][8:24]
    for load in loads:
        with pytest.raises(UsageError) as caught:
            load(path, option="--etcd-cacert")
        assert str(caught.value).startswith(f"--etcd-cacert {path}: ")
        assert message in str(caught.value)
        shown = [caught.value, caught.value.__cause__, caught.value.__context__]
        assert not any(secret in str(error) for error in shown)


@pytest.mark.parametrize("older_form", [(), ("-traditional",)])
def test_encrypted_key(tmp_path: Path, openssl: OpenSSL, older_form: tuple[str, ...]) -> None:
    path = tmp_path / "key"
    openssl("genrsa", *older_form, "-aes128", "-passout", "pass:secret", "-out", path, "2048")
    with pytest.raises(UsageError, match=r"holds an encrypted key.*decrypt a copy of it: openssl pkey -in"):
        load_key(path)
    with pytest.raises(UsageError, match=r"and no passphrase of it is given; pass --etcd-key-password-file"):
        load_key(path, passphrases=lambda *_: [])
    with pytest.raises(UsageError, match=r"and the passphrase is wrong; see whether it is the right one"):
        load_key(path, passphrases=lambda *_: [b"wrong"])
    with pytest.raises(UsageError, match=r"and none of 2 passphrases is right"):
        load_key(path, passphrases=lambda *_: [b"wrong", b""])
    assert isinstance(load_key(path, passphrases=lambda *_: [b"wrong", b"secret"]), rsa.RSAPrivateKey)


def test_files_that_are_no_pair(pair: Files) -> None:
    with pytest.raises(UsageError, match="holds no certificate but a PRIVATE KEY"):
        load_identity(pair.key, pair.certificate, "client")
    right = pair.key.read_bytes()
    pair.key.write_bytes(encode_key(generate_key(KeyType.RSA_2048)))
    with pytest.raises(UsageError) as caught:
        load_identity(pair.certificate, pair.key, "client", options=("--etcd-cert", "--etcd-key"))
    assert str(caught.value) == (
        f"--etcd-key {pair.key}: does not belong to the first certificate of {pair.certificate} (CN=client); "
        "pass the key of that certificate with --etcd-key, or its certificate with --etcd-cert"
    )
    pair.key.write_bytes(right)
    leaf, issuer = load_certificates(pair.certificate)
    pair.certificate.write_bytes(encode_certificates([issuer, leaf]))
    with pytest.raises(UsageError, match="but to the one at place 2; put the leaf first"):
        load_identity(pair.certificate, pair.key, "client")
