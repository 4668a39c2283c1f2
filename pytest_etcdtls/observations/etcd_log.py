"""What etcd's own log says of connections: of ours beside what they met on the wire, and of everybody else's.

Plain values; this module does not know how a log is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pytest_etcdtls.observations.attempt import Protocol, TLSVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedAttempt:
    """One attempt of ours, and etcd's line about it.

    Attributes:
        purpose: of the attempt.
        identity: presented.
        version: the only TLS version offered, ``None`` for plaintext.
        on_the_wire: how it ended.
        in_the_log: etcd's reason, and its own words for it.
        expected: how an attempt ends for that reason.
        agree: it ended so.
        remote_address: in the log, by which the line is found there.
        recognised_by: what tells that the line is about this attempt.
    """

    purpose: str
    identity: str
    version: TLSVersion | None
    protocol: Protocol
    on_the_wire: str
    in_the_log: str
    expected: str
    agree: bool
    remote_address: str
    recognised_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlogged:
    """An attempt that was turned away, and of which the log has no line."""

    purpose: str
    identity: str
    on_the_wire: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogComparison:
    """The identities that were tried on a listener, on the wire and in etcd's log.

    Attributes:
        role: of the listener.
        source: the log's file, or words.
        file: the log's file, for commands to paste; empty if it is none that is kept.
        compared: attempts that have a line.
        unlogged: attempts that were turned away and have none.
        latest: time of the log's last entry, ``None`` if that does not tell it whole.
        thinned_out: so many were rejected in one second that etcd left lines out.
        nobody: whom etcd does not log, where that is everybody whom such a listener turns away; else empty.
        clock_ahead: seconds by which the log's clock is ahead of ours; 0 if they agree.
        go_version: that etcd was built with, as far as it is known.
    """

    url: str
    role: str
    source: str
    file: str
    compared: tuple[LoggedAttempt, ...]
    unlogged: tuple[Unlogged, ...]
    latest: datetime | None = None
    thinned_out: bool = False
    nobody: str = ""
    clock_ahead: float = 0.0
    go_version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedOthers:
    """Connections of somebody else from one host that etcd rejected for one reason.

    Attributes:
        host: as etcd saw it.
        endpoint: ``client`` (metrics included), ``peer``, or empty in versions that do not say it.
        cause: in words.
        count: how many there are.
        first: time of the first, ``None`` if no line tells it whole.
        last: time of the last.
        example: etcd's own words in the last.
        line: of the last, counted from 1 in what was read.
        meaning: what happened.
        advice: what to do.
        from_here: they came from an address that this run came from too.
    """

    host: str
    endpoint: str
    cause: str
    count: int
    first: datetime | None
    last: datetime | None
    example: str
    line: int
    meaning: str
    advice: str
    from_here: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRun:
    """Rejected connections that look like those of an earlier run of this tool.

    Attributes:
        host: that they came from.
        count: how many there are.
        first: time of the first.
        last: time of the last.
    """

    host: str
    count: int
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedDials:
    """Connections that etcd itself could not make, because of TLS, to one place.

    Attributes:
        target: a URL, an address or the ID of a member.
        cause: in words.
        example: etcd's own words in the last.
        line: of the last.
        meaning: what happened.
    """

    target: str
    cause: str
    count: int
    last: datetime | None
    example: str
    line: int
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLog:
    """One log, as it was when everything else was over.

    Attributes:
        source: the log's file, or words.
        members: labels of the members whose log it is.
        ours: how many rejected connections in it were ours.
        earlier: those that look like earlier runs', in the order of time.
        others: the rest of them, the largest group first.
        failed_dials: connections that etcd could not make.
        latest: time of its last entry.
        truncated: only the end of a very large log was read.
        etcd_version: of the last start that it shows.
        go_version: likewise.
        problem: why it could not be read, empty if it could.
    """

    source: str
    members: tuple[str, ...]
    ours: int = 0
    earlier: tuple[LoggedRun, ...] = ()
    others: tuple[RejectedOthers, ...] = ()
    failed_dials: tuple[FailedDials, ...] = ()
    latest: datetime | None = None
    truncated: bool = False
    etcd_version: str | None = None
    go_version: str | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdLogs:
    """The logs of a target, read at the end of a run: every connection of ours is known by then."""

    logs: tuple[ReadLog, ...]
