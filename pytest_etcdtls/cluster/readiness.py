"""When does a member serve its clients? Read from etcd's own log.

Pure: text in, facts out. Lines as measured on 3.4.23 (plain text, and JSON with ``--logger=zap``), 3.5.1,
3.5.33, 3.6.16 and 3.7.3 (JSON); etcd writes one per listener, just before it accepts the first connection,
once the member has joined the cluster and there is a leader. This module does not know where the log is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

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
