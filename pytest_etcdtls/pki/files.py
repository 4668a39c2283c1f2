"""Encodes identities as PEM and writes secret files. Does not know what the files are for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pytest_etcdtls.pki.identity import PrivateKey


def encode_certificates(certificates: Iterable[x509.Certificate]) -> bytes:
    """Return the certificates as PEM, one after the other."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def encode_key(key: PrivateKey, *, traditional: bool = False) -> bytes:
    """Return the key as unencrypted PEM, which every etcd reads.

    Args:
        key: the private key.
        traditional: ``RSA PRIVATE KEY`` or ``EC PRIVATE KEY`` as kubeadm writes them, instead of PKCS #8.
    """
    # Ed25519 has no older form.
    traditional = traditional and not isinstance(key, ed25519.Ed25519PrivateKey)
    form = PrivateFormat.TraditionalOpenSSL if traditional else PrivateFormat.PKCS8
    return key.private_bytes(Encoding.PEM, form, NoEncryption())


def write_files(directory: Path, files: Mapping[PurePosixPath, bytes]) -> None:
    """Write files below the directory: 0600 each, 0700 every directory that is not there yet.

    Both are created that way, so that a key is at no time readable by others; a file that exists is
    replaced, never written into.

    Raises:
        OSError: if the system refuses.
    """
    _make_directory(directory)
    for path, content in files.items():
        for parent in reversed(path.parents):
            _make_directory(directory / parent)
        _replace_file(directory / path, content)


def _make_directory(directory: Path) -> None:
    if directory.is_dir():
        return
    _make_directory(directory.parent)
    directory.mkdir(mode=0o700, exist_ok=True)


def _replace_file(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)
