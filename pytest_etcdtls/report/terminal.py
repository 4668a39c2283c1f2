"""Results and the summary of a run for a terminal."""

from __future__ import annotations

import functools
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar, cast

from pytest_etcdtls.catalog import catalogue
from pytest_etcdtls.facts.discovery import Discovery
from pytest_etcdtls.facts.etcd_log import EtcdLogs, FailedDials, LoggedRun, ReadLog, RejectedOthers
from pytest_etcdtls.report.certificate_text import certificate_card, certificate_line
from pytest_etcdtls.report.flag_reader import Comparison, ListenerRow, compare, members
from pytest_etcdtls.report.model import Report, Seen
from pytest_etcdtls.results import Ancestor, CheckResult, Finding, Outcome, Severity
from pytest_etcdtls.target import Target
from pytest_etcdtls.tls.attempt import Ending
from pytest_etcdtls.tls.hello import Connection, HelloExchange
from pytest_etcdtls.untrusted import escaped, printable
from pytest_etcdtls.waivers import Review, Waiver

WIDTH = 80

_CONTINUED = "  "
"""Prefix of further lines of a message: a text of others in it never begins a line of the terminal."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line; a character on which a terminal acts is written as its escape.

    Attributes:
        markup: names of pytest's terminal markup: ``red``, ``bold`` ...
        lost: the line stands for a part that could not be shown.
    """

    text: str = ""
    markup: Mapping[str, bool] = field(default_factory=dict)
    lost: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", escaped(self.text))


def bold(text: str) -> Line:
    """Return a heading."""
    return Line(text, {"bold": True})


def coloured(text: str, colour: str) -> Line:
    """Return a coloured line."""
    return Line(text, {colour: True})


def wrapped(text: str, width: int, first: str = "", rest: str | None = None) -> Iterator[Line]:
    """Yield a text in lines no longer than the width. A longer word is not broken.

    Args:
        text: the text. Its line breaks are kept.
        width: characters per line.
        first: prefix of the first line.
        rest: prefix of the other lines; ``None`` for as many spaces as ``first`` is long.
    """
    indent = " " * len(first) if rest is None else rest
    # Not splitlines(): it also splits at control characters, which a text of others may hold.
    for number, paragraph in enumerate(text.removesuffix("\n").split("\n")):
        begin = first if number == 0 else indent
        lines = textwrap.wrap(
            paragraph,
            width,
            initial_indent=begin,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        yield from (Line(line) for line in lines or [begin.rstrip()])


def follows_from(cause: Ancestor) -> str:
    """Return in one line that a violation is the consequence of another one."""
    return f"follows from {cause.check} on {cause.listener}"


def result_lines(result: CheckResult, width: int = WIDTH) -> Iterator[Line]:
    """Yield a result in full, or one line for the consequence of another violation."""
    if result.cause is None:
        yield from full_result(result, width)
    else:
        yield from (coloured(line.text, "red") for line in wrapped(follows_from(result.cause), width))


Section = TypeVar("Section", bound=Callable[..., Iterator[Line]])


def section(make: Section) -> Section:
    """Decorate a generator of lines: an error in it costs the rest of that section, and is shown."""

    @functools.wraps(make)
    def lines(*values: object, **named: object) -> Iterator[Line]:
        try:
            yield from make(*values, **named)
        except Exception as error:
            text = f"This part could not be shown: {type(error).__name__}: {printable(str(error))}"
            yield Line(text, {"red": True}, lost=True)

    return cast("Section", lines)


@section
def full_result(result: CheckResult, width: int = WIDTH) -> Iterator[Line]:
    """Yield the full description of a result; without findings, outcome and reason."""
    if not result.findings:
        reason = f"{result.outcome}: {result.reason}"
        yield from (coloured(line.text, "red") for line in wrapped(reason, width, "", _CONTINUED))
        return
    if result.cause is not None:
        yield from wrapped(follows_from(result.cause), width)
    for finding in result.findings:
        yield from (coloured(line.text, "red") for line in wrapped(finding.message, width, "", _CONTINUED))
        yield from _finding(finding, width)
        yield from (
            Line(f"    {name}: {line}")
            for name, value in finding.evidence.items()
            for line in value.split("\n")
        )
        yield from _reproduce(finding)
    yield from wrapped(why(result), width, "  why:      ")
    if result.remediation:
        yield from wrapped(result.remediation, width, "  remedy:   ")
    if result.reason:
        yield from wrapped(result.reason, width, "  note:     ")
    for reference in result.references:
        yield from wrapped(reference, width, "  see:      ")


def why(result: CheckResult) -> str:
    """Return the requirement and why it matters; empty for a check that is not in the catalogue."""
    check = catalogue().get(result.check)
    if check is None:
        return ""
    return f"{check.requirement} {' '.join(check.explanation.split())}".strip()


def _finding(finding: Finding, width: int) -> Iterator[Line]:
    yield from wrapped(finding.expected, width, "  expected: ")
    yield from wrapped(finding.observed, width, "  observed: ")


def _reproduce(finding: Finding) -> Iterator[Line]:
    """Yield the commands to paste, unwrapped."""
    if finding.reproduce:
        yield Line("  reproduce:")
    for text in finding.reproduce:
        yield from (Line(f"    {line}") for line in text.splitlines())


_INDENT = "    "


def declared_lines(row: ListenerRow, width: int) -> Iterator[Line]:
    """Yield the declared, effective and observed settings of a listener."""
    settings = [setting.written for setting in row.declared]
    files = Counter(setting.place.file for setting in row.declared)
    where = f" ({', '.join(files)})" if files else ""
    for word, text in (
        ("declared", (", ".join(settings) or "nothing") + where),
        ("effective", row.effective),
        ("observed", row.observed or "not asked"),
    ):
        yield from wrapped(text, width, f"{_INDENT}{word + ':':<11}")


@section
def benchmark_lines(comparisons: Iterable[Comparison], width: int, *, every: bool) -> Iterator[Line]:
    """Yield the result of a flag reader, and the items that the wire contradicts.

    Args:
        comparisons: the comparisons of one target.
        width: characters per line.
        every: show every item instead of only those that differ.
    """
    judged = [comparison for comparison in comparisons if comparison.wire is not None]
    if not judged:
        return
    passed = sum(comparison.flags.passes for comparison in judged)
    differing = [comparison for comparison in judged if comparison.differs]
    yield Line()
    yield bold("CIS Kubernetes Benchmark, section 2")
    yield from wrapped(
        f"a reader of flags passes {passed} of {len(judged)} items; the wire "
        + (f"disagrees with {len(differing)} of them" if differing else "agrees with every item"),
        width,
        "  ",
    )
    for comparison in judged if every else differing:
        yield from _comparison_lines(comparison, width)


def _comparison_lines(comparison: Comparison, width: int) -> Iterator[Line]:
    flags = comparison.flags
    says = f"the flags {'pass' if flags.passes else 'fail'} ({', '.join(flags.reads)})"
    yield from wrapped(
        f"{flags.item} {flags.title}, of {comparison.member}: {says}, the wire {comparison.wire} "
        f"({', '.join(comparison.checks)})",
        width,
        "  ",
        _INDENT,
    )


_GROUPS = 5
"""Maximum number of groups that are shown of one log, without ``-v``."""
_EVERY = 100


@section
def rejected_lines(seen: Seen, width: int, *, every: bool) -> Iterator[Line]:
    """Yield the rejected connections in a target's logs, or for a live target without a log our own ones.

    Args:
        seen: a target and its observations.
        width: characters per line.
        every: show every group, and also logs that contain our connections only.
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
        yield from wrapped(f"{name} could not be read to the end: {log.problem}", width, "  ", "    ")
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
    """Return the address and time of connections that look like an earlier run."""
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
    """Yield which lines about our connections an operator will find in the log of a live etcd."""
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
    return not isinstance(connection, HelloExchange) and connection.ending is Ending.SERVED


def _rejected(number: int) -> str:
    return f"{number} rejected connection{'' if number == 1 else 's'}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _last(time: datetime | None) -> str:
    return f", last at {time:%Y-%m-%d %H:%M:%S} UTC" if time else ""


_WORDS = {
    Outcome.VIOLATES: "violate",
    Outcome.INCONCLUSIVE: "inconclusive",
    Outcome.BROKEN: "broken",
    Outcome.WARNS: "warn",
    Outcome.WAIVED: "waived",
    Outcome.NOT_VERIFIED: "not verified",
    Outcome.NOT_RUN: "not run",
    Outcome.NOT_APPLICABLE: "not applicable",
    Outcome.CONFORMS: "conform",
}
"""Outcomes in the order of the summary, worst first."""

_COLOURS = {
    Outcome.VIOLATES: "red",
    Outcome.INCONCLUSIVE: "red",
    Outcome.BROKEN: "red",
    Outcome.WARNS: "yellow",
}
_SEVERITIES = list(Severity)
_NAMED = 8
"""Maximum number of checks that are named for one reason."""
_NOT_LOOKED_FOR = "Other listeners of the cluster were not looked for: pass --etcd-discover."


def summary(report: Report, review: Review, *, width: int, verbosity: int) -> Iterator[Line]:
    """Yield the summary.

    Args:
        report: the report of the run.
        review: the state of the waivers.
        width: characters per line. Commands to paste may be longer.
        verbosity: pytest's verbosity. Below zero, certificates and lists of checks that were not judged are
            omitted; above zero, certificates are complete and the declaration of owned clusters is shown.
    """
    if verbosity >= 0:
        for seen in report.seen:
            yield from _target(seen, report.started_at, width, verbosity)
    yield from wrapped(_counts(report), width)
    yield from _stale(review, width)
    if verbosity >= 0:
        yield from _warnings([result for fault in report.warnings for result in fault.results], width)
        yield from _waived(_of(report, Outcome.WAIVED), width)
        yield from _grouped("not verified", _of(report, Outcome.NOT_VERIFIED), width, every=verbosity > 0)
        yield from _unused(review, width)
        if verbosity > 0:
            yield from _consequences(report, width)
            yield from _grouped("not applicable", _of(report, Outcome.NOT_APPLICABLE), width, every=True)
        for seen in report.seen:
            if _shows_declared(seen, verbosity):
                yield from _benchmark(report, seen, width, every=verbosity > 0)
            yield from rejected_lines(seen, width, every=verbosity > 0)


@section
def _benchmark(report: Report, seen: Seen, width: int, *, every: bool) -> Iterator[Line]:
    yield from benchmark_lines(compare(report, seen), width, every=every)


def _of(report: Report, outcome: Outcome) -> list[CheckResult]:
    found = [result for result in report.results if result.outcome is outcome]
    return sorted(found, key=lambda result: _SEVERITIES.index(result.severity))


def _counts(report: Report) -> str:
    counts = []
    for outcome, word in _WORDS.items():
        number = report.counts[outcome]
        verb = outcome in (Outcome.VIOLATES, Outcome.WARNS, Outcome.CONFORMS)
        if number:
            counts.append(f"{number} {word}{'s' if verb and number == 1 else ''}")
    return f"{', '.join(counts) or 'nothing was judged'}; {report.connections} connections"


@section
def _target(seen: Seen, now: datetime, width: int, verbosity: int) -> Iterator[Line]:
    version = f", etcd {seen.etcd_version}" if seen.etcd_version else ""
    yield bold(f"{seen.target.label} ({seen.target.origin}{version})")
    for _, _, fact in seen.facts:
        if isinstance(fact, Discovery):
            yield from wrapped(fact.describe(), width, "  ", "    ")
    declared = _declared(seen) if _shows_declared(seen, verbosity) else {}
    for listener in seen.target.listeners:
        served = seen.served(listener.label)
        yield Line(f"  {listener.role} {listener.url}")
        if served is None:
            yield Line("    no certificate was seen")
        elif verbosity > 0:
            for number, certificate in enumerate(served.certificates):
                if number:
                    yield Line(f"    and above it, {number}:")
                for word, value in certificate_card(certificate, now):
                    yield from wrapped(value, width, f"    {word + ':':<12}")
        else:
            yield from wrapped(certificate_line(served.leaf, now), width, "    ")
        if listener.label in declared:
            yield from declared_lines(declared[listener.label], width)
    if _leaves_some_out(seen.target):
        yield from wrapped(_NOT_LOOKED_FOR, width, "  ", "    ")
    for one in seen.target.unreached:
        yield from wrapped(f"{one.role} {one.url}: not judged: {one.reason}", width, "  ", "    ")


def _leaves_some_out(target: Target) -> bool:
    """Whether a member may have listeners that neither a declaration nor an option names."""
    members = {listener.member for listener in target.listeners}
    return target.origin == "live" and not target.discover and not members <= target.declared.keys()


def _shows_declared(seen: Seen, verbosity: int) -> bool:
    """Whether the declaration is shown: always for a live cluster, with ``-v`` for an owned one."""
    return seen.target.origin == "live" or verbosity > 0


def _declared(seen: Seen) -> Mapping[str, ListenerRow]:
    """Return the declared settings by listener."""
    return {row.listener.label: row for _, rows in members(seen) for row in rows}


def _warnings(results: Sequence[CheckResult], width: int) -> Iterator[Line]:
    """Yield one block per warning. Listeners with the same warning share a block."""
    if results:
        yield Line()
        yield coloured("warnings", "yellow")
    blocks: dict[tuple[str, ...], list[CheckResult]] = {}
    for result in results:
        said = [f"{finding.message} (observed: {finding.observed})" for finding in result.findings]
        blocks.setdefault((result.check, result.target, result.remediation, *said), []).append(result)
    for (check, target, remediation, *said), alike in blocks.items():
        listeners = ", ".join(result.listener for result in alike)
        yield from wrapped(f"{check} ({alike[0].severity}) on {listeners} of {target}", width, "  ")
        for text in said:
            yield from wrapped(text, width, "    ")
        yield from wrapped(remediation, width, "    remedy: ")


@section
def _waived(results: Sequence[CheckResult], width: int) -> Iterator[Line]:
    if results:
        yield Line()
        yield bold("waived")
    for result in results:
        yield from wrapped(
            f"{result.check} on {result.listener} of {result.target}: {result.reason}", width, "  ", "    "
        )


@section
def _grouped(heading: str, results: Iterable[CheckResult], width: int, *, every: bool) -> Iterator[Line]:
    """Yield one entry per reason, with the names or the number of the checks that it applies to."""
    groups: dict[str, dict[str, list[str]]] = {}
    for result in results:
        groups.setdefault(result.reason, {}).setdefault(result.check, []).append(result.listener)
    if groups:
        yield Line()
        yield bold(heading)
    for reason, checks in groups.items():
        yield from wrapped(reason or "no reason given", width, "  ", "  ")
        listeners = list(dict.fromkeys(listener for found in checks.values() for listener in found))
        named = every or len(checks) <= _NAMED
        which = ", ".join(checks) if named else f"{len(checks)} checks (-v names them)"
        yield from wrapped(f"{which} on {', '.join(listeners)}", width, "      ")


def _consequences(report: Report, width: int) -> Iterator[Line]:
    """Yield for each fault, and each warning, the checks that follow from it."""
    for fault in (*report.faults, *report.warnings):
        if fault.consequences:
            yield Line()
            yield bold(f"follow from {fault.first.check} on {', '.join(fault.listeners)}")
            names: dict[str, list[str]] = {}
            for result in fault.consequences:
                names.setdefault(result.listener, []).append(result.check)
            for listener, checks in names.items():
                yield from wrapped(f"{', '.join(checks)} on {listener}", width, "  ", "    ")


def _stale(review: Review, width: int) -> Iterator[Line]:
    yield from _waivers("stale waivers: remove or renew them", review.stale, width, "red")


def _unused(review: Review, width: int) -> Iterator[Line]:
    yield from _waivers("unused waivers", review.unused, width, "bold")


@section
def _waivers(heading: str, found: Sequence[tuple[Waiver, str]], width: int, markup: str) -> Iterator[Line]:
    if found:
        yield Line()
        yield coloured(heading, markup)
    for waiver, why in found:
        yield from wrapped(
            f"{waiver.check} on {waiver.listener}: {why} ({waiver.source}: {waiver.reason})",
            width,
            "  ",
            "    ",
        )
