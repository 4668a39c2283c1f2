"""Where each file of the PKI is for one member, and writing them. Does not know etcd's flags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Self

from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.files import write_files


@dataclass(frozen=True, slots=True)
class FileNames:
    """Paths below the PKI directory by logical name, for one member."""

    known: Mapping[str, PurePosixPath]

    @classmethod
    def of_member(cls, pki: ClusterPKI, member: str) -> Self:
        """Return those of a member, the CA keys included where they are written."""
        return cls({**pki.paths(member, with_ca_keys=True), **pki.paths(member)})

    def path(self, name: str) -> PurePosixPath:
        """Return where a file is; a name that nobody knows is a file at the top, there or not."""
        return self.known.get(name, PurePosixPath(name))


def write_pki(pki: ClusterPKI, config: ClusterConfig, directory: Path, *, with_ca_keys: bool) -> None:
    """Write the PKI and the extra files: 0600 in directories with 0700.

    An extra file with the logical name of a generated one takes its place, for every member.

    Raises:
        OSError: if the system refuses.
    """
    extra = {
        FileNames.of_member(pki, member.name).path(name): content
        for member in pki.members
        for name, content in config.extra_files.items()
    }
    write_files(directory, {**pki.files(with_ca_keys=with_ca_keys), **extra})
