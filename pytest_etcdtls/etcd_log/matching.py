"""Matches lines of etcd's log with our connections, and compares how both describe the end.

A line has no identifier of a run or a certificate. It is about a connection if it has the connection's local
address and its time. An address is used again, on loopback after a second, so of several connections the
nearest one in time is taken. If the clocks of the two machines differ by more than :data:`CLOCKS_APART`, no
line is about a connection of ours.

NAT, a proxy or the published port of a container changes the address. Then no line is about a connection of
ours.

What etcd does for a cause is in its source and Go's: an alert from crypto/tls during the handshake, or, for
what client/pkg/transport/listener_tls.go checks after the handshake (checkCertSAN, checkCRL), a close_notify.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from pytest_etcdtls.etcd_log.parse import Cause, Rejection
from pytest_etcdtls.etcd_log.reasons import EXPLANATIONS
from pytest_etcdtls.role import Protocol, Side, TLSVersion
from pytest_etcdtls.tls.attempt import Attempt, Ending, alert_text
from pytest_etcdtls.tls.hello import Connection, HelloExchange, Reply, is_served

_AFTERWARDS: Final = timedelta(seconds=1)
"""The longest time from the end of a connection to its line in the log."""

_ROUNDED: Final = timedelta(milliseconds=2)
"""How much earlier than its connection a line may be: 3.5.0 and 3.5.1 log whole milliseconds."""

_TO_THE_SECOND: Final = timedelta(seconds=1)
"""The same for gRPC's lines, which have whole seconds."""

_NEAR: Final = timedelta(seconds=0.5)
"""How far a line mostly is from its connection."""

CLOCKS_APART: Final = timedelta(seconds=2)
"""How far it may be if etcd is on another machine."""


class Match(Struct, frozen=True):
    """One of our connections and its line in the log."""

    connection: Connection
    rejection: Rejection


class Matches(Struct, frozen=True):
    """The result of matching all connections and all lines.

    Attributes:
        ours: our connections with their lines, in the order of the log.
        unmatched: the other lines.
        unmentioned: the attempts that etcd refused, by an alert or by closing, without a line.
    """

    ours: tuple[Match, ...]
    unmatched: tuple[Rejection, ...]
    unmentioned: tuple[Attempt, ...]


def match_connections(
    connections: Sequence[Connection],
    rejections: Sequence[Rejection],
    *,
    endpoints: Mapping[str, Side] = MappingProxyType({}),
    slack: timedelta = CLOCKS_APART,
) -> Matches:
    """Match the lines of a log with connections.

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
            exact = is_served(connection) or line.remote_address.startswith(("127.", "[::1]"))
            here = timedelta() if exact else slack
            endpoint = endpoints.get(connection.url)
            is_of = endpoint is None or line.endpoint in (None, endpoint)
            away = _outside(connection, line.time) if line.time is not None else timedelta()
            early = _TO_THE_SECOND if line.time is not None and not line.time.microsecond else _ROUNDED
            if is_of and -early - here <= away <= _AFTERWARDS + here:
                # Connections to two listeners may have the same address at the same time.
                rank = (abs(away) > _NEAR, not agrees(connection, line), abs(away), number, order)
                pairs.append((rank, number, connection))
    matched: dict[int, Connection] = {}
    used: set[int] = set()
    for _, number, connection in sorted(pairs, key=lambda pair: pair[0]):
        if number not in matched and id(connection) not in used:
            matched[number] = connection
            used.add(id(connection))
    refused = [attempt for attempt in connections if isinstance(attempt, Attempt) and attempt.local_address]
    unmentioned = tuple(attempt for attempt in refused if ended_by_etcd(attempt) and id(attempt) not in used)
    return Matches(
        ours=tuple(Match(matched[number], rejections[number]) for number in sorted(matched)),
        unmatched=tuple(line for number, line in enumerate(rejections) if number not in matched),
        unmentioned=unmentioned,
    )


def ended_at(connection: Connection) -> datetime:
    """Return the time when a connection ended on our side."""
    return connection.started_at + timedelta(milliseconds=connection.milliseconds)


def ended_by_etcd(connection: Connection) -> bool:
    """Return whether etcd ended the connection, by an alert or by closing it."""
    if isinstance(connection, Attempt):
        return connection.ending in (Ending.REFUSED, Ending.CLOSED, Ending.OTHER)
    return connection.reply is Reply.ALERT


def _outside(connection: Connection, time: datetime) -> timedelta:
    """Return how far a time is after a connection, or negative, before it; zero if it is during it."""
    return min(time - connection.started_at, timedelta()) or max(time - ended_at(connection), timedelta())


_MISSING: Final = {TLSVersion.TLS1_2: 40, TLSVersion.TLS1_3: 116}
"""The alerts for a missing certificate of Go 1.26 and newer."""

_ENDED_BY_US = frozenset({Cause.GONE, Cause.SILENT, Cause.STOPPING, Cause.REFUSED_BY_CLIENT, Cause.OTHER})
"""Causes that etcd logs for a connection that it did not refuse."""


class LoggedAttempt(Struct, frozen=True, kw_only=True):
    """One attempt of this run, and etcd's log line about it.

    Attributes:
        purpose: of the attempt.
        identity: the identity presented.
        version: the only TLS version offered, ``None`` for plaintext.
        on_the_wire: how it ended.
        in_the_log: etcd's reason, and the text that it logged.
        expected: how an attempt ends for that reason.
        agree: it ended as expected.
        remote_address: the remote address in the log line.
    """

    purpose: str
    identity: str
    version: TLSVersion | None
    protocol: Protocol
    on_the_wire: str
    in_the_log: str
    expected: str
    agree: bool
    remote_address: str


def compare_wire_and_log(attempt: Attempt, rejection: Rejection) -> LoggedAttempt:
    """Compare how an attempt ended with the cause in the log.

    Args:
        attempt: our attempt.
        rejection: its line in the log.
    """
    alerts = expected_alerts(rejection.cause, attempt.version or attempt.offered_version)
    if alerts:
        agree = attempt.alert in alerts
        expected = f"alert {' or '.join(alert_text(number) for number in sorted(alerts))}"
    elif EXPLANATIONS[rejection.cause].closes:
        agree = attempt.ending is Ending.CLOSED
        expected = "close_notify after the handshake, without an alert"
    elif rejection.cause is Cause.PLAINTEXT:
        agree = attempt.version is None and attempt.alert is None and attempt.ending is not Ending.SERVED
        expected = "the end of the connection without a byte of TLS"
    elif rejection.cause is Cause.HTTP2_ON_PEER_PORT:
        agree = attempt.ending in (Ending.CLOSED, Ending.UNCLEAR)
        expected = "close_notify, or silence, after the handshake"
    elif rejection.cause in (Cause.STOPPING, Cause.OTHER):
        agree = attempt.ending is not Ending.SERVED
        expected = "the end of the connection"
    else:
        agree = attempt.ending is Ending.UNCLEAR
        expected = "no verdict: the connection ended on our side"
    return LoggedAttempt(
        purpose=attempt.purpose,
        identity=attempt.identity,
        version=attempt.offered_version,
        protocol=attempt.protocol,
        on_the_wire=attempt.describe(),
        in_the_log=f"{rejection.cause}: {rejection.error}",
        expected=expected,
        agree=agree,
        remote_address=rejection.remote_address,
    )


def agrees(connection: Connection, rejection: Rejection) -> bool:
    """Return whether an attempt or a ClientHello exchange ended as expected for the cause in the log."""
    if not isinstance(connection, HelloExchange):
        return compare_wire_and_log(connection, rejection).agree
    if connection.reply is Reply.ALERT:
        return rejection.cause is Cause.OTHER or connection.alert in expected_alerts(rejection.cause, None)
    return rejection.cause in _ENDED_BY_US


def expected_alerts(cause: Cause, version: str | None) -> frozenset[int]:
    """Return the alerts that some release of Go sends for a cause; empty if it sends none.

    Args:
        cause: the cause of the refusal.
        version: the TLS version, ``TLSv1.2`` or ``TLSv1.3``; ``None`` if it is not known.
    """
    missing = _MISSING.items() if cause is Cause.NO_CERTIFICATE else ()
    return frozenset(
        {*EXPLANATIONS[cause].alerts, *(alert for of, alert in missing if version in (None, of))}
    )
