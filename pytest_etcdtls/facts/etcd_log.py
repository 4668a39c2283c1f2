"""etcd's own log: the connections of other clients that it rejected.

etcd logs "rejected connection" with the client's address and the error for each connection whose handshake
fails, or that it closes after one (``acceptLoop`` in client/pkg/transport/listener_tls.go, ``setupLogging``
in server/embed/config_logging.go). :class:`EtcdLogs` explains the lines about connections that this run did
not make. It matches lines with the connections made before, so it comes last.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from msgspec import Struct

from pytest_etcdtls.errors import NotApplicableError, UnreadableFileError, missing
from pytest_etcdtls.etcd_log.matching import CLOCKS_APART, match_connections
from pytest_etcdtls.etcd_log.parse import (
    Cause,
    EtcdLog,
    LogSource,
    Rejection,
    parse_log,
)
from pytest_etcdtls.etcd_log.reasons import EXPLANATIONS
from pytest_etcdtls.facts.fact import fact
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.role import Side
from pytest_etcdtls.target import Target
from pytest_etcdtls.tls.hello import Connection


class RejectedOthers(Struct, frozen=True, kw_only=True):
    """Connections of other clients on one host that etcd rejected for one reason.

    Attributes:
        host: as etcd saw it.
        endpoint: ``client`` (metrics included), ``peer``, or empty in versions that do not log it.
        first: time of the first, ``None`` if no line has a complete time.
        example: etcd's text in the last line.
        line: number of the last line, counted from 1 in the part that was read.
        meaning: what happened.
        advice: what to do.
        from_here: they came from an address that this run also uses.
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


class ReadLog(Struct, frozen=True, kw_only=True):
    """One log, as read at the end of the run.

    Attributes:
        source: the log's file, or words.
        members: labels of the members that write it.
        ours: number of rejected connections in it that this run made.
        others: the other rejected connections, the largest group first.
        latest: time of its last entry.
        truncated: only the end of a very large log was read.
        problem: why it could not be read, empty if it could.
    """

    source: str
    members: tuple[str, ...]
    ours: int = 0
    others: tuple[RejectedOthers, ...] = ()
    latest: datetime | None = None
    truncated: bool = False
    problem: str = ""


class EtcdLogs(Struct, frozen=True, kw_only=True):
    """The logs of a target, read at the end of a run, when all of its connections are known."""

    logs: tuple[ReadLog, ...]


def match_log(target: Target, recording: Recording, source: LogSource, log: EtcdLog) -> dict[int, Connection]:
    """Return our connection for each line of a log that is about one, by the index of the line."""
    endpoints = {
        listener.url: listener.role.side for listener in target.listeners if target.log_of(listener) is source
    }
    listeners = {listener.url for listener in target.listeners}
    # An address that is no listener may be this member's.
    connections = [one for one in recording.connections if one.url in endpoints or one.url not in listeners]
    slack = CLOCKS_APART if target.live else timedelta()
    return match_connections(connections, log.rejections, endpoints=endpoints, slack=slack)


@fact
def etcd_logs(target: Target, recording: Recording) -> EtcdLogs:
    """Read the log of each member, and explain its lines that are of no connection of this run."""
    members: dict[int, tuple[LogSource, dict[str, None]]] = {}
    for listener in target.listeners:
        source = target.log_of(listener)
        if source is not None:
            members.setdefault(id(source), (source, {}))[1][listener.member] = None
    if not members:
        raise NotApplicableError(missing("no log of etcd is available", "--etcd-log"))
    return EtcdLogs(
        logs=tuple(_read(target, recording, source, tuple(names)) for source, names in members.values())
    )


def _read(target: Target, recording: Recording, source: LogSource, members: tuple[str, ...]) -> ReadLog:
    try:
        text, truncated = source.read()
    except (OSError, UnreadableFileError) as error:
        why = error.happened if isinstance(error, UnreadableFileError) else str(error.strerror or error)
        return ReadLog(source=source.name, members=members, problem=why)
    log = parse_log(text)
    matched: Collection[int] = match_log(target, recording, source, log)
    if target.origin != "live" and not matched:  # the published port of a container has changed the addresses
        matched = range(len(log.rejections))
    ours = [line for number, line in enumerate(log.rejections) if number in matched]
    others = [line for number, line in enumerate(log.rejections) if number not in matched]
    return ReadLog(
        source=source.name,
        members=members,
        ours=len(ours),
        others=tuple(rejected_others(others, {line.remote_host for line in ours})),
        latest=log.latest,
        truncated=truncated,
    )


def rejected_others(lines: Iterable[Rejection], our_hosts: Collection[str]) -> list[RejectedOthers]:
    """Return lines of other clients in groups, the largest first."""
    alike: dict[tuple[str, Side | None, Cause], list[Rejection]] = defaultdict(list)
    for line in lines:
        alike[line.remote_host, line.endpoint, line.cause].append(line)
    groups = []
    for (host, endpoint, cause), rejected in alike.items():
        times = [line.time for line in rejected if line.time is not None]
        groups.append(
            RejectedOthers(
                host=host,
                endpoint=endpoint or "",
                cause=cause,
                count=len(rejected),
                first=min(times, default=None),
                last=max(times, default=None),
                example=rejected[-1].error,
                line=rejected[-1].line,
                meaning=EXPLANATIONS[cause].meaning,
                advice=EXPLANATIONS[cause].advice,
                from_here=host in our_hosts,
            )
        )
    return sorted(groups, key=lambda group: (-group.count, group.host, group.cause))
