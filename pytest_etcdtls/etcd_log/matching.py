"""Which line of etcd's log is about which of our connections.

By the address that we connected from, as etcd saw it; where something in between changes that, by the port
alone; where it changes both, by the time. Does not say whether the two ends agree.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from pytest_etcdtls.etcd_log.events import Cause, Endpoint, Rejection
from pytest_etcdtls.role import TLSVersion
from pytest_etcdtls.tls.attempt import Attempt, Ending, alert_text
from pytest_etcdtls.tls.hello import Connection, HelloExchange, Reply

_AFTERWARDS: Final = timedelta(seconds=1)
"""How long after the end of a connection etcd may write the line about it."""

_ROUNDED: Final = timedelta(milliseconds=2)
"""How much earlier than its connection a line may seem to be: 3.5.0 and 3.5.1 write whole milliseconds."""

_TO_THE_SECOND: Final = timedelta(seconds=1)
"""The same for gRPC's own lines."""


def is_of_the_time(connection: Connection, time: datetime | None, slack: timedelta = timedelta()) -> bool:
    """Whether a line of that time can be about a connection; one without a time always can.

    Args:
        connection: ours.
        time: of the line.
        slack: how far the two clocks may differ.
    """
    if time is None:
        return True
    early = _ROUNDED if time.microsecond else _TO_THE_SECOND
    return connection.started_at - early - slack <= time <= ended_at(connection) + _AFTERWARDS + slack


def distance(connection: Connection, time: datetime | None) -> timedelta:
    """Return how far a time is outside a connection's: zero within it, and if the time is not known."""
    if time is None:
        return timedelta()
    return max(connection.started_at - time, time - ended_at(connection), timedelta())


def ended_at(connection: Connection) -> datetime:
    """Return when a connection was over on our side."""
    return connection.started_at + timedelta(milliseconds=connection.milliseconds)


_AROUND: Final = timedelta(seconds=5)
"""Lines that are further away are not looked at one by one."""


def match_by_time(
    connections: Sequence[Connection],
    lines: Mapping[int, Rejection],
    fits: Callable[[Connection, Rejection], bool],
) -> dict[int, Connection]:
    """Return the connection of each line that has one, each connection once.

    Args:
        connections: in any order.
        lines: by their place; those without a time find nothing.
        fits: whether a line can be about a connection.
    """
    left = list(connections)
    if not left:
        return {}
    found: dict[int, Connection] = {}
    first, last = min(one.started_at for one in left), max(map(ended_at, left))
    timed = [
        (line.time, place, line)
        for place, line in lines.items()
        if line.time is not None and first - _AROUND <= line.time <= last + _AROUND
    ]
    for time, place, line in sorted(timed, key=lambda one: one[:2]):
        fitting = [one for one in left if is_of_the_time(one, time) and fits(one, line)]
        if fitting:
            found[place] = min(fitting, key=lambda one: (distance(one, time), ended_at(one)))
            left.remove(found[place])
    return found


_ALIKE: Final = timedelta(seconds=2)
"""How much the difference may vary from connection to connection; less than that is no difference."""

_ENOUGH: Final = 3
"""Lines that must tell the same difference."""


def clock_ahead(connections: Iterable[Connection], rejections: Iterable[Rejection]) -> timedelta:
    """Return how far the log's clock is ahead of ours, zero if that cannot be told or is next to nothing.

    Args:
        connections: ours.
        rejections: of a log, from the time of these connections.
    """
    starts = defaultdict(list)
    for connection in connections:
        if connection.local_address:
            starts[connection.local_address.rpartition(":")[2]].append(connection.started_at)
    differences = sorted(
        rejection.time - started_at
        for rejection in rejections
        if rejection.time is not None
        for started_at in starts.get(str(rejection.remote_port), ())
    )
    alike = _most_alike(differences)
    ahead = alike[len(alike) // 2] if len(alike) >= _ENOUGH else timedelta()
    return ahead if abs(ahead) > _ALIKE else timedelta()


def by_our_clock(rejections: Iterable[Rejection], ahead: timedelta) -> tuple[Rejection, ...]:
    """Return the lines with the times that our clock showed."""
    if not ahead:
        return tuple(rejections)
    return tuple(
        replace(rejection, time=rejection.time - ahead) if rejection.time is not None else rejection
        for rejection in rejections
    )


def _most_alike(differences: Sequence[timedelta]) -> Sequence[timedelta]:
    """Return the longest run of differences that are alike; of equal ones that nearest to zero."""
    best: Sequence[timedelta] = ()
    end = 0
    for begin, least in enumerate(differences):
        while end < len(differences) and differences[end] - least <= _ALIKE:
            end += 1
        run = differences[begin:end]
        if (len(run), -abs(run[len(run) // 2])) > (
            len(best),
            -abs(best[len(best) // 2]) if best else timedelta.min,
        ):
            best = run
    return best


CLOCKS_APART: Final = timedelta(seconds=2)
"""How far the clocks of two machines may differ without its being seen otherwise."""


class MatchedBy(StrEnum):
    """What a line was recognised by."""

    ADDRESS = "address and port"
    PORT = "port and time"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Match:
    """One of our connections, and the line about it."""

    connection: Connection
    rejection: Rejection
    by: MatchedBy = MatchedBy.ADDRESS


@dataclass(frozen=True, slots=True)
class Matches:
    """What became of all connections and all lines.

    Attributes:
        ours: connections with their lines, in the order of the log.
        strangers: lines that are not about us.
        unmentioned: attempts that etcd turned away, by an alert or by closing, without a line.
    """

    ours: tuple[Match, ...]
    strangers: tuple[Rejection, ...]
    unmentioned: tuple[Attempt, ...]


def match_connections(
    connections: Sequence[Connection],
    rejections: Sequence[Rejection],
    *,
    endpoints: Mapping[str, Endpoint] = MappingProxyType({}),
    fits: Callable[[Connection, Rejection], bool] | None = None,
    alone: bool = False,
    slack: timedelta = CLOCKS_APART,
) -> Matches:
    """Return which line is about which connection.

    Args:
        connections: those that etcd may have seen; the ones without a local address are passed over.
        rejections: of one member's log, in its order.
        endpoints: by the URL of a listener, what the log calls it.
        fits: whether a line can be about a connection. It is asked where only time is left; ``None`` leaves
            that out.
        alone: nobody else connects, so that a line in the time of a connection is about it, fitting or not.
        slack: how far the clocks may differ. Ports are used again, on loopback after a second.
    """
    found = _Matching(connections, rejections, endpoints, slack)
    found.by_address()
    known = [url for url in found.urls() if not endpoints or url in endpoints]
    left = [url for url in known if not found.knows(url) and not found.by_port(url)]
    if fits is not None:
        found.by_time(left, fits, alone=alone)
    return found.result()


def turned_away(connection: Connection) -> bool:
    """Whether etcd ended the connection, by an alert or by closing it."""
    if isinstance(connection, Attempt):
        return connection.ending in (Ending.REFUSED, Ending.CLOSED, Ending.OTHER)
    return connection.reply is Reply.ALERT


def _served(connection: Connection) -> bool:
    return isinstance(connection, Attempt) and connection.ending is Ending.SERVED


@dataclass(slots=True)
class _Matching:
    """Lines and connections, while they find each other."""

    connections: Sequence[Connection]
    rejections: Sequence[Rejection]
    endpoints: Mapping[str, Endpoint]
    slack: timedelta
    known: dict[int, tuple[int, Match]] = field(default_factory=dict)
    """By the connection's identity: the line's place, and the match."""
    _lines: dict[int, None] = field(default_factory=dict)
    _by_port: dict[str, list[Connection]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for connection in self.connections:
            if connection.local_address:
                self._by_port[connection.local_address.rpartition(":")[2]].append(connection)

    def by_address(self) -> None:
        """Match what has the same address, the nearest in time first: ports are used again."""
        same = [
            (distance(connection, rejection.time), place, number, connection)
            for place, rejection in enumerate(self.rejections)
            for number, connection in enumerate(self._at_port(rejection))
            if connection.local_address == rejection.remote_address
            and self._is_of_the_time(connection, rejection)
        ]
        for _, place, _, connection in sorted(same, key=lambda found: found[:3]):
            if place not in self._lines and id(connection) not in self.known:
                self._add(place, Match(connection, self.rejections[place]))

    def by_port(self, url: str) -> bool:
        """Match by port and time; that it was not by accident is seen by how many it is true of."""
        found: dict[int, Match] = {}
        here = {id(connection) for connection in self._at(url)}
        for place, rejection in self._left():
            near = [
                connection
                for connection in self._at_port(rejection)
                if id(connection) in here
                and rejection.time is not None
                and self._is_of_the_time(connection, rejection)
            ]
            if len(near) == 1:
                found[place] = Match(near[0], rejection, MatchedBy.PORT)
                here.discard(id(near[0]))
        return self._accept(url, found)

    def by_time(
        self, urls: Sequence[str], fits: Callable[[Connection, Rejection], bool], *, alone: bool
    ) -> None:
        """Match by time what fits; a listener of which that finds too little has no lines at all.

        All listeners together, so that each line goes to the connection nearest to it.
        """
        pool = [one for url in urls for one in self._at(url)]
        lines = dict(self._left())
        pairs = match_by_time(pool, lines, lambda one, line: self._speaks_of(one, line) and fits(one, line))
        found = {place: Match(one, lines[place], MatchedBy.TIME) for place, one in pairs.items()}
        poor = [url for url in urls if not self._is_enough(url, found.values())]
        if poor and len(poor) < len(urls):
            self.by_time([url for url in urls if url not in poor], fits, alone=alone)
        if poor:
            return
        for place, match in found.items():
            self._add(place, match)
        if alone:
            self._by_time_alone(pool)

    def _by_time_alone(self, pool: Sequence[Connection]) -> None:
        """Give what is left of the lines to what is left of the connections, fitting or not."""
        left = [one for one in pool if id(one) not in self.known and not _served(one)]
        lines = dict(self._left())
        for place, one in match_by_time(left, lines, self._speaks_of).items():
            self._add(place, Match(one, lines[place], MatchedBy.TIME))

    def urls(self) -> list[str]:
        """Return the URLs of the listeners that were connected to."""
        return list(dict.fromkeys(connection.url for connection in self.connections))

    def knows(self, url: str) -> bool:
        """Whether a connection to that listener has its line."""
        return any(id(one) in self.known for one in self._at(url))

    def result(self) -> Matches:
        ordered = sorted(self.known.values(), key=lambda found: found[0])
        return Matches(
            ours=tuple(match for _, match in ordered),
            strangers=tuple(line for _, line in self._left()),
            unmentioned=tuple(
                one
                for one in self.connections
                if isinstance(one, Attempt)
                and one.local_address
                and turned_away(one)
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
            if id(connection) not in self.known and self._speaks_of(connection, rejection)
        ]

    def _speaks_of(self, connection: Connection, rejection: Rejection) -> bool:
        endpoint = self.endpoints.get(connection.url)
        return endpoint is None or rejection.endpoint in (None, endpoint)

    def _is_of_the_time(self, connection: Connection, rejection: Rejection) -> bool:
        # Who was served has no line: one that seems to be about him is rather about the port's last user.
        slack = timedelta() if _served(connection) else self.slack
        return is_of_the_time(connection, rejection.time, slack)

    def _accept(self, url: str, found: Mapping[int, Match]) -> bool:
        """Keep the matches of a listener if they are enough."""
        if not self._is_enough(url, found.values()):
            return False
        for place, match in found.items():
            self._add(place, match)
        return True

    def _is_enough(self, url: str, found: Iterable[Match]) -> bool:
        """Whether at least half of those that were turned away there are among them."""
        here = self._at(url)
        matched = {id(match.connection) for match in found} & {id(one) for one in here}
        ended = [one for one in here if turned_away(one)]
        return bool(matched) and sum(id(one) in matched for one in ended) * 2 >= len(ended)

    def _add(self, place: int, match: Match) -> None:
        self.known[id(match.connection)] = (place, match)
        self._lines[place] = None


_OLD, _NEW, _NEWEST = (1, 19), (1, 24), (1, 26)
"""The last Go measured with bad_certificate for everything, the first with alerts of their own, the first
with handshake_failure for no certificate in TLS 1.2."""

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
"""What etcd itself refuses, after the handshake and without an alert."""

_ENDED_BY_US = frozenset({Cause.GONE, Cause.SILENT, Cause.STOPPING, Cause.REFUSED_BY_CLIENT, Cause.OTHER})
"""What etcd can say of a connection that it did not refuse."""


@dataclass(frozen=True, slots=True)
class WireAndLog:
    """What the two ends say about one connection.

    Attributes:
        agree: they say the same.
        on_the_wire: how the attempt ended.
        in_the_log: etcd's reason.
        expected: how an attempt ends for that reason.
    """

    agree: bool
    on_the_wire: str
    in_the_log: str
    expected: str


def compare_story(attempt: Attempt, rejection: Rejection, go_version: str | None = None) -> WireAndLog:
    """Return whether an attempt ended as the reason in the log makes it end.

    Args:
        attempt: ours.
        rejection: the line about it.
        go_version: that etcd was built with, ``go1.24.0``; ``None`` accepts the alert of any.
    """
    alerts = expected_alerts(rejection.cause, attempt.version or attempt.asked, go_version)
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


def fits(connection: Connection, rejection: Rejection, go_version: str | None = None) -> bool:
    """Return whether a connection ended as the reason in the log makes it end; a greeting can be asked too.

    Args:
        connection: ours.
        rejection: a line that may be about it.
        go_version: as in :func:`compare_story`.
    """
    if not isinstance(connection, HelloExchange):
        return compare_story(connection, rejection, go_version).agree
    if connection.reply is Reply.ALERT:
        return rejection.cause is Cause.OTHER or connection.alert in expected_alerts(
            rejection.cause, None, go_version
        )
    return rejection.cause in _ENDED_BY_US


def expected_alerts(cause: Cause, version: str | None, go_version: str | None) -> frozenset[int]:
    """Return the alerts that Go sends for a cause; empty if it sends none.

    Args:
        cause: of the refusal.
        version: of TLS, ``TLSv1.2`` or ``TLSv1.3``; ``None`` if it is not known.
        go_version: as in :func:`compare_story`.
    """
    if cause in _ALWAYS:
        return frozenset({_ALWAYS[cause]})
    go = _go(go_version)
    if cause in _SINCE_1_24:
        return _between(go, _SINCE_1_24[cause])
    if cause is not Cause.NO_CERTIFICATE:
        return frozenset()
    if version == TLSVersion.TLS1_3:
        return _between(go, 116)
    in_1_2 = _in_1_2(go)
    return in_1_2 if version == TLSVersion.TLS1_2 else in_1_2 | _between(go, 116)


def _in_1_2(go: tuple[int, int] | None) -> frozenset[int]:
    """Return what no certificate comes to in TLS 1.2."""
    if go is not None and go <= _NEW:
        return frozenset({42})
    return frozenset({40}) if go is not None and go >= _NEWEST else frozenset({40, 42})


def _between(go: tuple[int, int] | None, new: int) -> frozenset[int]:
    if go is not None and go <= _OLD:
        return frozenset({42})
    return frozenset({new}) if go is not None and go >= _NEW else frozenset({42, new})


def _go(version: str | None) -> tuple[int, int] | None:
    match = re.search(r"go(\d+)\.(\d+)", version or "")
    return (int(match[1]), int(match[2])) if match else None
