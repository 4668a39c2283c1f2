"""The entries of a log that are about connections which etcd rejected.

Knows etcd's messages from 3.4 to 3.7; does not know our attempts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from pytest_etcdtls.etcd_log.causes import Cause, cause_of
from pytest_etcdtls.etcd_log.entries import LogEntry

Endpoint = Literal["client", "peer"]

WORDS: Final = ("rejected connection", "failed to complete security handshake", "ServerHandshake(")
"""What stands in every such line."""

_STRING = r'"((?:[^"\\]|\\.)*)"'
_TEXT = re.compile(
    rf"rejected connection from {_STRING} \(error {_STRING}, ServerName {_STRING}"
    r"(?:, IPAddresses (\[.*?\]), DNSNames (\[.*\]))?\)"
)
_GRPC = re.compile(
    rf"Server\.Serve failed to complete security handshake from {_STRING}: (?P<error>.*)"
    r'|ServerHandshake\(\\?"(?P<address>[^"\\]+)\\?"\) failed: (?P<why>.*?)"?$'
)
"""gRPC's own words; in 3.5.33 the second form is logged, and only at debug level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """One connection that etcd rejected.

    Attributes:
        line: in the log, counted from 1.
        time: aware UTC, ``None`` if the log does not tell it whole.
        remote_address: host and port that etcd saw, an IPv6 address in brackets.
        server_name: what the client sent by SNI.
        endpoint: ``client`` covers metrics as well; ``None`` in versions that do not say it.
        error: as the log has it.
        cause: behind it.
        certificate_names: names in the client's certificate, where the handshake got as far as to show them.
    """

    line: int
    time: datetime | None
    remote_address: str
    error: str
    cause: Cause
    server_name: str = ""
    endpoint: Endpoint | None = None
    certificate_names: tuple[str, ...] | None = None

    @property
    def remote_host(self) -> str:
        """The address without its port."""
        return self.remote_address.rpartition(":")[0].strip("[]")

    @property
    def remote_port(self) -> int:
        """The port, 0 if there is none."""
        port = self.remote_address.rpartition(":")[2]
        return int(port) if port.isdigit() else 0


def rejections(entries: Iterable[LogEntry]) -> Iterator[Rejection]:
    """Yield the rejected connections in the order of the log."""
    for entry in entries:
        found = _rejection(entry)
        if found is not None:
            yield found


def _rejection(entry: LogEntry) -> Rejection | None:
    if entry.message.startswith("rejected connection") and entry.text("remote-addr"):
        return _structured(entry)
    if match := _TEXT.search(entry.message):
        names = None if match[4] is None else tuple(_strings(match[4]) + _strings(match[5]))
        error = _unescaped(match[2])
        return Rejection(
            line=entry.line,
            time=entry.time,
            remote_address=_unescaped(match[1]),
            error=error,
            cause=cause_of(error, certificate_seen=names is not None),
            server_name=_unescaped(match[3]),
            certificate_names=names,
        )
    if match := _GRPC.search(entry.message):
        error = match["error"] or match["why"]
        cause = cause_of(error, certificate_seen=False)
        inside = cause is Cause.PLAINTEXT  # inside the TLS of the peer port
        return Rejection(
            line=entry.line,
            time=entry.time,
            remote_address=match["address"] or match[1],
            error=error,
            cause=Cause.HTTP2_ON_PEER_PORT if inside else cause,
            endpoint="peer" if inside else None,
        )
    return None


def _structured(entry: LogEntry) -> Rejection:
    seen = "ip-addresses" in entry.fields
    names = [*entry.fields.get("ip-addresses", ()), *entry.fields.get("dns-names", ())] if seen else None
    endpoint: Endpoint | None = None
    if entry.message.endswith("on client endpoint"):
        endpoint = "client"
    elif entry.message.endswith("on peer endpoint"):
        endpoint = "peer"
    return Rejection(
        line=entry.line,
        time=entry.time,
        remote_address=entry.text("remote-addr"),
        error=entry.text("error"),
        cause=cause_of(entry.text("error"), certificate_seen=seen),
        server_name=entry.text("server-name"),
        endpoint=endpoint,
        certificate_names=None if names is None else tuple(map(str, names)),
    )


def _unescaped(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"'))
    except ValueError:
        return text


def _strings(text: str) -> list[str]:
    return [_unescaped(found) for found in re.findall(_STRING, text)]
