"""What etcd's own log says of rejected connections, as lines: whose they are, and what to do about others'.

Makes lines; does not read a log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from pytest_etcdtls.observations.attempt import Way
from pytest_etcdtls.observations.etcd_log import EtcdLogs, FailedDials, LoggedRun, ReadLog, RejectedOthers
from pytest_etcdtls.observations.greeting import Connection, Greeting
from pytest_etcdtls.report.model import Seen
from pytest_etcdtls.report.text import Line, bold, wrapped

_GROUPS = 5
"""Groups of one log that are shown, unless asked for more."""
_EVERY = 100


def rejected_lines(seen: Seen, width: int, *, every: bool) -> Iterator[Line]:
    """Yield what the logs of a target say; of a live one without a log, what its operator will find there.

    Args:
        seen: a target, and what was seen of it.
        width: characters per line.
        every: show every group, and also logs in which there is nobody but us.
    """
    live = seen.target.origin == "live"
    logs = next((fact.logs for _, _, fact in seen.facts if isinstance(fact, EtcdLogs)), ())
    blocks = [list(_log(log, width, every=every)) for log in logs if live or every or _tells(log)]
    if live and not logs:
        blocks = [list(_to_be_found(seen.connections, width))]
    if any(blocks):
        yield Line()
        yield bold("etcd's log")
    for block in blocks:
        yield from block


def _tells(log: ReadLog) -> bool:
    return bool(log.others or log.earlier or log.failed_dials or log.problem)


def _log(log: ReadLog, width: int, *, every: bool) -> Iterator[Line]:
    name = f"{log.source} ({', '.join(log.members)})"
    if log.problem:
        yield from wrapped(f"{name} could not be read in the end: {log.problem}", width, "  ", "    ")
        return
    others = sum(group.count for group in log.others)
    end = " (only its end was read)" if log.truncated else ""
    earlier = sum(run.count for run in log.earlier)
    between = f"{earlier} like those of earlier runs, " if earlier else ""
    whose = f"{_rejected(log.ours)} {_are(log.ours)} ours, {between}{others} {_are(others)} not"
    yield from wrapped(f"{name}: {whose}{end}", width, "  ", "    ")
    shown = _EVERY if every else _GROUPS
    for run in log.earlier if every else log.earlier[-1:]:
        yield from wrapped(_earlier(run), width, "    ", "      ")
    explained: set[str] = set()
    for group in log.others[:shown]:
        yield from wrapped(_who(group), width, "    ", "      ")
        if group.cause not in explained:
            yield from wrapped(f"{group.meaning} {group.advice}", width, "      ")
        explained.add(group.cause)
    for dial in log.failed_dials[:shown]:
        yield from wrapped(_dial(dial), width, "    ", "      ")
    left = max(0, len(log.others) - shown) + max(0, len(log.failed_dials) - shown)
    if left:
        yield from wrapped(f"and {left} more like these: -v and --etcd-report have them", width, "    ")


def _earlier(run: LoggedRun) -> str:
    """Return from where and when something came that looks like an earlier run."""
    when = f"from {run.first:%Y-%m-%d %H:%M:%S} to {run.last:%H:%M:%S} UTC"
    return f"{run.host}, {_times(run.count)} {when}: looks like a run of pytest-etcdtls"


def _who(group: RejectedOthers) -> str:
    where = f" on the {group.endpoint} endpoint" if group.endpoint else ""
    host = group.host or "an unknown address"
    here = ", from an address of this run" if group.from_here else ""
    return f"{host}, {_times(group.count)}{where}{_last(group.last)} (line {group.line}): {group.cause}{here}"


def _dial(dial: FailedDials) -> str:
    return f"etcd itself, {_times(dial.count)}{_last(dial.last)} (line {dial.line}): {dial.meaning}"


def _to_be_found(connections: Sequence[Connection], width: int) -> Iterator[Line]:
    """Yield which lines of ours an operator will find in the log of a live etcd."""
    ended = [one for one in connections if one.local_address and not _served(one)]
    if not ended:
        return
    hosts = sorted({one.local_address.rpartition(":")[0] for one in ended})
    first, last = (f"{one.started_at:%H:%M:%S}" for one in (ended[0], ended[-1]))
    when = f"{ended[0].started_at:%Y-%m-%d} {first}" + (f" to {last}" if last != first else "")
    yield from wrapped(
        f'etcd will have logged up to {len(ended)} connections of ours as "rejected connection", from '
        f"{', '.join(hosts)} at {when} UTC; --etcd-log compares them, and explains all others",
        width,
        "  ",
        "    ",
    )


def _served(connection: Connection) -> bool:
    return not isinstance(connection, Greeting) and connection.way is Way.SERVED


def _rejected(number: int) -> str:
    return f"{number} rejected connection{'' if number == 1 else 's'}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _last(time: datetime | None) -> str:
    return f", last at {time:%Y-%m-%d %H:%M:%S} UTC" if time else ""
