"""How far a line of a log is from a connection, in time. Knows nothing of either's meaning."""

from __future__ import annotations

from datetime import datetime, timedelta

from pytest_etcdtls.observations.greeting import Connection


def distance(connection: Connection, time: datetime | None) -> timedelta:
    """Return how far a time is outside a connection's: zero within it, and if the time is not known."""
    if time is None:
        return timedelta()
    end = ended_at(connection)
    return max(connection.started_at - time, time - end, timedelta())


def ended_at(connection: Connection) -> datetime:
    """Return when a connection was over on our side."""
    return connection.started_at + timedelta(milliseconds=connection.milliseconds)
