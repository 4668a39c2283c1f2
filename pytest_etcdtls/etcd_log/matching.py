"""Which line of etcd's log is about which of our attempts.

By the address that we connected from, as etcd saw it; behind NAT by port and time. Does not say whether the
two agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pytest_etcdtls.etcd_log.rejections import Rejection
from pytest_etcdtls.observations.attempt import Attempt, Way

_SAME_CONNECTION: Final = timedelta(seconds=60)
"""A port may be used again after that; a stalled handshake is rejected after ten seconds at most."""

_BEHIND_NAT: Final = timedelta(seconds=2)
"""How far the two clocks may differ where nothing but port and time is left."""


@dataclass(frozen=True, slots=True)
class Match:
    """One of our attempts, and the line about it.

    Attributes:
        by_address: the addresses are equal; otherwise only port and time are.
    """

    attempt: Attempt
    rejection: Rejection
    by_address: bool = True


@dataclass(frozen=True, slots=True)
class Matches:
    """What became of all attempts and all lines.

    Attributes:
        ours: attempts with their lines, in the order of the log.
        strangers: lines that are not about us.
        unmentioned: attempts that etcd turned away, by an alert or by closing, without a line.
    """

    ours: tuple[Match, ...]
    strangers: tuple[Rejection, ...]
    unmentioned: tuple[Attempt, ...]


def match_attempts(attempts: Sequence[Attempt], rejections: Iterable[Rejection]) -> Matches:
    """Return which line is about which attempt.

    Args:
        attempts: those that etcd may have seen; the ones without a local address are passed over.
        rejections: of one member's log, in its order.
    """
    left = [attempt for attempt in attempts if attempt.local_address]
    ours: list[Match] = []
    strangers: list[Rejection] = []
    for rejection in rejections:
        found = _find(left, rejection)
        if found is None:
            strangers.append(rejection)
        else:
            left.remove(found.attempt)
            ours.append(found)
    turned_away = (Way.REFUSED, Way.CLOSED, Way.OTHER)
    return Matches(
        ours=tuple(ours),
        strangers=tuple(strangers),
        unmentioned=tuple(attempt for attempt in left if attempt.way in turned_away),
    )


def _find(attempts: Sequence[Attempt], rejection: Rejection) -> Match | None:
    same = [
        attempt
        for attempt in attempts
        if attempt.local_address == rejection.remote_address
        and _within(attempt, rejection.time, _SAME_CONNECTION)
    ]
    if same:
        return Match(min(same, key=lambda attempt: _apart(attempt, rejection.time)), rejection)
    if rejection.time is None:
        return None
    near = [
        attempt
        for attempt in attempts
        if attempt.local_address.rpartition(":")[2] == str(rejection.remote_port)
        and _within(attempt, rejection.time, _BEHIND_NAT)
    ]
    return Match(near[0], rejection, by_address=False) if len(near) == 1 else None


def _within(attempt: Attempt, time: datetime | None, limit: timedelta) -> bool:
    return time is None or _apart(attempt, time) <= limit + timedelta(milliseconds=attempt.milliseconds)


def _apart(attempt: Attempt, time: datetime | None) -> timedelta:
    return abs(attempt.started_at - time) if time is not None else timedelta()
