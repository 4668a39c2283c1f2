"""The entries of a log that are about connections which etcd itself could not make.

Knows etcd's messages from 3.4 to 3.7.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pytest_etcdtls.etcd_log.causes import Cause, cause_of
from pytest_etcdtls.etcd_log.entries import LogEntry

WORDS: Final = (
    "prober detected unhealthy status",
    "failed to reach the peer",
    "could not connect: ",
    "addrConn.createTransport failed",
)
"""What stands in every such line."""

_NOT_TLS = (Cause.OTHER, Cause.STOPPING, Cause.SILENT, Cause.GONE)
"""What says nothing about certificates: the other side may just not be there."""

_DIALLED = re.compile(r"health check for peer (\w+) could not connect: (.*)")
_DIALLED_URL = re.compile(r"failed to reach the peerURL\((\S+)\) of member \w+ \((.*)\)$")
_GATEWAY = re.compile(r'addrConn\.createTransport failed to connect to \{(?:Addr: ")?([^",\s}]+).*?Err: (.*)')


@dataclass(frozen=True, slots=True, kw_only=True)
class DialFailure:
    """One connection that etcd itself could not make, as a client.

    Attributes:
        line: in the log, counted from 1.
        target: a URL, an address or the id of a member.
        gateway: it is the JSON gateway that dials its own server, not a member that dials another.
    """

    line: int
    time: datetime | None
    target: str
    gateway: bool
    error: str
    cause: Cause

    @property
    def meaning(self) -> str:
        """What happened, one sentence: the error is seen from the side that connects."""
        refused = "remote error: " in self.error
        if self.gateway and refused:
            return "etcd refuses the certificate of its JSON gateway, which connects to its own server"
        if self.gateway:
            return f"the JSON gateway, which connects to its own server, cannot connect: {self.cause}"
        if refused:
            return f"the member {self.target} refuses this member's certificate"
        return f"the member {self.target} serves a certificate that this member does not accept: {self.cause}"


def dial_failures(entries: Iterable[LogEntry]) -> Iterator[DialFailure]:
    """Yield etcd's own connections that failed because of TLS."""
    for entry in entries:
        found = _dialled(entry)
        if found is None:
            continue
        target, error, gateway = found
        cause = cause_of(error, certificate_seen=False)
        if cause not in _NOT_TLS:
            yield DialFailure(
                line=entry.line, time=entry.time, target=target, gateway=gateway, error=error, cause=cause
            )


def _dialled(entry: LogEntry) -> tuple[str, str, bool] | None:
    if entry.message == "prober detected unhealthy status":
        return entry.text("remote-peer-id"), entry.text("error"), False
    if entry.message == "failed to reach the peer URL":
        return entry.text("address"), entry.text("error"), False
    for pattern, gateway in ((_DIALLED, False), (_DIALLED_URL, False), (_GATEWAY, True)):
        if match := pattern.search(entry.message):
            return match[1], match[2], gateway
    return None
