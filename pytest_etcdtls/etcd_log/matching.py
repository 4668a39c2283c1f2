"""Which line of etcd's log is about which of our connections.

By the address that we connected from, as etcd saw it; where something in between changes that, by the port
alone; where it changes both, by the time. Does not say whether the two ends agree.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from pytest_etcdtls.etcd_log.apart import distance, is_of_the_time
from pytest_etcdtls.etcd_log.by_time import match_by_time
from pytest_etcdtls.etcd_log.rejections import Endpoint, Rejection
from pytest_etcdtls.observations.attempt import Attempt, Way
from pytest_etcdtls.observations.greeting import Connection, Reply

CLOCKS_APART: Final = timedelta(seconds=2)
"""How far the clocks of two machines may differ without its being seen otherwise."""


class By(StrEnum):
    """What a line was recognised by."""

    ADDRESS = "address and port"
    PORT = "port and time"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Match:
    """One of our connections, and the line about it."""

    connection: Connection
    rejection: Rejection
    by: By = By.ADDRESS


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
        return connection.way in (Way.REFUSED, Way.CLOSED, Way.OTHER)
    return connection.reply is Reply.ALERT


def _served(connection: Connection) -> bool:
    return isinstance(connection, Attempt) and connection.way is Way.SERVED


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
                found[place] = Match(near[0], rejection, By.PORT)
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
        found = {place: Match(one, lines[place], By.TIME) for place, one in pairs.items()}
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
            self._add(place, Match(one, lines[place], By.TIME))

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
