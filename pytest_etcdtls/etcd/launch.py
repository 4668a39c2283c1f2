"""What an etcd is started with, and what its log says about the start.

Every etcd of this package is started as a :class:`Launch`: a member of a cluster (``member.py``), a replay of
the user's declaration (``relocation.py``), a container for users of testcontainers (``testcontainer.py``). It
runs as a process (``process.py``) or in a container (``container.py``), in the directory of its owner
(``home.py``).

etcd's own log says when a listener serves, because a connection to a port shows only that it is bound.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Self
from urllib.parse import urlsplit

from msgspec import Struct

from pytest_etcdtls.errors import UnreadableJSONError
from pytest_etcdtls.target import StartFailure
from pytest_etcdtls.untrusted.json_text import read_json
from pytest_etcdtls.untrusted.printable import printable

# etcd 3.4 logs text by default, 3.5 and later JSON.
_SERVED_TEXT = re.compile(r"embed: serving (insecure )?client requests on (\S+?),?(?: this is |$)")
_SERVED_JSON = re.compile(r"serving client traffic (securely|insecurely)")
_SERVES_PEERS = ('"msg":"serving peer traffic"', "embed: listening for peers on")
_ADDRESS_IN_USE = "bind: address already in use"
_NO_LOCAL_PORT = "connect: cannot assign requested address"
_PROBLEM = re.compile(r"not defined|error|fatal|panic|invalid|failed|cannot|could not|required|must", re.I)
_LINES = 8
_COLUMNS = 400


class Served(Struct, frozen=True):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What one etcd is started with. Its files are in the PKI directory of its owner.

    Attributes:
        name: name of its directory and, in a container, its host name.
        label: the etcd in messages: ``member m0 at https://127.0.0.1:20001``.
        arguments: the command line without the program. It contains paths but no secret.
        environment: environment variables, in addition to those that every etcd gets.
        config_file: content of its configuration file; ``None`` if it has none.
        ports: the ports on this host, by the port that it listens on, if it runs in a container.
        serves: the client listeners that it opens.
    """

    name: str
    label: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    config_file: str | None = field(default=None, repr=False)
    ports: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    serves: frozenset[Served] = frozenset()


class MemberAddresses(Struct, frozen=True, kw_only=True):
    """The URLs of one member.

    Attributes:
        name: the member's name.
        listen_client: ``--listen-client-urls``.
        advertise_client: ``--advertise-client-urls``.
        listen_peer: ``--listen-peer-urls``.
        advertise_peer: ``--initial-advertise-peer-urls``, and the member's part of ``--initial-cluster``.
        listen_metrics: ``--listen-metrics-urls``; empty for none.
        listen_client_http: ``--listen-client-http-urls``; empty for none.
    """

    name: str
    listen_client: tuple[str, ...]
    advertise_client: tuple[str, ...]
    listen_peer: tuple[str, ...]
    advertise_peer: tuple[str, ...]
    listen_metrics: tuple[str, ...] = ()
    listen_client_http: tuple[str, ...] = ()

    @property
    def plain_client(self) -> tuple[str, ...]:
        """The additional ``http`` client listener, if there is one on a port of its own."""
        port = urlsplit(self.listen_client[0]).port
        return tuple(url for url in self.listen_client[1:] if urlsplit(url).port != port)


class MemberPaths(Struct, frozen=True, kw_only=True):
    """The paths of a member's files, as etcd sees them.

    Attributes:
        data: ``--data-dir``.
        pki: the PKI directory.
        config_file: path of ``etcd.conf.yml``, whether or not it exists.
    """

    data: PurePosixPath
    pki: PurePosixPath
    config_file: PurePosixPath

    def fill_in(self, text: str) -> str:
        """Replace ``{pki}`` with the PKI directory."""
        return text.replace("{pki}", str(self.pki))


class ReadinessLog:
    """How far the start of an etcd is according to its log.

    Attributes:
        serves_peers: its peer port answers. There may be no leader yet.
        address_in_use: another program has taken one of its ports.
        cannot_connect: the system gave it no address and port to connect from.
    """

    def __init__(self, expected: Iterable[Served]) -> None:
        """Expect these listeners."""
        self._missing = set(expected)
        self._serves_clients = bool(self._missing)
        self._incomplete = b""
        self.serves_peers = False
        self.address_in_use = False
        self.cannot_connect = False

    def read(self, output: bytes) -> Self:
        """Read further output. Its last line may still be incomplete."""
        *lines, self._incomplete = (self._incomplete + output).split(b"\n")
        for line in (octets.decode(errors="replace") for octets in lines):
            if (served := parse_served(line)) is not None:
                self._missing.discard(served)
            elif any(mark in line for mark in _SERVES_PEERS):
                self.serves_peers = True
            elif _ADDRESS_IN_USE in line:
                self.address_in_use = True
            elif _NO_LOCAL_PORT in line:
                self.cannot_connect = True
        return self

    @property
    def ready(self) -> bool:
        """Whether every listener serves clients or, if none does, the peer port answers."""
        return not self._missing and (self._serves_clients or self.serves_peers)


def why_not_started(member: str, happened: str, log: str) -> StartFailure:
    """Return why an etcd did not start, with the message that explains it, and the lines of its log.

    Args:
        member: its label.
        happened: what was seen from outside: ``it ended with status 1``.
        log: its whole log.
    """
    lines = list(_problem_lines(log.splitlines()))
    explained = _message(lines[0]) if lines else "its log is empty"
    shown = tuple(printable(line, _COLUMNS) for line in lines)
    return StartFailure(member=member, reason=f"{happened}: {explained}", log=shown)


def with_last_line(happened: str, log: str) -> str:
    """Return how an etcd ended that had served, with its last words, which may not be the reason."""
    lines = [line for line in log.splitlines() if line.strip()]
    return f"{happened}; its log ends: {_message(lines[-1])}" if lines else happened


def _problem_lines(lines: Sequence[str]) -> Iterator[str]:
    """Yield the lines that say why etcd ended, the last one first. etcd's help text is left out."""
    usage = next((number for number, line in enumerate(lines) if line.strip() == "Usage:"), len(lines))
    before = [line for line in lines[:usage] if line.strip()]
    problems = [line for line in before if _PROBLEM.search(line)] or before
    yield from reversed(problems[-_LINES:])


def _message(line: str) -> str:
    """Return the message of a line of etcd's log."""
    try:
        entry = read_json(line)
    except UnreadableJSONError:
        entry = None
    fields = entry if isinstance(entry, dict) else {}
    return printable(": ".join(str(fields[key]) for key in ("msg", "error") if fields.get(key)) or line)


def parse_served(line: str) -> Served | None:
    """Return the listener that a log line reports as served; ``None`` for every other line."""
    if text := _SERVED_TEXT.search(line):
        return _served(text[2], secure=text[1] is None)
    if "serving client traffic" not in line:
        return None
    try:
        entry = read_json(line)
    except UnreadableJSONError:
        return None
    if not isinstance(entry, dict):
        return None
    message = _SERVED_JSON.match(str(entry.get("msg", "")))
    return _served(str(entry.get("address", "")), secure=message[1] == "securely") if message else None


def _served(address: str, *, secure: bool) -> Served | None:
    port = address.rpartition(":")[2]
    return Served(int(port), secure) if port.isdigit() else None
