"""Rejected connections in groups, for people: who, why, how often, since when."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from pytest_etcdtls.etcd_log.causes import Cause
from pytest_etcdtls.etcd_log.explanations import EXPLANATIONS
from pytest_etcdtls.etcd_log.rejections import Endpoint, Rejection


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Connections from one host that were rejected for one cause.

    Attributes:
        host: the address that etcd saw.
        endpoint: ``client`` covers metrics as well; ``None`` in versions that do not say it.
        count: how many there are.
        first: time of the first, ``None`` if no line tells it whole.
        last: time of the last.
        example: the error of the last.
        line: of the last, in the log.
    """

    host: str
    endpoint: Endpoint | None
    cause: Cause
    count: int
    first: datetime | None
    last: datetime | None
    example: str
    line: int

    def describe(self) -> str:
        """Return who, how often, what it means and what to do, as one paragraph."""
        explanation = EXPLANATIONS[self.cause]
        times = "once" if self.count == 1 else f"{self.count} times"
        where = f" on the {self.endpoint} endpoint" if self.endpoint else ""
        when = f", last at {self.last:%Y-%m-%d %H:%M:%S} UTC" if self.last else ""
        return (
            f"{self.host or 'an unknown address'} was rejected {times}{where}{when}: {self.cause}. "
            f"{explanation.meaning} {explanation.advice}"
        )


def group(rejections: Iterable[Rejection]) -> tuple[Group, ...]:
    """Return the groups, the largest first."""
    members: dict[tuple[str, Endpoint | None, Cause], list[Rejection]] = {}
    for rejection in rejections:
        key = (rejection.remote_host, rejection.endpoint, rejection.cause)
        members.setdefault(key, []).append(rejection)
    groups = [_group(key, found) for key, found in members.items()]
    return tuple(sorted(groups, key=lambda one: (-one.count, one.host, one.cause)))


def _group(key: tuple[str, Endpoint | None, Cause], found: list[Rejection]) -> Group:
    times = [rejection.time for rejection in found if rejection.time is not None]
    return Group(
        host=key[0],
        endpoint=key[1],
        cause=key[2],
        count=len(found),
        first=min(times, default=None),
        last=max(times, default=None),
        example=found[-1].error,
        line=found[-1].line,
    )
