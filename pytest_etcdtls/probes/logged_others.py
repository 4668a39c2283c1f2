"""What etcd's own log says of everybody else, explained, once everything of ours is over.

Makes no connections. What it finds depends on what was tried before, so no check asks for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from pytest_etcdtls.errors import NotApplicableError
from pytest_etcdtls.etcd_log.dial_failures import DialFailure
from pytest_etcdtls.etcd_log.explanations import EXPLANATIONS
from pytest_etcdtls.etcd_log.groups import EarlierRun, earlier_runs, group
from pytest_etcdtls.etcd_log.reading import parse_log
from pytest_etcdtls.etcd_log.rejections import Rejection
from pytest_etcdtls.etcd_log.source import LogSource
from pytest_etcdtls.observations.etcd_log import EtcdLogs, FailedDials, LoggedRun, ReadLog, RejectedOthers
from pytest_etcdtls.probes.looking_up import look_up, printable
from pytest_etcdtls.probes.registry import Context, probe


@probe(EtcdLogs, cost=0)
def _logs(context: Context, key: str | None) -> EtcdLogs:
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
    except OSError as error:
        return ReadLog(source=source.name, members=members, problem=str(error.strerror or error))
    log = parse_log(text, source.name, truncated=truncated)
    since = log if new == text else parse_log(new, source.name)
    found = look_up(context, source, log, new=since, go_version=source.go_version)
    ours = [match.rejection for match in found.matches.ours]
    runs = earlier_runs(found.matches.strangers, ours)
    earlier = {line.line for run in runs for line in run.lines}
    others = [line for line in found.matches.strangers if line.line not in earlier]
    return ReadLog(
        source=source.name,
        members=members,
        ours=len(ours),
        earlier=tuple(_logged_run(run) for run in runs),
        others=tuple(_rejected(others, {line.remote_host for line in ours})),
        failed_dials=tuple(_dials(log.dial_failures)),
        latest=log.latest,
        truncated=truncated,
        etcd_version=log.startup.etcd_version,
        go_version=log.startup.go_version,
    )


def _logged_run(run: EarlierRun) -> LoggedRun:
    return LoggedRun(host=printable(run.host), count=len(run.lines), first=run.first, last=run.last)


def _rejected(strangers: Iterable[Rejection], our_hosts: Collection[str]) -> Iterator[RejectedOthers]:
    for found in group(strangers):
        explanation = EXPLANATIONS[found.cause]
        yield RejectedOthers(
            host=printable(found.host),
            endpoint=found.endpoint or "",
            cause=found.cause,
            count=found.count,
            first=found.first,
            last=found.last,
            example=printable(found.example),
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
            target=printable(target),
            cause=cause,
            count=len(found),
            last=max((one.time for one in found if one.time is not None), default=None),
            example=printable(found[-1].error),
            line=found[-1].line,
            meaning=printable(found[-1].meaning),
        )
