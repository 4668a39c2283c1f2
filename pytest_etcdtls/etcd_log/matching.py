"""Matches lines of etcd's log with our connections, and compares how both describe the end.

A line has no identifier of a run or a certificate. It is matched by the local address of the connection. If a
proxy or NAT changes the address, it is matched by the port; if the port changes too, by the time:

- An address is used again, on loopback after a second. So the time must fit too, within the difference that
  the clocks may have, and of several connections the nearest one in time is taken.
- Ports and times fit by chance. So they count for a listener only if at least half of the connections that it
  refused have a line, and a time only for a line whose cause is an expected one for the way in which the
  connection ended (:func:`agrees`).

What etcd does for a cause is in its source and Go's: an alert from crypto/tls during the handshake, or, for
what client/pkg/transport/listener_tls.go checks after the handshake (checkCertSAN, checkCRL), a close_notify.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from pytest_etcdtls.etcd_log.parse import Cause, Rejection
from pytest_etcdtls.role import Side, TLSVersion
from pytest_etcdtls.tls.attempt import Attempt, Ending, alert_text
from pytest_etcdtls.tls.hello import Connection, HelloExchange, Reply, is_served

_AFTERWARDS: Final = timedelta(seconds=1)
"""The longest time from the end of a connection to its line in the log."""

_ROUNDED: Final = timedelta(milliseconds=2)
"""How much earlier than its connection a line may be: 3.5.0 and 3.5.1 log whole milliseconds."""

_TO_THE_SECOND: Final = timedelta(seconds=1)
"""The same for gRPC's lines, which have whole seconds."""


def is_in_time(connection: Connection, time: datetime | None, slack: timedelta = timedelta()) -> bool:
    """Return whether a line can be about a connection by its time; ``True`` for a line without a time.

    Args:
        connection: our connection.
        time: the time of the line.
        slack: the largest accepted difference of the two clocks.
    """
    if time is None:
        return True
    early = _ROUNDED if time.microsecond else _TO_THE_SECOND
    return connection.started_at - early - slack <= time <= ended_at(connection) + _AFTERWARDS + slack


def distance(connection: Connection, time: datetime | None) -> timedelta:
    """Return how far a time is outside a connection's duration; zero if it is inside or not known."""
    if time is None:
        return timedelta()
    return max(connection.started_at - time, time - ended_at(connection), timedelta())


def ended_at(connection: Connection) -> datetime:
    """Return the time when a connection ended on our side."""
    return connection.started_at + timedelta(milliseconds=connection.milliseconds)


_AROUND: Final = timedelta(seconds=5)
"""Lines at a larger distance in time are not compared."""


def match_by_time(
    connections: Sequence[Connection],
    lines: Mapping[int, Rejection],
    agrees: Callable[[Connection, Rejection], bool],
) -> dict[int, Connection]:
    """Return the connection of each line that matches one. Each connection is used once.

    Args:
        connections: our connections in any order.
        lines: the lines by their index. Lines without a time match nothing.
        agrees: returns whether a line can be about a connection.
    """
    left = list(connections)
    if not left:
        return {}
    matched: dict[int, Connection] = {}
    first, last = min(one.started_at for one in left), max(map(ended_at, left))
    timed = [
        (line.time, number, line)
        for number, line in lines.items()
        if line.time is not None and first - _AROUND <= line.time <= last + _AROUND
    ]
    for time, number, line in sorted(timed, key=lambda one: one[:2]):
        fitting = [one for one in left if is_in_time(one, time) and agrees(one, line)]
        if fitting:
            matched[number] = min(fitting, key=lambda one: (distance(one, time), ended_at(one)))
            left.remove(matched[number])
    return matched


_TOLERANCE: Final = timedelta(seconds=2)
"""The tolerance between clock differences. A clock difference up to this value counts as zero."""

_ENOUGH: Final = 3
"""The number of lines that must show the same clock difference."""


def clock_ahead(connections: Iterable[Connection], rejections: Iterable[Rejection]) -> timedelta:
    """Return how far the log's clock is ahead of ours; zero if it is unknown or negligible.

    The clocks are compared by the lines that have the address of a connection. Behind a proxy or NAT only the
    port can be the same. Ports are assigned in sequence, so that many ports of a proxy may equal ours by
    chance: there, lines must agree about at least half of the refused connections.

    Args:
        connections: our connections.
        rejections: the log's rejections from the time of these connections.
    """
    ours = [one for one in connections if one.local_address]
    lines = list(rejections)
    similar = _similar_differences(ours, lines, str)
    if len(similar) < _ENOUGH:
        similar = _similar_differences(ours, lines, lambda address: address.rpartition(":")[2])
        if 2 * len(similar) < sum(ended_by_etcd(one) for one in ours):
            return timedelta()
    ahead = similar[len(similar) // 2] if len(similar) >= _ENOUGH else timedelta()
    return ahead if abs(ahead) > _TOLERANCE else timedelta()


def _similar_differences(
    connections: Iterable[Connection], lines: Iterable[Rejection], part: Callable[[str], str]
) -> Sequence[timedelta]:
    """Return the most frequent clock differences of lines and connections that share an address or port."""
    starts = defaultdict(list)
    for connection in connections:
        starts[part(connection.local_address)].append(connection.started_at)
    return _longest_similar_run(
        sorted(
            line.time - started_at
            for line in lines
            if line.time is not None
            for started_at in starts.get(part(line.remote_address), ())
        )
    )


def by_our_clock(rejections: Iterable[Rejection], ahead: timedelta) -> tuple[Rejection, ...]:
    """Return the lines with their times converted to our clock."""
    if not ahead:
        return tuple(rejections)
    return tuple(
        replace(rejection, time=rejection.time - ahead) if rejection.time is not None else rejection
        for rejection in rejections
    )


def _longest_similar_run(differences: Sequence[timedelta]) -> Sequence[timedelta]:
    """Return the longest run of similar differences; of runs with equal length, the one nearest to zero."""
    best: Sequence[timedelta] = ()
    end = 0
    for begin, least in enumerate(differences):
        while end < len(differences) and differences[end] - least <= _TOLERANCE:
            end += 1
        run = differences[begin:end]
        if (len(run), -abs(run[len(run) // 2])) > (
            len(best),
            -abs(best[len(best) // 2]) if best else timedelta.min,
        ):
            best = run
    return best


CLOCKS_APART: Final = timedelta(seconds=2)
"""The default tolerance for the clock difference of two machines."""


class MatchedBy(StrEnum):
    """How a line was matched."""

    ADDRESS = "address and port"
    PORT = "port and time"
    TIME = "time"


class Match(Struct, frozen=True):
    """One of our connections and its line in the log."""

    connection: Connection
    rejection: Rejection
    by: MatchedBy = MatchedBy.ADDRESS


class Matches(Struct, frozen=True):
    """The result of matching all connections and all lines.

    Attributes:
        ours: our connections with their lines, in the order of the log.
        unmatched: the lines that match none of our connections.
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
    agrees: Callable[[Connection, Rejection], bool] | None = None,
    alone: bool = False,
    slack: timedelta = CLOCKS_APART,
) -> Matches:
    """Match the lines of a log with connections.

    Args:
        connections: our connections to the member. Those without a local address are ignored.
        rejections: the rejections in the member's log, in its order.
        endpoints: the log's name of each listener, by URL.
        agrees: returns whether a line can be about a connection; ``None`` disables matching by time.
        alone: whether there are no other clients, so that a line during a connection is about it even if
            ``agrees`` returns ``False``.
        slack: the largest accepted difference of the clocks. Ports are reused, on loopback after a second.
    """
    matching = _Matching(connections, rejections, endpoints, slack)
    matching.by_address(agrees or (lambda *_: True))
    known = [url for url in matching.urls() if not endpoints or url in endpoints]
    left = [url for url in known if not matching.knows(url) and not matching.by_port(url)]
    if agrees is not None:
        matching.by_time(left, agrees, alone=alone)
    return matching.result()


def ended_by_etcd(connection: Connection) -> bool:
    """Return whether etcd ended the connection, by an alert or by closing it."""
    if isinstance(connection, Attempt):
        return connection.ending in (Ending.REFUSED, Ending.CLOSED, Ending.OTHER)
    return connection.reply is Reply.ALERT


_AGREEING: Final = timedelta(seconds=0.5)
"""How far a line may be outside its connection's duration if the clocks agree."""


class _Matching(Struct):
    """The state of matching lines with connections."""

    connections: Sequence[Connection]
    rejections: Sequence[Rejection]
    endpoints: Mapping[str, Side]
    slack: timedelta
    known: dict[int, tuple[int, Match]] = {}
    """The index of the line and the match, by the object identity of the connection."""
    _lines: dict[int, None] = {}
    _by_port: dict[str, list[Connection]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for connection in self.connections:
            if connection.local_address:
                self._by_port[connection.local_address.rpartition(":")[2]].append(connection)

    def by_address(self, agrees: Callable[[Connection, Rejection], bool]) -> None:
        """Match by equal address, the nearest in time first, since ports are reused.

        Connections to two listeners may have the same address at the same time. There, a line is about the
        one that ended as expected for its cause.
        """
        same = [
            (distance(connection, rejection.time), number, order, connection)
            for number, rejection in enumerate(self.rejections)
            for order, connection in enumerate(self._at_port(rejection))
            if connection.local_address == rejection.remote_address
            and self._is_in_time(connection, rejection)
        ]
        near = [one for one in same if one[0] <= _AGREEING]
        if len(near) >= _ENOUGH and 2 * len(near) > len(same):
            # The clocks agree, so an earlier line is about another connection from the same port.
            early = [one for one in same if one not in near and self._is_before(one[3], one[1])]
            same = [one for one in same if one not in early]

        def place(found: tuple[timedelta, int, int, Connection]) -> tuple[bool, bool, timedelta, int, int]:
            away, number, order, connection = found
            return away > _AGREEING, not agrees(connection, self.rejections[number]), away, number, order

        for _, number, _, connection in sorted(same, key=place):
            if number not in self._lines and id(connection) not in self.known:
                self._add({number: Match(connection, self.rejections[number])})

    def _is_before(self, connection: Connection, number: int) -> bool:
        time = self.rejections[number].time
        if time is None:
            return False
        return time < connection.started_at - (timedelta() if time.microsecond else _TO_THE_SECOND)

    def by_port(self, url: str) -> bool:
        """Match by port and time. The matches are accepted only if they are enough for the listener."""
        matches: dict[int, Match] = {}
        here = {id(connection) for connection in self._at(url)}
        for number, rejection in self._left():
            near = [
                connection
                for connection in self._at_port(rejection)
                if id(connection) in here
                and rejection.time is not None
                and self._is_in_time(connection, rejection)
            ]
            if len(near) == 1:
                matches[number] = Match(near[0], rejection, MatchedBy.PORT)
                here.discard(id(near[0]))
        enough = self._is_enough(url, matches.values())
        if enough:
            self._add(matches)
        return enough

    def by_time(
        self, urls: Sequence[str], agrees: Callable[[Connection, Rejection], bool], *, alone: bool
    ) -> None:
        """Match by time. A listener with too few matches gets none.

        All listeners are matched together, so that each line is assigned to the nearest connection.
        """
        pool = [one for url in urls for one in self._at(url)]
        lines = dict(self._left())
        pairs = match_by_time(
            pool, lines, lambda one, line: self._may_be_about(one, line) and agrees(one, line)
        )
        matches = {number: Match(one, lines[number], MatchedBy.TIME) for number, one in pairs.items()}
        matched = [url for url in urls if self._is_enough(url, matches.values())]
        if len(matched) < len(urls):
            if matched:
                self.by_time(matched, agrees, alone=alone)
            return
        self._add(matches)
        if alone:
            rest = [one for one in pool if id(one) not in self.known and not is_served(one)]
            lines = dict(self._left())
            pairs = match_by_time(rest, lines, self._may_be_about)
            self._add({number: Match(one, lines[number], MatchedBy.TIME) for number, one in pairs.items()})

    def urls(self) -> list[str]:
        """Return the URLs of the listeners of all connections."""
        return list(dict.fromkeys(connection.url for connection in self.connections))

    def knows(self, url: str) -> bool:
        """Return whether a connection to that listener has a line."""
        return any(id(one) in self.known for one in self._at(url))

    def result(self) -> Matches:
        ordered = sorted(self.known.values(), key=lambda found: found[0])
        return Matches(
            ours=tuple(match for _, match in ordered),
            unmatched=tuple(line for _, line in self._left()),
            unmentioned=tuple(
                one
                for one in self.connections
                if isinstance(one, Attempt)
                and one.local_address
                and ended_by_etcd(one)
                and id(one) not in self.known
            ),
        )

    def _at(self, url: str) -> list[Connection]:
        return [one for one in self.connections if one.url == url]

    def _left(self) -> list[tuple[int, Rejection]]:
        return [found for found in enumerate(self.rejections) if found[0] not in self._lines]

    def _at_port(self, rejection: Rejection) -> list[Connection]:
        return [
            connection
            for connection in self._by_port.get(str(rejection.remote_port), ())
            if id(connection) not in self.known and self._may_be_about(connection, rejection)
        ]

    def _may_be_about(self, connection: Connection, rejection: Rejection) -> bool:
        endpoint = self.endpoints.get(connection.url)
        return endpoint is None or rejection.endpoint in (None, endpoint)

    def _is_in_time(self, connection: Connection, rejection: Rejection) -> bool:
        # A served connection has no line: a line with its port is about an earlier user of that port.
        slack = timedelta() if is_served(connection) else self.slack
        return is_in_time(connection, rejection.time, slack)

    def _is_enough(self, url: str, matches: Iterable[Match]) -> bool:
        """Return whether the matches include at least half of the connections that the listener refused."""
        here = self._at(url)
        matched = {id(match.connection) for match in matches} & {id(one) for one in here}
        ended = [one for one in here if ended_by_etcd(one)]
        return bool(matched) and sum(id(one) in matched for one in ended) * 2 >= len(ended)

    def _add(self, matches: Mapping[int, Match]) -> None:
        for number, match in matches.items():
            self.known[id(match.connection)] = (number, match)
        self._lines |= dict.fromkeys(matches)


# Measured on etcd: up to Go 1.19 bad_certificate for every cause, from 1.24 specific alerts, and from 1.26
# handshake_failure for a missing certificate in TLS 1.2. Between two measured versions either is expected. In
# Go's source (crypto/tls/handshake_server.go, processCertsFromClient) the changes came with 1.21 and 1.25.
_OLD, _NEW, _NEWEST = (1, 19), (1, 24), (1, 26)

_SINCE_1_24: Final[Mapping[Cause, int]] = {Cause.UNKNOWN_CA: 48, Cause.EXPIRED: 45, Cause.NOT_YET_VALID: 45}
_ALWAYS: Final[Mapping[Cause, int]] = {
    Cause.USAGE: 42,
    Cause.EXTENSION: 42,
    Cause.NAME_NOT_ALLOWED: 42,
    Cause.PROTOCOL_VERSION: 70,
    Cause.CIPHER_SUITE: 40,
    Cause.ALPN: 120,
    Cause.SERVED_PAIR: 80,
}
_CLOSES: Final = frozenset({Cause.ADDRESS, Cause.REVOKED, Cause.CRL_UNREADABLE})
"""Causes for which etcd closes the connection after the handshake, without an alert."""

_ENDED_BY_US = frozenset({Cause.GONE, Cause.SILENT, Cause.STOPPING, Cause.REFUSED_BY_CLIENT, Cause.OTHER})
"""Causes that etcd logs for a connection that it did not refuse."""


class WireAndLog(Struct, frozen=True):
    """How one connection ended, on the wire and in etcd's log.

    Attributes:
        agree: whether both agree.
        on_the_wire: how the attempt ended.
        in_the_log: the cause and the error in the log.
        expected: how an attempt is expected to end for that cause.
    """

    agree: bool
    on_the_wire: str
    in_the_log: str
    expected: str


def compare_wire_and_log(attempt: Attempt, rejection: Rejection, go_version: str | None = None) -> WireAndLog:
    """Compare how an attempt ended with the cause in the log.

    Args:
        attempt: our attempt.
        rejection: its line in the log.
        go_version: the version of Go that etcd was built with, ``go1.24.0``; ``None`` accepts the alert of
            any version.
    """
    alerts = expected_alerts(rejection.cause, attempt.version or attempt.offered_version, go_version)
    if alerts:
        agree = attempt.alert in alerts
        expected = f"alert {' or '.join(alert_text(number) for number in sorted(alerts))}"
    elif rejection.cause in _CLOSES:
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
    return WireAndLog(
        agree=agree,
        on_the_wire=attempt.describe(),
        in_the_log=f"{rejection.cause}: {rejection.error}",
        expected=expected,
    )


def agrees(connection: Connection, rejection: Rejection, go_version: str | None = None) -> bool:
    """Return whether an attempt or a ClientHello exchange ended as expected for the cause in the log.

    Args:
        connection: our connection.
        rejection: a line that may be about it.
        go_version: as in :func:`compare_wire_and_log`.
    """
    if not isinstance(connection, HelloExchange):
        return compare_wire_and_log(connection, rejection, go_version).agree
    if connection.reply is Reply.ALERT:
        return rejection.cause is Cause.OTHER or connection.alert in expected_alerts(
            rejection.cause, None, go_version
        )
    return rejection.cause in _ENDED_BY_US


def expected_alerts(cause: Cause, version: str | None, go_version: str | None) -> frozenset[int]:
    """Return the alerts that Go may send for a cause; empty if it sends none.

    Args:
        cause: the cause of the refusal.
        version: the TLS version, ``TLSv1.2`` or ``TLSv1.3``; ``None`` if it is not known.
        go_version: as in :func:`compare_wire_and_log`.
    """
    if cause in _ALWAYS:
        return frozenset({_ALWAYS[cause]})
    go = _go(go_version)
    if cause in _SINCE_1_24:
        return _since(go, _SINCE_1_24[cause])
    if cause is not Cause.NO_CERTIFICATE:
        return frozenset()
    in_tls12, in_tls13 = _since(go, 40, _NEW, _NEWEST), _since(go, 116)
    if version == TLSVersion.TLS1_3:
        return in_tls13
    return in_tls12 if version == TLSVersion.TLS1_2 else in_tls12 | in_tls13


def _since(
    go: tuple[int, int] | None, alert: int, last: tuple[int, int] = _OLD, first: tuple[int, int] = _NEW
) -> frozenset[int]:
    """Return bad_certificate up to one version of Go, the alert from another one, and both in between."""
    if go is not None and go <= last:
        return frozenset({42})
    return frozenset({alert}) if go is not None and go >= first else frozenset({42, alert})


def _go(version: str | None) -> tuple[int, int] | None:
    match = re.search(r"go(\d+)\.(\d+)", version or "")
    return (int(match[1]), int(match[2])) if match else None
