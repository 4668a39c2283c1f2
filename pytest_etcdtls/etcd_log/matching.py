"""Matches lines of etcd's log with our connections, so that what is left is about other clients.

A line has no identifier of a run or a certificate. It is about a connection if it has the connection's local
address and its time. An address is used again, on loopback after a second, so of several connections the
nearest one in time is taken. If the clocks of the two machines differ by more than :data:`CLOCKS_APART`, no
line is about a connection of ours.

NAT, a proxy or the published port of a container changes the address. Then no line is about a connection of
ours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from pytest_etcdtls.etcd_log.parse import Rejection
from pytest_etcdtls.role import Side
from pytest_etcdtls.tls.hello import Connection, is_served

_AFTERWARDS: Final = timedelta(seconds=1)
"""The longest time from the end of a connection to its line in the log."""

_ROUNDED: Final = timedelta(milliseconds=2)
"""How much earlier than its connection a line may be: 3.5.0 and 3.5.1 log whole milliseconds."""

_TO_THE_SECOND: Final = timedelta(seconds=1)
"""The same for gRPC's lines, which have whole seconds."""

CLOCKS_APART: Final = timedelta(seconds=2)
"""How far a line may be from its connection if etcd is on another machine."""


def match_connections(
    connections: Sequence[Connection],
    rejections: Sequence[Rejection],
    *,
    endpoints: Mapping[str, Side] = MappingProxyType({}),
    slack: timedelta = CLOCKS_APART,
) -> dict[int, Connection]:
    """Return our connection for each line that is about one, by the index of the line.

    Args:
        connections: our connections to the member. Those without a local address are ignored.
        rejections: the rejections in the member's log, in its order.
        endpoints: the log's name of each listener, by URL.
        slack: how far the clock of the log may be from ours.
    """
    known: dict[str, list[Connection]] = defaultdict(list)
    for connection in connections:
        if connection.local_address:
            known[connection.local_address].append(connection)
    pairs = []
    for number, line in enumerate(rejections):
        for order, connection in enumerate(known.get(line.remote_address, ())):
            # A served connection has no line: a line with its address is about an earlier user of that port.
            # Both ends of a loopback connection have one clock.
            exact = is_served(connection) or line.remote_address.startswith(("127.", "[::1]", "@"))
            here = timedelta() if exact else slack
            endpoint = endpoints.get(connection.url)
            is_of = endpoint is None or line.endpoint in (None, endpoint)
            away = _outside(connection, line.time) if line.time is not None else timedelta()
            early = _TO_THE_SECOND if line.time is not None and not line.time.microsecond else _ROUNDED
            if is_of and -early - here <= away <= _AFTERWARDS + here:
                pairs.append((abs(away), number, order, connection))
    matched: dict[int, Connection] = {}
    used: set[int] = set()
    for _, number, _, connection in sorted(pairs, key=lambda pair: pair[:3]):
        if number not in matched and id(connection) not in used:
            matched[number] = connection
            used.add(id(connection))
    return matched


def ended_at(connection: Connection) -> datetime:
    """Return the time when a connection ended on our side."""
    return connection.started_at + timedelta(milliseconds=connection.milliseconds)


def _outside(connection: Connection, time: datetime) -> timedelta:
    """Return how far a time is after a connection, or negative, before it; zero if it is during it."""
    return min(time - connection.started_at, timedelta()) or max(time - ended_at(connection), timedelta())
