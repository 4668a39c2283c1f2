"""The root CAs that etcd trusts where no file of trusted CAs is declared: those of Go's system pool.

With client-cert-auth and without a trusted CA file, etcd leaves ``ClientCAs`` of crypto/tls empty, and for
peers ``RootCAs`` as well (``TLSInfo.ServerConfig`` and ``ClientConfig`` in client/pkg/transport/listener.go).
crypto/x509 then verifies with the system's pool. It loads that at the first verification, and keeps it
(``loadSystemRoots`` in root_unix.go): the first of some usual files that can be read, or the one that
``SSL_CERT_FILE`` names; and every file in some usual directories, or in those that ``SSL_CERT_DIR`` names. So
one variable alone adds its CAs to a part of the system's. What is no certificate is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Final

from cryptography import x509
from msgspec import Struct

from pytest_etcdtls.declared.declaration import (
    DIRECTORIES_OF_ROOTS,
    ROOTS_DIRECTORIES,
    ROOTS_FILE,
    DeclaredMember,
    roots_in_words,
)
from pytest_etcdtls.errors import UnreadableFileError
from pytest_etcdtls.pki.certificate import MAXIMUM_SIZE, load
from pytest_etcdtls.pki.go_pem import decode
from pytest_etcdtls.untrusted.process_root import names_in
from pytest_etcdtls.untrusted.regular_files import read_regular

_FILES: Final = (
    *("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"),
    *("/etc/pki/tls/cacert.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem"),
)
"""``certFiles`` of root_linux.go."""
_MOST_FILES: Final = 1000
_MOST_OCTETS: Final = 1 << 23


class SystemRoots(Struct, frozen=True):
    """The CAs of the system's pool of a process.

    Attributes:
        source: where they come from.
        certificates: each once.
    """

    source: str
    certificates: tuple[x509.Certificate, ...]


def read_system_roots(member: DeclaredMember) -> SystemRoots | None:
    """Return the roots of a process, from the files that it would read now; ``None`` if they are too large.

    Of another declaration they are not known: a container's or a unit's file is read on any machine.
    """
    if not member.paths.working:
        return None
    # A bundle and a directory usually have the same CAs.
    certificates: dict[bytes, x509.Certificate] = {}
    size = 0
    for data in islice(_contents(member), _MOST_FILES):
        if (size := size + len(data)) > _MOST_OCTETS:
            return None
        for block in decode(data):
            with suppress(ValueError):
                certificates[block.content] = certificates.get(block.content) or load(block.content)
    return SystemRoots(roots_in_words(member.declaration), tuple(certificates.values()))


def _contents(member: DeclaredMember) -> Iterator[bytes]:
    variables = member.declaration.go_environment
    file = variables.get(ROOTS_FILE)
    texts = (_content(member, path) for path in ((file,) if file else _FILES))
    yield from islice((text for text in texts if text is not None), 1)
    named = variables.get(ROOTS_DIRECTORIES)
    for directory in named.split(":") if named else DIRECTORIES_OF_ROOTS:
        for name in names_in(member.paths.of_process(directory)):
            if (text := _content(member, f"{directory}/{name}")) is not None:
                yield text


def _content(member: DeclaredMember, path: str) -> bytes | None:
    try:
        return read_regular(member.paths.of_process(path), MAXIMUM_SIZE)
    except UnreadableFileError:
        return None
