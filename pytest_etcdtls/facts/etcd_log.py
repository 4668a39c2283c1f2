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
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from pytest_etcdtls.declared.declaration import Form
from pytest_etcdtls.errors import (
    InconclusiveError,
    NotApplicableError,
    NotVerifiedError,
    UnreadableFileError,
)
from pytest_etcdtls.etcd_log.matching import (
    CLOCKS_APART,
    Match,
    Matches,
    agrees,
    compare_clocks,
    compare_wire_and_log,
    ended_by_etcd,
    match_connections,
)
from pytest_etcdtls.etcd_log.parse import (
    DialFailure,
    EtcdLog,
    LogSource,
    Rejection,
    is_thinned_out,
    parse_log,
)
from pytest_etcdtls.etcd_log.reasons import EXPLANATIONS, earlier_runs, group
from pytest_etcdtls.facts.access import AcceptedClient
from pytest_etcdtls.facts.access_matrix import IdentityAttempts, split_off
from pytest_etcdtls.facts.certificates import ServedChain
from pytest_etcdtls.facts.fact import Planned, Wire, fact
from pytest_etcdtls.facts.listener import Plaintext, TLSContact, require_tls
from pytest_etcdtls.facts.release import GoRelease
from pytest_etcdtls.pki.certificate import is_generated
from pytest_etcdtls.recording import Recording
from pytest_etcdtls.role import Protocol, Side, TLSVersion
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import Attempt, Request
from pytest_etcdtls.untrusted import printable


class LoggedAttempt(Struct, frozen=True, kw_only=True):
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


class Unlogged(Struct, frozen=True, kw_only=True):
    """An attempt that was refused and has no line in the log."""

    purpose: str
    identity: str
    on_the_wire: str


class LogComparison(Struct, frozen=True, kw_only=True):
    """The attempts on a listener, compared with the lines of etcd's log.

    Attributes:
        source: the log's file, or words.
        file: path of the log file, for commands to paste; empty if no file is kept.
        compared: attempts that have a log line.
        unlogged: attempts that were refused and have no log line.
        unattributed: number of lines that may be about these attempts, because no line has the address of
            an attempt on this listener.
        latest: time of the log's last entry, ``None`` if the entry has no complete time.
        thinned_out: so many connections were rejected in one second that etcd omitted lines.
        not_logged: the clients whose refusals etcd does not log on this listener, in words; empty if it logs
            all.
        clock_ahead: seconds by which the log's clock is ahead of ours; 0 if they agree.
        go_version: the Go version that etcd was built with, where known.
    """

    source: str
    file: str
    compared: tuple[LoggedAttempt, ...]
    unlogged: tuple[Unlogged, ...]
    unattributed: int = 0
    latest: datetime | None = None
    thinned_out: bool = False
    not_logged: str = ""
    clock_ahead: float = 0.0
    go_version: str | None = None


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


class LoggedRun(Struct, frozen=True, kw_only=True):
    """Rejected connections that look like those of an earlier run of this tool."""

    host: str
    count: int
    first: datetime
    last: datetime


class FailedDials(Struct, frozen=True, kw_only=True):
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


class ReadLog(Struct, frozen=True, kw_only=True):
    """One log, as read at the end of the run.

    Attributes:
        source: the log's file, or words.
        members: labels of the members that write it.
        ours: number of rejected connections in it that this run made.
        earlier: rejected connections that look like those of earlier runs, in order of time.
        others: the other rejected connections, the largest group first.
        unattributed: number of rejected connections that may be of this run or of others, because NAT, a
            proxy or a published port has changed the addresses.
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
    unattributed: int = 0
    failed_dials: tuple[FailedDials, ...] = ()
    latest: datetime | None = None
    truncated: bool = False
    etcd_version: str | None = None
    go_version: str | None = None
    problem: str = ""


class EtcdLogs(Struct, frozen=True, kw_only=True):
    """The logs of a target, read at the end of a run, when all of its connections are known."""

    logs: tuple[ReadLog, ...]


_LONGEST = 400
"""Characters of a text of the log in a report."""


class MatchedLog(Struct, frozen=True):
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
    target: Target,
    recording: Recording,
    source: LogSource,
    log: EtcdLog,
    *,
    new: EtcdLog | None = None,
    go_version: str | None = None,
) -> MatchedLog:
    """Match every connection made so far with the lines of a log.

    Args:
        target: of the connections.
        recording: has the connections.
        source: of the log.
        log: the parsed log.
        new: the part since the run began, if ``log`` begins earlier; clocks are compared by it.
        go_version: the Go version that etcd was built with, if known.
    """
    endpoints = _endpoints(target, source)
    listeners = {listener.url for listener in target.listeners}
    # An address that is no listener may be this member's.
    connections = [one for one in recording.connections if one.url in endpoints or one.url not in listeners]
    slack = CLOCKS_APART if target.origin == "live" else timedelta()
    clock = compare_clocks(connections, (new or log).rejections, slack)
    version = go_version or log.startup.go_version
    matches = match_connections(
        connections,
        log.rejections,
        endpoints=endpoints,
        agrees=lambda connection, line: agrees(connection, line, version),
        clock=clock,
    )
    return MatchedLog(log, matches, clock.ahead.total_seconds())


def _endpoints(target: Target, source: LogSource) -> dict[str, Side]:
    """Return by URL the endpoint name that the log uses for each listener of its members."""
    return {
        listener.url: listener.role.side for listener in target.listeners if target.log_of(listener) is source
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


class MemberLog(Struct, frozen=True):
    """The log of the member behind a TLS listener."""

    source: LogSource


POD_LOGS: Final = "/var/log/pods/kube-system_etcd-*/etcd/*.log"
"""Where the kubelet keeps the log of kubeadm's etcd."""


def _pod_log(target: Target) -> str:
    """Return ``=GLOB`` of the log on a node of kubeadm's, for advice; elsewhere an empty text."""
    declared = any(one.declaration.form is Form.MANIFEST for one in target.declared.values())
    return f"='{POD_LOGS}'" if declared and glob.glob(POD_LOGS) else ""


@fact(reported=False)
def member_log(here: Listener, target: Target) -> MemberLog:
    """Return the log of the listener's member.

    Raises:
        NotApplicableError: for an ``http`` URL.
        NotVerifiedError: if there is none.
    """
    require_tls(here)
    source = target.log_of(here)
    if source is None:
        raise NotVerifiedError(
            f"needs etcd's own log, with the connections that it rejected: pass --etcd-log{_pod_log(target)}"
        )
    return MemberLog(source)


@fact(connections=_cost)
def log_comparison(
    here: Listener,
    target: Target,
    log: MemberLog,
    contact: TLSContact,
    good: AcceptedClient,
    identities: IdentityAttempts,
    plaintext: Plaintext | None,
    chain: ServedChain | None,
    go: GoRelease | None,
    recording: Recording,
    wire: Wire,
) -> LogComparison:
    """Wait for the log's lines about the attempts that show which identities are accepted, and compare."""
    source = log.source
    attempts = [
        *contact.tls,
        *(attempt for candidate in good.candidates for case in candidate.cases for attempt in case.tries),
        *identities.here.attempts,
        *(plaintext.tries if plaintext else ()),
    ]
    not_logged = _not_logged(here, target, good, chain)
    go_version = go.text if go else source.go_version

    def find(text: str) -> MatchedLog:
        return match_log(target, recording, source, parse_log(text, source.name), go_version=go_version)

    matched = _wait_for_lines(source, find, () if not_logged else attempts)
    ours = _matches_of(attempts, matched)
    if not ours and not not_logged and is_thinned_out(matched.log.rejections):
        # Connect again, after the second in which etcd may have omitted lines.
        requests = [
            Request(purpose="no certificate, to be looked up in the log", version=version)
            for version in TLSVersion
        ]
        again = [tries[-1] for tries in wire.attempt(*requests)]
        attempts += again
        matched = _wait_for_lines(source, find, again, omitted=False)
        ours = _matches_of(attempts, matched)
    go_version = go_version or matched.log.startup.go_version
    unlogged = {id(attempt) for attempt in matched.matches.unmentioned}
    return LogComparison(
        source=source.name,
        file=str(source.file or ""),
        compared=tuple(_compared(ours, go_version)),
        unlogged=tuple(
            Unlogged(purpose=attempt.purpose, identity=attempt.identity, on_the_wire=attempt.describe())
            for attempt in attempts
            if id(attempt) in unlogged
        ),
        unattributed=len(matched.matches.unattributed),
        latest=matched.log.latest,
        thinned_out=is_thinned_out(matched.log.rejections),
        not_logged=not_logged,
        clock_ahead=matched.ahead,
        go_version=go_version,
    )


def _matches_of(attempts: Iterable[Attempt], matched: MatchedLog) -> list[Match]:
    ids = {id(attempt) for attempt in attempts}
    return [match for match in matched.matches.ours if id(match.connection) in ids]


def _wait_for_lines(
    source: LogSource,
    find: Callable[[str], MatchedLog],
    attempts: Iterable[Attempt],
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
            matched = find(text)
            logged = expected & {id(match.connection) for match in matched.matches.ours}
            thinned_out = is_thinned_out(matched.log.rejections)
        none_yet = not (source.file or logged or thinned_out or matched.matches.unattributed)
        enough = logged == expected or (omitted and logged and thinned_out)
        if enough or waited > (_FIRST_LINE if none_yet else _LINE_SECONDS):
            return matched
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
            )


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
        raise NotApplicableError("no log of etcd is at hand: pass --etcd-log")
    return EtcdLogs(
        logs=tuple(_read(target, recording, source, tuple(names)) for source, names in members.values())
    )


def _read(target: Target, recording: Recording, source: LogSource, members: tuple[str, ...]) -> ReadLog:
    try:
        text, truncated = source.read()
        new = source.read_new()
    except (OSError, UnreadableFileError) as error:
        return ReadLog(source=source.name, members=members, problem=_why(error))
    log = parse_log(text, source.name, truncated=truncated)
    since = log if new == text else parse_log(new, source.name)
    matched = match_log(target, recording, source, log, new=since, go_version=source.go_version)
    ours = [match.rejection for match in matched.matches.ours]
    unattributed = len(matched.matches.unattributed)
    alone = target.origin != "live"  # an etcd that the run has started has no other clients
    runs = earlier_runs(matched.matches.unmatched, ours)
    earlier = {line.line for run in runs for line in run.lines}
    others = [line for line in matched.matches.unmatched if line.line not in earlier]
    return ReadLog(
        source=source.name,
        members=members,
        ours=len(ours) + (unattributed if alone else 0),
        unattributed=0 if alone else unattributed,
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
    for rejected in group(unmatched):
        explanation = EXPLANATIONS[rejected.cause]
        yield RejectedOthers(
            host=printable(rejected.host, _LONGEST),
            endpoint=rejected.endpoint or "",
            cause=rejected.cause,
            count=rejected.count,
            first=rejected.first,
            last=rejected.last,
            example=printable(rejected.example, _LONGEST),
            line=rejected.line,
            meaning=explanation.meaning,
            advice=explanation.advice,
            from_here=rejected.host in our_hosts,
        )


def _dials(failures: Iterable[DialFailure]) -> Iterator[FailedDials]:
    groups: dict[tuple[str, str], list[DialFailure]] = {}
    for failure in failures:
        groups.setdefault((failure.target, failure.cause), []).append(failure)
    for (target, cause), same in groups.items():
        yield FailedDials(
            target=printable(target, _LONGEST),
            cause=cause,
            count=len(same),
            last=max((failure.time for failure in same if failure.time is not None), default=None),
            example=printable(same[-1].error, _LONGEST),
            line=same[-1].line,
            meaning=printable(same[-1].meaning, _LONGEST),
        )
