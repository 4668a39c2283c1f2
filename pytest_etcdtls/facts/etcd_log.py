"""etcd's own log: the connections that it rejected, from this run and from other clients.

etcd logs "rejected connection" with the client's address and the error for each connection whose handshake
fails, or that it closes after one (``acceptLoop`` in client/pkg/transport/listener_tls.go, ``setupLogging``
in server/embed/config_logging.go). :class:`LogComparison` asks whether the log and the wire agree about the
attempts on one listener. :class:`EtcdLogs` explains the lines about connections that this run did not make.

Both match lines with the connections made before, so they come last.
"""

from __future__ import annotations

import glob
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from pytest_etcdtls.declared.declaration import Form
from pytest_etcdtls.errors import InconclusiveError, NotApplicableError, NotVerifiedError, UnreadableFileError
from pytest_etcdtls.etcd_log.matching import (
    CLOCKS_APART,
    LoggedAttempt,
    Matches,
    compare_wire_and_log,
    ended_by_etcd,
    match_connections,
)
from pytest_etcdtls.etcd_log.parse import (
    Cause,
    EtcdLog,
    LogSource,
    Rejection,
    parse_log,
)
from pytest_etcdtls.etcd_log.reasons import EXPLANATIONS
from pytest_etcdtls.facts.access import AcceptedClient
from pytest_etcdtls.facts.access_matrix import IdentityAttempts, split_off
from pytest_etcdtls.facts.fact import Lazy, fact
from pytest_etcdtls.facts.listener import Plaintext, ServedChain, TLSContact, require_tls
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.pki.certificate import is_generated
from pytest_etcdtls.role import Protocol, Side
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import Attempt


class LogComparison(Struct, frozen=True, kw_only=True):
    """The attempts on a listener, compared with the lines of etcd's log.

    Attributes:
        source: the log's file, or words.
        file: path of the log file, for commands to paste; empty if no file is kept.
        compared: attempts that have a log line.
        unlogged: attempts that were refused and have no log line.
        latest: time of the log's last entry, ``None`` if the entry has no complete time.
        not_logged: the clients whose refusals etcd does not log on this listener, in words; empty if it logs
            all.
    """

    source: str
    file: str
    compared: tuple[LoggedAttempt, ...]
    unlogged: tuple[Attempt, ...]
    latest: datetime | None = None
    not_logged: str = ""


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


def _why(error: OSError | UnreadableFileError) -> str:
    return error.happened if isinstance(error, UnreadableFileError) else str(error.strerror or error)


def match_log(target: Target, recording: Recording, source: LogSource, log: EtcdLog) -> Matches:
    """Match every connection made so far with the lines of a log."""
    endpoints = {
        listener.url: listener.role.side for listener in target.listeners if target.log_of(listener) is source
    }
    listeners = {listener.url for listener in target.listeners}
    # An address that is no listener may be this member's.
    connections = [one for one in recording.connections if one.url in endpoints or one.url not in listeners]
    slack = CLOCKS_APART if target.live else timedelta()
    return match_connections(connections, log.rejections, endpoints=endpoints, slack=slack)


_LINE_SECONDS = 1.0
"""How long a line of etcd may take to be in the log file."""
_FIRST_LINE = 5.0
"""How long the first line may take to be in the log of an owned etcd, which may start on a busy machine."""
_PAUSE = 0.02


POD_LOGS: Final = "/var/log/pods/kube-system_etcd-*/etcd/*.log"
"""Where the kubelet keeps the log of kubeadm's etcd."""


def _pod_log(target: Target) -> str:
    """Return ``=GLOB`` of the log on a node of kubeadm's, for advice; elsewhere an empty text."""
    declared = any(member.declaration.form is Form.MANIFEST for member in target.declared.values())
    return f"='{POD_LOGS}'" if declared and glob.glob(POD_LOGS) else ""


@fact
def log_comparison(
    here: Listener,
    target: Target,
    contact: TLSContact,
    good: AcceptedClient,
    identities: Lazy[IdentityAttempts],
    plaintext: Plaintext | None,
    chain: ServedChain | None,
    recording: Recording,
) -> LogComparison:
    """Wait for the log's lines about the attempts that show which identities are accepted, and compare."""
    require_tls(here)
    source = target.log_of(here)
    if source is None:
        raise NotVerifiedError(
            f"needs etcd's log of the connections that it rejected: pass --etcd-log{_pod_log(target)}"
        )
    attempts = [
        *contact.tls,
        *(attempt for candidate in good.candidates for case in candidate.cases for attempt in case.tries),
        *identities.get().here.attempts,
        *(plaintext.tries if plaintext else ()),
    ]
    not_logged = _not_logged(here, target, good, chain)
    read, matches = _wait_for_lines(target, recording, source, () if not_logged else attempts)
    ids = {id(attempt) for attempt in attempts}
    ours = [match for match in matches.ours if id(match.connection) in ids]
    unlogged = {id(attempt) for attempt in matches.unmentioned}
    return LogComparison(
        source=source.name,
        file=str(source.file or ""),
        compared=tuple(
            compare_wire_and_log(match.connection, match.rejection)
            for match in ours
            if isinstance(match.connection, Attempt)
        ),
        unlogged=tuple(attempt for attempt in attempts if id(attempt) in unlogged),
        latest=read.latest,
        not_logged=not_logged,
    )


def _wait_for_lines(
    target: Target, recording: Recording, source: LogSource, attempts: Iterable[Attempt]
) -> tuple[EtcdLog, Matches]:
    """Read the log until each refused attempt has a line, or until the time for a line has passed."""
    expected = {id(attempt) for attempt in attempts if ended_by_etcd(attempt)}
    started, known = time.monotonic(), None
    while True:
        waited = time.monotonic() - started
        try:
            text = source.read_new()
        except (OSError, UnreadableFileError) as error:
            why = f"etcd's log, {source.name}, cannot be read any more: {_why(error)}"
            raise InconclusiveError(why) from error
        if text != known:
            known = text
            log = parse_log(text)
            matches = match_log(target, recording, source, log)
            logged = expected & {id(match.connection) for match in matches.ours}
        none_yet = not (source.file or logged or log.rejections)
        if logged == expected or waited > (_FIRST_LINE if none_yet else _LINE_SECONDS):
            return log, matches
        threading.Event().wait(_PAUSE)


def _not_logged(here: Listener, target: Target, good: AcceptedClient, chain: ServedChain | None) -> str:
    """Return the clients whose refusals etcd does not log on the listener, in words; empty if it logs all."""
    # Measured: on these ports etcd logs none of the clients that it rejects.
    served_protocols = set(good.accepted.served_protocols) if good.accepted else set()
    if served_protocols == {Protocol.GRPC} or split_off(target, here) is not None:
        return "clients that a gRPC-only port rejects"
    if chain is not None and is_generated(chain.leaf):
        return "clients that a port with auto-tls rejects"
    return ""


@fact
def etcd_logs(target: Target, recording: Recording) -> EtcdLogs:
    """Read the log of each member, and explain its lines that are of no connection of this run."""
    members: dict[int, tuple[LogSource, dict[str, None]]] = {}
    for listener in target.listeners:
        source = target.log_of(listener)
        if source is not None:
            members.setdefault(id(source), (source, {}))[1][listener.member] = None
    if not members:
        raise NotApplicableError("no log of etcd is available: pass --etcd-log")
    return EtcdLogs(
        logs=tuple(_read(target, recording, source, tuple(names)) for source, names in members.values())
    )


def _read(target: Target, recording: Recording, source: LogSource, members: tuple[str, ...]) -> ReadLog:
    try:
        text, truncated = source.read()
    except (OSError, UnreadableFileError) as error:
        return ReadLog(source=source.name, members=members, problem=_why(error))
    log = parse_log(text)
    matches = match_log(target, recording, source, log)
    ours, unmatched = [match.rejection for match in matches.ours], matches.unmatched
    if target.origin != "live" and not ours:  # the published port of a container has changed the addresses
        ours, unmatched = [*unmatched], ()
    return ReadLog(
        source=source.name,
        members=members,
        ours=len(ours),
        others=tuple(rejected_others(unmatched, {line.remote_host for line in ours})),
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
