"""How far the clock of a log is from ours: another machine's clock, or times of another zone.

Told by the lines that are about our own connections. Does not know what they say.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

from pytest_etcdtls.etcd_log.rejections import Rejection
from pytest_etcdtls.observations.greeting import Connection

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
