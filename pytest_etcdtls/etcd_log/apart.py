"""How far a line of a log is from a connection, in time. Knows nothing of either's meaning."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from pytest_etcdtls.observations.greeting import Connection

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
