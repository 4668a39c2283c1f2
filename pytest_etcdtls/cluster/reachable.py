"""What a member is to others, whoever runs it: its URLs, its files, its command line.

Does not know how the member is started.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from pytest_etcdtls.cluster.addresses import MemberAddresses
from pytest_etcdtls.cluster.pki_files import FileNames
from pytest_etcdtls.declared.command_line import from_command_line
from pytest_etcdtls.declared.member import DeclaredMember
from pytest_etcdtls.declared.reading import declared_member
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.pki.files import write_files


@dataclass(kw_only=True)
class ReachableMember:
    """The part of a member that processes and containers have in common.

    Attributes:
        addresses: what it listens on, as seen from this host.
        argv: its command line; paths, no secret.
        pki_root: the cluster's PKI directory on this host.
        files: where each file is below that.
        variables: of its environment that were asked for.
        config_file: its ``--config-file`` on this host; ``None`` if it has none.
        sees_pki_root: its files are to it what they are to us; in a container they are under another path.
    """

    addresses: MemberAddresses
    argv: tuple[str, ...]
    pki_root: Path
    files: FileNames = field(repr=False)
    variables: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    config_file: Path | None = None
    sees_pki_root: bool = True

    @property
    def name(self) -> str:
        """Its name."""
        return self.addresses.name

    @property
    def client_url(self) -> str:
        """The client listener."""
        return self.addresses.listen_client[0]

    @property
    def peer_url(self) -> str:
        """The peer listener."""
        return self.addresses.listen_peer[0]

    @property
    def metrics_url(self) -> str | None:
        """The metrics listener, if there is one."""
        return next(iter(self.addresses.listen_metrics), None)

    @property
    def client_http_url(self) -> str | None:
        """The HTTP listener of a split set-up, if there is one."""
        return next(iter(self.addresses.listen_client_http), None)

    @property
    def plain_client_url(self) -> str | None:
        """The ``http`` client listener on a port of its own, if there is one."""
        others = self.addresses.listen_client[1:]
        shared = self.client_url.rpartition(":")[2]
        return next((url for url in others if url.rpartition(":")[2] != shared), None)

    @property
    def pki_directory(self) -> Path:
        """The directory of its own key pairs."""
        return self.file("server.crt").parent

    @property
    def declared(self) -> DeclaredMember | None:
        """What it was told to be, read now; ``None`` if that is no declaration that can be read."""
        try:
            declaration = from_command_line(
                self.argv,
                self.variables,
                source=f"the command line of {self.name}",
                find=lambda path: self.config_file,
            )
        except UsageError:
            return None
        return declared_member(declaration, None if self.sees_pki_root else self.pki_root)

    def file(self, name: str) -> Path:
        """Return where a file of that logical name is."""
        return self.pki_root / self.files.path(name)

    def replace_files(self, contents: Mapping[str, bytes]) -> None:
        """Replace files by logical name, in that order, and let etcd see them.

        Raises:
            OSError: if the system or the container engine refuses.
        """
        write_files(self.pki_root, {self.files.path(name): content for name, content in contents.items()})
        self.copy_files()

    def copy_files(self) -> None:
        """Have etcd see the files of the PKI directory as they are on this host now; a process does."""
