"""One member of an owned cluster: its URLs, its files and its readiness."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_etcdtls.cluster.command_line import FileNames, MemberAddresses
from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.declared.declaration import DeclaredMember
from pytest_etcdtls.errors import UnreadableJSONError, UsageError
from pytest_etcdtls.pki.bundle import write_files
from pytest_etcdtls.untrusted import read_json

if TYPE_CHECKING:
    import httpx

    from pytest_etcdtls.cluster.container import EtcdContainer
    from pytest_etcdtls.cluster.process import EtcdProcess

_TEXT = re.compile(r"embed: serving (insecure )?client requests on (\S+?),?(?: this is |$)")
_JSON_MESSAGE = re.compile(r"serving client traffic (securely|insecurely)")
_SERVES_PEERS = ('"msg":"serving peer traffic"', "embed: listening for peers on")
_ADDRESS_IN_USE = "bind: address already in use"


@dataclass(frozen=True, slots=True)
class Served:
    """A client listener that accepts connections.

    Attributes:
        port: port of the listener. The host in the log may differ from the URL's (``[::]`` for ``0.0.0.0``).
        secure: whether it serves TLS. One port may serve both.
    """

    port: int
    secure: bool

    @classmethod
    def from_urls(cls, urls: Iterable[str]) -> frozenset[Served]:
        """Return the listeners of these URLs."""
        parts = map(urlsplit, urls)
        return frozenset(cls(url.port or 2379, url.scheme == "https") for url in parts)


class ReadinessLog:
    """The readiness of a member according to its log.

    Attributes:
        serves_peers: its peer port answers. There may be no leader yet.
        address_in_use: another program has taken one of its ports.
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
    """Return the listener that a log line reports as served; ``None`` for every other line."""
    if text := _TEXT.search(line):
        return _served(text[2], secure=text[1] is None)
    if "serving client traffic" not in line:
        return None
    try:
        entry = read_json(line)
    except UnreadableJSONError:
        return None
    if not isinstance(entry, dict):
        return None
    message = _JSON_MESSAGE.match(str(entry.get("msg", "")))
    return _served(str(entry.get("address", "")), secure=message[1] == "securely") if message else None


def _served(address: str, *, secure: bool) -> Served | None:
    port = address.rpartition(":")[2]
    return Served(int(port), secure) if port.isdigit() else None


@dataclass(kw_only=True)
class Member:
    """One etcd server of an owned cluster.

    Attributes:
        addresses: its URLs as seen from this host.
        argv: its command line, for reports. It contains paths but no secret.
        pki_root: the cluster's PKI directory on this host.
        files: paths of its files below ``pki_root``.
        server: the process or the container that runs its etcd.
        listens: the client listeners of its etcd, as etcd sees them.
        variables: environment variables from the configuration.
        config_file: its ``--config-file`` on this host; ``None`` if it has none.
        sees_pki_root: whether etcd sees its files under the same paths. In a container the paths differ.
        left_out: the part of its log, from one character to another, that is about earlier runs.
    """

    addresses: MemberAddresses
    argv: tuple[str, ...]
    pki_root: Path
    files: FileNames = field(repr=False)
    server: EtcdProcess | EtcdContainer = field(repr=False)
    listens: frozenset[Served] = field(repr=False)
    variables: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    config_file: Path | None = None
    sees_pki_root: bool = True
    left_out: tuple[int, int] = field(default=(0, 0), repr=False)
    _readiness: ReadinessLog = field(default_factory=lambda: ReadinessLog(()), init=False, repr=False)

    @property
    def name(self) -> str:
        """Its name: ``m0``, ``m1`` ..."""
        return self.addresses.name

    @property
    def client_url(self) -> str:
        """The client listener, reachable from here; its scheme is ``ClusterConfig.client_scheme``."""
        return self.addresses.listen_client[0]

    @property
    def peer_url(self) -> str:
        """The peer listener, reachable from here."""
        return self.addresses.listen_peer[0]

    @property
    def metrics_url(self) -> str | None:
        """The metrics listener, if there is one."""
        return next(iter(self.addresses.listen_metrics), None)

    @property
    def client_http_url(self) -> str | None:
        """The listener of ``--listen-client-http-urls``, if there is one."""
        return next(iter(self.addresses.listen_client_http), None)

    @property
    def plain_client_url(self) -> str | None:
        """The additional ``http`` client listener, if there is one."""
        others = self.addresses.listen_client[1:]
        shared = self.client_url.rpartition(":")[2]
        return next((url for url in others if url.rpartition(":")[2] != shared), None)

    @property
    def pki_directory(self) -> Path:
        """Directory of its key pairs on this host (0700). Files may be replaced while etcd runs."""
        return self.file("server.crt").parent

    @property
    def declared(self) -> DeclaredMember | None:
        """Its declaration, read at this moment; ``None`` if the declaration cannot be read."""
        from pytest_etcdtls.declared.reading import declared_member, from_command_line

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
        """Return the path on this host of a file by logical name (``server.crt``, ``client-ca.crt``)."""
        return self.pki_root / self.files.path(name)

    def ssl_context(self) -> ssl.SSLContext:
        """Return a context that trusts the CA of the client listener and presents the client certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.file("server-ca.crt"))
        context.load_cert_chain(self.file("client.crt"), self.file("client.key"))
        return context

    def client(self) -> httpx.Client:
        """Return an HTTP client with the client certificate. The caller closes it."""
        import httpx  # slow to import, and starting a cluster does not need it

        return httpx.Client(base_url=self.client_http_url or self.client_url, verify=self.ssl_context())

    def replace_files(self, contents: Mapping[str, bytes]) -> None:
        """Replace files by logical name, in the given order. etcd sees the new files and is not notified.

        A process sees either the old file or the new one; in a container the file is missing in between.

        Raises:
            OSError: if the system or the container engine refuses.
        """
        write_files(self.pki_root, {self.files.path(name): content for name, content in contents.items()})
        self.server.copy_files()

    @property
    def running(self) -> bool:
        """Whether the process or container is running."""
        return self.server.running

    @property
    def ready(self) -> bool:
        """Whether it is running and has logged since its last start that it serves clients."""
        return self.running and self.readiness().ready

    def log(self) -> str:
        """Return the whole log of this member so far, including earlier starts, but not earlier runs."""
        text, (begin, end) = self.server.log(), self.left_out
        return text[:begin] + text[end:]

    def start(self) -> None:
        """Start its etcd. On return the listeners may not be served yet.

        Raises:
            OSError: if it cannot be started.
            PortTakenError: if the container engine finds one of its ports taken.
        """
        self._readiness = ReadinessLog(self.listens)
        self.server.start()

    def readiness(self) -> ReadinessLog:
        """Read the log lines since the last call, and return the member's readiness."""
        self._readiness.feed(self.server.new_lines())
        return self._readiness
