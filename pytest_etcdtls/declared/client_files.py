"""Where the pairs of clients are that lie beside a member's files: kubeadm's, and etcdctl's as declared.

Finds files; reads none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pytest_etcdtls.declared.files import exists
from pytest_etcdtls.declared.member import DeclaredMember

HEALTHCHECK: Final = "healthcheck-client"
APISERVER: Final = "apiserver-etcd-client"
ETCDCTL: Final = "etcdctl"
_BESIDE: Final = ("trusted-ca-file", "cert-file", "peer-trusted-ca-file", "peer-cert-file")
"""The declared files beside which kubeadm's clients are looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFiles:
    """The files of one client.

    Attributes:
        name: of the client.
        said: what led to certificate and key, in words.
        certificate: it is there.
        key: it need not be.
    """

    name: str
    said: tuple[str, str]
    certificate: Path
    key: Path


def client_files(told: DeclaredMember) -> Iterator[ClientFiles]:
    """Yield the clients whose certificate is here, the one that etcd lets in at most places first."""
    for name in (HEALTHCHECK, APISERVER):
        for directory in _directories(told):
            certificate = directory / f"{name}.crt"
            if exists(certificate):
                words = f"kubeadm's {name}"
                yield ClientFiles(
                    name=name, said=(words, words), certificate=certificate, key=directory / f"{name}.key"
                )
                break
    variables = told.declaration.etcdctl
    paths = [variables.get("ETCDCTL_CERT"), variables.get("ETCDCTL_KEY")]
    certificate_file, key_file = (told.where.find(path) if path else None for path in paths)
    if certificate_file is not None and key_file is not None:
        said = ("ETCDCTL_CERT", "ETCDCTL_KEY")
        yield ClientFiles(name=ETCDCTL, said=said, certificate=certificate_file, key=key_file)


def _directories(told: DeclaredMember) -> Iterator[Path]:
    """Yield where kubeadm's files may be: beside the declared ones, and for one of them a directory above."""
    beside = [found.parent for name in _BESIDE if (found := told.file(name))]
    if told.where.pki_dir is not None:
        beside.append(told.where.pki_dir)
    yield from dict.fromkeys([*beside, *(directory.parent for directory in beside)])
