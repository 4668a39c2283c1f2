"""etcd's own log: the connections that it rejected, from this run and from other clients."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.errors import (
    InconclusiveError,
    NotApplicableError,
    NotVerifiedError,
    UnreadableFileError,
)
from pytest_etcdtls.etcd_log.matching import (
    CLOCKS_APART,
    Match,
    MatchedBy,
    Matches,
    agrees,
    by_our_clock,
    clock_ahead,
    compare_wire_and_log,
    ended_by_etcd,
    match_connections,
)
from pytest_etcdtls.etcd_log.parse import (
    Cause,
    DialFailure,
    Endpoint,
    EtcdLog,
    LogSource,
    Rejection,
    is_thinned_out,
    parse_log,
)
from pytest_etcdtls.etcd_log.reasons import EXPLANATIONS, earlier_runs, group
from pytest_etcdtls.facts.access import AcceptedClient, IdentityAttempts, split_off
from pytest_etcdtls.facts.certificates import ServedChain
from pytest_etcdtls.facts.listener import FirstContact, Plaintext, tls_answer, tls_listener
from pytest_etcdtls.facts.probe import Context, Planned, SampleListener, observed, probe, sample
from pytest_etcdtls.facts.release import GoRelease
from pytest_etcdtls.pki.certificate import is_generated
from pytest_etcdtls.role import Protocol, Role, TLSVersion
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Attempt, Request
from pytest_etcdtls.tls.hello import is_reused
from pytest_etcdtls.untrusted import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedAttempt:
    """One attempt of this run, and etcd's log line about it.

    Attributes:
        purpose: of the attempt.
        identity: the identity presented.
        version: the only TLS version offered, ``None`` for plaintext.
        on_the_wire: how it ended.
        in_the_log: etcd's reason, and the text that it logged.
        expected: how an attempt ends for that reason.
        agree: it ended as expected.
        remote_address: the remote address in the log line.
        recognised_by: how the line was matched with this attempt.
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
    """An attempt that was refused and has no line in the log."""

    purpose: str
    identity: str
    on_the_wire: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogComparison:
    """The attempts on a listener, compared with the lines of etcd's log.

    Attributes:
        source: the log's file, or words.
        file: path of the log file, for commands to paste; empty if no file is kept.
        compared: attempts that have a log line.
        unlogged: attempts that were refused and have no log line.
        latest: time of the log's last entry, ``None`` if the entry has no complete time.
        thinned_out: so many connections were rejected in one second that etcd omitted lines.
        not_logged: the clients whose refusals etcd does not log on this listener, in words; empty if it logs
            all.
        clock_ahead: seconds by which the log's clock is ahead of ours; 0 if they agree.
        go_version: the Go version that etcd was built with, where known.
    """

    url: str
    role: str
    source: str
    file: str
    compared: tuple[LoggedAttempt, ...]
    unlogged: tuple[Unlogged, ...]
    latest: datetime | None = None
    thinned_out: bool = False
    not_logged: str = ""
    clock_ahead: float = 0.0
    go_version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedOthers:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRun:
    """Rejected connections that look like those of an earlier run of this tool."""

    host: str
    count: int
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedDials:
    """Connections to one target that etcd itself could not make because of TLS.

    Attributes:
        target: a URL, an address or the ID of a member.
        example: etcd's text in the last line.
        line: number of the last line.
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
    """One log, as read at the end of the run.

    Attributes:
        source: the log's file, or words.
        members: labels of the members that write it.
        ours: number of rejected connections in it that this run made.
        earlier: rejected connections that look like those of earlier runs, in order of time.
        others: the other rejected connections, the largest group first.
        failed_dials: connections that etcd could not make.
        latest: time of its last entry.
        truncated: only the end of a very large log was read.
        etcd_version: version of etcd at the last start in the log.
        go_version: version of Go at the last start in the log.
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
    """The logs of a target, read at the end of a run, when all of its connections are known."""

    logs: tuple[ReadLog, ...]


_LONGEST = 400
"""Characters of a text of the log in a report."""


@dataclass(frozen=True, slots=True)
class MatchedLog:
    """A log, and the connections of this run that are in it.

    Attributes:
        ahead: seconds by which its clock is ahead of ours.
    """

    log: EtcdLog
    matches: Matches
    ahead: float


def read_new(source: LogSource) -> str:
    """Return the part of the log written since the run began.

    Raises:
        InconclusiveError: if the log cannot be read.
    """
    try:
        return source.read_new()
    except (OSError, UnreadableFileError) as error:
        why = _why(error)
        raise InconclusiveError(f"etcd's log, {source.name}, cannot be read any more: {why}") from error


def _why(error: OSError | UnreadableFileError) -> str:
    return error.happened if isinstance(error, UnreadableFileError) else str(error.strerror or error)


def match_log(
    context: Context,
    source: LogSource,
    log: EtcdLog,
    *,
    new: EtcdLog | None = None,
    go_version: str | None = None,
) -> MatchedLog:
    """Match every connection made so far with the lines of a log, each line with the nearest connection.

    Args:
        context: of a probe.
        source: of the log.
        log: the parsed log.
        new: the part since the run began, if ``log`` begins earlier; clocks are compared by it.
        go_version: the Go version that etcd was built with, if known.
    """
    endpoints = _endpoints(context, source)
    listeners = {listener.url for listener in context.target.listeners}
    # An address that is no listener may be this member's: only the port can identify it.
    connections = [
        one
        for one in context.connections
        if (one.url in endpoints or one.url not in listeners) and not is_reused(one)
    ]
    ahead = clock_ahead(connections, (new or log).rejections)
    version = go_version or log.startup.go_version
    ours = context.target.origin != "live"
    matches = match_connections(
        connections,
        by_our_clock(log.rejections, ahead),
        endpoints=endpoints,
        agrees=lambda connection, line: agrees(connection, line, version),
        alone=ours,
        slack=timedelta() if ours else CLOCKS_APART,
    )
    return MatchedLog(log, matches, ahead.total_seconds())


def _endpoints(context: Context, source: LogSource) -> dict[str, Endpoint]:
    """Return by URL the endpoint name that the log uses for each listener of its members."""
    return {
        listener.url: "peer" if listener.role is Role.PEER else "client"
        for listener in context.target.listeners
        if context.target.log_of(listener) is source
    }


_LINE_SECONDS = 1.0
"""How long a line of etcd may take to be in the log file."""
_FIRST_LINE = 5.0
"""How long the first line may take to be in the log of an owned etcd, which may start on a busy machine."""
_PAUSE = 0.02


def _cost(planned: Planned) -> int:
    target, listener = planned.target, planned.listener
    if listener is None or listener.scheme == "http":
        return 0
    has_log = target.origin != "live" or target.log_of(listener) is not None
    return len(TLSVersion) if has_log else 0


@probe(
    LogComparison,
    cost=_cost,
    needs=[FirstContact, ServedChain, AcceptedClient, IdentityAttempts, Plaintext, GoRelease],
)
def _comparison(context: Context) -> LogComparison:
    listener = tls_listener(context)
    source = context.target.log_of(listener)
    if source is None:
        raise NotVerifiedError("needs etcd's own log, with the connections that it rejected: pass --etcd-log")
    attempts = list(_attempts(context))
    not_logged = _not_logged(context, listener)
    go = observed(context, GoRelease)
    go_version = go.text if go else source.go_version
    found = _wait_for_lines(context, source, () if not_logged else attempts, go_version)
    ours = _matches_of(attempts, found)
    if not ours and not not_logged and is_thinned_out(found.log.rejections):
        # Connect again, after the second in which etcd may have omitted lines.
        requests = [
            Request(purpose="no certificate, to be looked up in the log", version=version)
            for version in TLSVersion
        ]
        again = [tries[-1] for tries in context.attempt(*requests)]
        attempts += again
        found = _wait_for_lines(context, source, again, go_version, omitted=False)
        ours = _matches_of(attempts, found)
    go_version = go_version or found.log.startup.go_version
    unlogged = {id(one) for one in found.matches.unmentioned}
    return LogComparison(
        url=listener.url,
        role=listener.role,
        source=source.name,
        file=str(source.file or ""),
        compared=tuple(_compared(ours, go_version)),
        unlogged=tuple(
            Unlogged(purpose=one.purpose, identity=one.identity, on_the_wire=one.describe())
            for one in attempts
            if id(one) in unlogged
        ),
        latest=found.log.latest,
        thinned_out=is_thinned_out(found.log.rejections),
        not_logged=not_logged,
        clock_ahead=found.ahead,
        go_version=go_version,
    )


def _matches_of(attempts: Iterable[Attempt], found: MatchedLog) -> list[Match]:
    ids = {id(attempt) for attempt in attempts}
    return [match for match in found.matches.ours if id(match.connection) in ids]


def _attempts(context: Context) -> Iterator[Attempt]:
    """Yield the attempts that show which identities the listener accepts."""
    answer = tls_answer(context)
    yield from answer.tls
    for candidate in context.get(AcceptedClient).candidates:
        for _, _, tries in candidate.tries:
            yield from tries
    yield from (made.attempt for made in context.get(IdentityAttempts).here)
    plaintext = observed(context, Plaintext)
    yield from plaintext.tries if plaintext else ()


def _wait_for_lines(
    context: Context,
    source: LogSource,
    attempts: Iterable[Attempt],
    go_version: str | None,
    *,
    omitted: bool = True,
) -> MatchedLog:
    """Read the log until each refused attempt has a line, or until the time for a line has passed.

    Where etcd may have ``omitted`` lines of these attempts, the first line is enough.
    """
    expected = {id(attempt) for attempt in attempts if ended_by_etcd(attempt)}
    started, known = time.monotonic(), None
    while True:
        waited = time.monotonic() - started
        text = read_new(source)
        if text != known:
            known = text
            found = match_log(context, source, parse_log(text, source.name), go_version=go_version)
            logged = expected & {id(match.connection) for match in found.matches.ours}
            thinned_out = is_thinned_out(found.log.rejections)
        none_yet = source.file is None and not logged and not thinned_out
        enough = logged == expected or (omitted and logged and thinned_out)
        if enough or waited > (_FIRST_LINE if none_yet else _LINE_SECONDS):
            return found
        threading.Event().wait(_PAUSE)


def _compared(ours: Sequence[Match], go_version: str | None) -> Iterator[LoggedAttempt]:
    for match in ours:
        attempt = match.connection
        if isinstance(attempt, Attempt):
            compared = compare_wire_and_log(attempt, match.rejection, go_version)
            yield LoggedAttempt(
                purpose=attempt.purpose,
                identity=attempt.identity,
                version=attempt.offered_version,
                protocol=attempt.protocol,
                on_the_wire=compared.on_the_wire,
                in_the_log=printable(compared.in_the_log, _LONGEST),
                expected=compared.expected,
                agree=compared.agree,
                remote_address=printable(match.rejection.remote_address, _LONGEST),
                recognised_by=match.by,
            )


def _not_logged(context: Context, listener: Listener) -> str:
    """Return the clients whose refusals etcd does not log on the listener, in words; empty if it logs all."""
    # Measured: on these ports etcd logs none of the clients that it rejects.
    accepted = context.get(AcceptedClient).accepted
    served_protocols = set(accepted.served_protocols) if accepted else set()
    if served_protocols == {Protocol.GRPC} or split_off(context, listener) is not None:
        return "clients that a gRPC-only port rejects"
    served = observed(context, ServedChain)
    if served is not None and is_generated(served.leaf):
        return "clients that a port with auto-tls rejects"
    return ""


@probe(EtcdLogs, cost=0)
def _logs(context: Context) -> EtcdLogs:
    members: dict[int, tuple[LogSource, dict[str, None]]] = {}
    for listener in context.target.listeners:
        source = context.target.log_of(listener)
        if source is not None:
            members.setdefault(id(source), (source, {}))[1][listener.member] = None
    if not members:
        raise NotApplicableError("no log of etcd is at hand: pass --etcd-log")
    return EtcdLogs(logs=tuple(_read(context, source, tuple(names)) for source, names in members.values()))


def _read(context: Context, source: LogSource, members: tuple[str, ...]) -> ReadLog:
    try:
        text, truncated = source.read()
        new = source.read_new()
    except (OSError, UnreadableFileError) as error:
        return ReadLog(source=source.name, members=members, problem=_why(error))
    log = parse_log(text, source.name, truncated=truncated)
    since = log if new == text else parse_log(new, source.name)
    found = match_log(context, source, log, new=since, go_version=source.go_version)
    ours = [match.rejection for match in found.matches.ours]
    runs = earlier_runs(found.matches.unmatched, ours)
    earlier = {line.line for run in runs for line in run.lines}
    others = [line for line in found.matches.unmatched if line.line not in earlier]
    return ReadLog(
        source=source.name,
        members=members,
        ours=len(ours),
        earlier=tuple(
            LoggedRun(
                host=printable(run.host, _LONGEST), count=len(run.lines), first=run.first, last=run.last
            )
            for run in runs
        ),
        others=tuple(_rejected(others, {line.remote_host for line in ours})),
        failed_dials=tuple(_dials(log.dial_failures)),
        latest=log.latest,
        truncated=truncated,
        etcd_version=log.startup.etcd_version,
        go_version=log.startup.go_version,
    )


def _rejected(unmatched: Iterable[Rejection], our_hosts: Collection[str]) -> Iterator[RejectedOthers]:
    for found in group(unmatched):
        explanation = EXPLANATIONS[found.cause]
        yield RejectedOthers(
            host=printable(found.host, _LONGEST),
            endpoint=found.endpoint or "",
            cause=found.cause,
            count=found.count,
            first=found.first,
            last=found.last,
            example=printable(found.example, _LONGEST),
            line=found.line,
            meaning=explanation.meaning,
            advice=explanation.advice,
            from_here=found.host in our_hosts,
        )


def _dials(failures: Iterable[DialFailure]) -> Iterator[FailedDials]:
    groups: dict[tuple[str, str], list[DialFailure]] = {}
    for failure in failures:
        groups.setdefault((failure.target, failure.cause), []).append(failure)
    for (target, cause), found in groups.items():
        yield FailedDials(
            target=printable(target, _LONGEST),
            cause=cause,
            count=len(found),
            last=max((one.time for one in found if one.time is not None), default=None),
            example=printable(found[-1].error, _LONGEST),
            line=found[-1].line,
            meaning=printable(found[-1].meaning, _LONGEST),
        )


@sample(LogComparison)
def _sample_comparison(listener: SampleListener) -> LogComparison:
    line = Rejection(
        line=1,
        time=None,
        remote_address="127.0.0.1:40000",
        error="tls: client didn't provide a certificate",
        cause=Cause.NO_CERTIFICATE,
    )
    comparisons = {
        version: compare_wire_and_log(listener.refused(identity="none", offered_version=version), line)
        for version in TLSVersion
    }
    return LogComparison(
        url=listener.url,
        role=listener.role,
        source="/var/log/etcd.log",
        file="/var/log/etcd.log",
        compared=tuple(
            LoggedAttempt(
                purpose="sample",
                identity="none",
                version=version,
                protocol=Protocol.HTTP1,
                on_the_wire=compared.on_the_wire,
                in_the_log=compared.in_the_log,
                expected=compared.expected,
                agree=compared.agree,
                remote_address=line.remote_address,
                recognised_by=MatchedBy.ADDRESS,
            )
            for version, compared in comparisons.items()
        ),
        unlogged=(),
    )
