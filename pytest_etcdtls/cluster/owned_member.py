"""One member: its URLs, its files, and when it serves clients."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

from pytest_etcdtls.cluster.command_line import FileNames, MemberAddresses
from pytest_etcdtls.declared.declaration import DeclaredMember
from pytest_etcdtls.declared.reading import declared_member, from_command_line
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.pki.bundle import write_files

_TEXT = re.compile(r"embed: serving (insecure )?client requests on (\S+?),?(?: this is |$)")
_JSON_MESSAGE = re.compile(r"serving client traffic (securely|insecurely)")
_SERVES_PEERS = ('"msg":"serving peer traffic"', "embed: listening for peers on")
_ADDRESS_IN_USE = "bind: address already in use"


@dataclass(frozen=True, slots=True)
class Served:
    """A client listener that accepts connections.

    Attributes:
        port: in the log the host may be another than in the URL (``[::]`` for ``0.0.0.0``).
        secure: whether with TLS; one port may serve both.
    """

    port: int
    secure: bool

    @classmethod
    def from_urls(cls, urls: Iterable[str]) -> frozenset[Served]:
        """Return what must be served for these listen URLs."""
        parts = map(urlsplit, urls)
        return frozenset(cls(url.port or 2379, url.scheme == "https") for url in parts)


class ReadinessLog:
    """What a member's log has told so far.

    Attributes:
        serves_peers: its peer port answers, though there may be no leader.
        address_in_use: one of its ports was taken by somebody else.
    """

    def __init__(self, expected: Iterable[Served]) -> None:
        """Expect these listeners."""
        self._missing = set(expected)
        self.serves_peers = False
        self.address_in_use = False

    @property
    def ready(self) -> bool:
        """Whether every listener serves clients."""
        return not self._missing

    def feed(self, lines: Iterable[str]) -> None:
        """Read further lines."""
        for line in lines:
            if (served := parse_served(line)) is not None:
                self._missing.discard(served)
            elif any(mark in line for mark in _SERVES_PEERS):
                self.serves_peers = True
            elif _ADDRESS_IN_USE in line:
                self.address_in_use = True


def parse_served(line: str) -> Served | None:
    """Return the listener that a line says is served now; ``None`` for every other line."""
    if text := _TEXT.search(line):
        return _served(text[2], secure=text[1] is None)
    if "serving client traffic" not in line:
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    message = _JSON_MESSAGE.match(str(entry.get("msg", "")))
    return _served(str(entry.get("address", "")), secure=message[1] == "securely") if message else None


def _served(address: str, *, secure: bool) -> Served | None:
    port = address.rpartition(":")[2]
    return Served(int(port), secure) if port.isdigit() else None


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
