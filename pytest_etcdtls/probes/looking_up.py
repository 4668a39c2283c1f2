"""Which lines of a log are about connections of this run. Judges nothing, and connects to nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from pytest_etcdtls.errors import InconclusiveError
from pytest_etcdtls.etcd_log.clocks import by_our_clock, clock_ahead
from pytest_etcdtls.etcd_log.matching import CLOCKS_APART, Matches, match_connections
from pytest_etcdtls.etcd_log.reading import EtcdLog
from pytest_etcdtls.etcd_log.rejections import Endpoint
from pytest_etcdtls.etcd_log.source import LogSource
from pytest_etcdtls.etcd_log.story import fits
from pytest_etcdtls.probes.registry import Context
from pytest_etcdtls.target import Role

_LONGEST = 400


@dataclass(frozen=True, slots=True)
class LookedUp:
    """A log, and which of our connections are in it.

    Attributes:
        ahead: seconds by which its clock is ahead of ours.
    """

    log: EtcdLog
    matches: Matches
    ahead: float


def read_new(source: LogSource) -> str:
    """Return what was logged since the run began.

    Raises:
        InconclusiveError: if the log cannot be read.
    """
    try:
        return source.read_new()
    except OSError as error:
        why = error.strerror or error
        raise InconclusiveError(f"etcd's log, {source.name}, cannot be read any more: {why}") from error


def look_up(
    context: Context,
    source: LogSource,
    log: EtcdLog,
    *,
    new: EtcdLog | None = None,
    go_version: str | None = None,
) -> LookedUp:
    """Look every connection so far up in a log.

    Lines go to the nearest of all connections, so that none of another check's is taken for one of these.

    Args:
        context: of a probe.
        source: of the log.
        log: what it says.
        new: what it says since the run began, if ``log`` reaches back further: clocks are compared by that.
        go_version: that etcd was built with, if it is known.
    """
    endpoints = _endpoints(context, source)
    listeners = {listener.url for listener in context.target.listeners}
    # Addresses that are no listeners may be this member's: there the port tells, or nothing.
    connections = [one for one in context.connections if one.url in endpoints or one.url not in listeners]
    ahead = clock_ahead(connections, (new or log).rejections)
    version = go_version or log.startup.go_version
    ours = context.target.origin != "live"
    matches = match_connections(
        connections,
        by_our_clock(log.rejections, ahead),
        endpoints=endpoints,
        fits=lambda connection, line: fits(connection, line, version),
        alone=ours,
        slack=timedelta() if ours else CLOCKS_APART,
    )
    return LookedUp(log, matches, ahead.total_seconds())


def printable(text: str) -> str:
    """Return a text of somebody else's fit to be shown: bounded, and with nothing that a terminal obeys."""
    shown = "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text[:_LONGEST]
    )
    return shown if len(text) <= _LONGEST else f"{shown} ..."


def _endpoints(context: Context, source: LogSource) -> dict[str, Endpoint]:
    """Return, by URL, what that log calls the listeners of its members."""
    return {
        listener.url: "peer" if listener.role is Role.PEER else "client"
        for listener in context.target.listeners
        if context.target.log_of(listener) is source
    }
