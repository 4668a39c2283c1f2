"""Lines and connections that have nothing in common but the time, as behind a proxy.

A line is written after its connection began and shortly after it ended at the latest. Taken in the order of
time, each line goes to the connection nearest to it of those that it fits, and of several to the one that
ended first: that leaves the fewest over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Final

from pytest_etcdtls.etcd_log.apart import distance, ended_at, is_of_the_time
from pytest_etcdtls.etcd_log.rejections import Rejection
from pytest_etcdtls.observations.greeting import Connection

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
