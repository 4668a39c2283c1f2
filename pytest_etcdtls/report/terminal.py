"""The summary of a run for a terminal, and the verdict that ends it.

The verdict is at most 24 lines for one member at 80 columns.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from pytest_etcdtls.facts.access import AcceptedClient, AccessMatrix
from pytest_etcdtls.facts.certificates import ServedChain
from pytest_etcdtls.facts.discovery import Discovery
from pytest_etcdtls.facts.etcd_log import EtcdLogs, FailedDials, LoggedRun, ReadLog, RejectedOthers
from pytest_etcdtls.judgement import REFUSED_OR_CLOSED
from pytest_etcdtls.pki.certificate import name_text, shown
from pytest_etcdtls.profiles import FAILED, outcome_of, summary_of
from pytest_etcdtls.registry import Fault
from pytest_etcdtls.report.behaviour import Comparison, ListenerRow, compare, members
from pytest_etcdtls.report.differences import ComparedTargets, Direction, TargetDifference
from pytest_etcdtls.report.model import Report, Seen
from pytest_etcdtls.report.overview import WITHOUT_VERDICT, conclusion, exit_reason, options_in, plural
from pytest_etcdtls.report.text import (
    Line,
    bold,
    certificate_card,
    coloured,
    days_left,
    fingerprint,
    section,
    wrapped,
)
from pytest_etcdtls.results import CheckResult, Outcome, Severity
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import Ending
from pytest_etcdtls.tls.hello import Connection, HelloExchange, is_reused
from pytest_etcdtls.untrusted import some
from pytest_etcdtls.waivers import Review, Waiver

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
    ended = [one for one in connections if one.local_address and not (_served(one) or is_reused(one))]
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
_NOT_LOOKED_FOR = "Other listeners of the cluster were not looked for: pass --etcd-discover."


def summary(report: Report, review: Review, *, width: int, verbosity: int) -> Iterator[Line]:
    """Yield the summary.

    Args:
        report: the report of the run.
        review: the state of the waivers.
        width: characters per line. Commands to paste may be longer.
        verbosity: pytest's verbosity. Below zero, targets and warnings are omitted; above zero, certificates
            are shown in full, and what was not verified, did not apply or was not collected.
    """
    if verbosity >= 0:
        for seen in report.seen:
            yield from _target(seen, report.started_at, width, verbosity)
    yield from wrapped(_counts(report), width)
    yield from _stale(review, width)
    if verbosity >= 0:
        yield from _warnings([result for fault in report.warnings for result in fault.results], width)
        yield from _waived(_of(report, Outcome.WAIVED), width)
        yield from _unused(review, width)
        if verbosity > 0:
            yield from _grouped("not verified", _of(report, Outcome.NOT_VERIFIED), width)
            yield from _consequences(report, width)
            yield from _grouped("not applicable", _of(report, Outcome.NOT_APPLICABLE), width)
            yield from _left_out(report.left_out, width)
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
    if left_out := sum(report.left_out.values()):
        counts.append(f"{left_out} not collected")
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
        if verbosity > 0 or listener.label in declared:
            yield Line(f"  {listener.role} {listener.url}")
        if verbosity > 0:
            yield from _certificates(seen.served(listener.label), now, width)
        if listener.label in declared:
            yield from declared_lines(declared[listener.label], width)
    if _leaves_some_out(seen.target):
        yield from wrapped(_NOT_LOOKED_FOR, width, "  ", "    ")
    for one in seen.target.unreached:
        yield from wrapped(f"{one.role} {one.url}: not judged: {one.reason}", width, "  ", "    ")


def _certificates(served: ServedChain | None, now: datetime, width: int) -> Iterator[Line]:
    """Yield every served certificate in full."""
    if served is None:
        yield Line("    no certificate was seen")
        return
    for number, certificate in enumerate(served.certificates):
        if number:
            yield Line(f"    and above it, {number}:")
        for word, value in certificate_card(certificate, now):
            yield from wrapped(value, width, f"    {word + ':':<12}")


def _leaves_some_out(target: Target) -> bool:
    """Whether a member may have listeners that neither a declaration nor an option names."""
    members = {listener.member for listener in target.listeners}
    return target.origin == "live" and not target.discover and not members <= target.declared.keys()


def _shows_declared(seen: Seen, verbosity: int) -> bool:
    """Whether the declaration is shown: always where it is the user's, with ``-v`` for an owned cluster."""
    return seen.target.configured_by_user or verbosity > 0


def _declared(seen: Seen) -> Mapping[str, ListenerRow]:
    """Return the declared settings by listener."""
    return {row.listener.label: row for _, rows in members(seen) for row in rows}


def _warnings(results: Sequence[CheckResult], width: int) -> Iterator[Line]:
    """Yield one block per warning; listeners with the same one share it, also those of several targets."""
    if results:
        yield Line()
        yield coloured("warnings", "yellow")
    blocks: dict[tuple[str, ...], list[CheckResult]] = {}
    for result in results:
        said = [f"{finding.message} (observed: {finding.observed})" for finding in result.findings]
        blocks.setdefault((result.check, result.remediation, *said), []).append(result)
    for (check, remediation, *said), alike in blocks.items():
        listeners = ", ".join(dict.fromkeys(result.listener for result in alike))
        targets = ", ".join(dict.fromkeys(result.target for result in alike))
        yield from wrapped(f"{check} ({alike[0].severity}) on {listeners} of {targets}", width, "  ")
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
def _grouped(heading: str, results: Iterable[CheckResult], width: int) -> Iterator[Line]:
    """Yield one entry per reason, with the names of the checks that it applies to."""
    groups: dict[str, dict[str, list[str]]] = {}
    for result in results:
        groups.setdefault(result.reason, {}).setdefault(result.check, []).append(result.listener)
    if groups:
        yield Line()
        yield bold(heading)
    for reason, checks in groups.items():
        yield from wrapped(reason or "no reason given", width, "  ", "  ")
        listeners = list(dict.fromkeys(listener for found in checks.values() for listener in found))
        yield from wrapped(f"{', '.join(checks)} on {', '.join(listeners)}", width, "      ")


def _left_out(reasons: Mapping[str, int], width: int) -> Iterator[Line]:
    """Yield what the options leave out."""
    if reasons:
        yield Line()
        yield bold("not collected")
    for reason, number in reasons.items():
        yield from wrapped(f"{number}: {reason}", width, "  ", "    ")


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
    for waiver, reason in found:
        yield from wrapped(
            f"{waiver.check} on {waiver.listener}: {reason} ({waiver.source}: {waiver.reason})",
            width,
            "  ",
            "    ",
        )


_ROWS = 6
"""Maximum number of listeners that are shown each."""
_TARGETS = 8
"""Maximum number of targets that are shown each."""
_FAULTS = 6
"""Maximum number of faults of which the remedy is shown."""
_NAMED = 5
"""Maximum number of checks that are named in a line."""
_REASONS = 3
"""Maximum number of reasons for not-verified checks."""
_COMPARISONS = 4
"""Maximum number of comparisons that are shown."""
_DIFFERENCE_LINES = 12
"""Maximum number of lines about differences."""
_SHORT = 16
_CALLED = {"none": "clients without a certificate"}
"""Identities whose name would read as something else after "accepts"."""
_SERVED_AS_DECLARED = ("config.served-file", "config.peer-served-file")


def headline(report: Report, problems: Sequence[str]) -> Line:
    """Return the verdict in one line: CLEAN, NOT CLEAN, NO VERDICT or NOT COMPLETE."""
    text = conclusion(report, problems)
    return Line(f"etcd TLS: {text}", {"green" if text == "CLEAN" else "red": True, "bold": True})


@section
def verdict(
    report: Report, problems: Sequence[str], status: int, *, width: int, quiet: bool
) -> Iterator[Line]:
    """Yield the verdict.

    Args:
        report: of the run.
        problems: what fails the run besides results.
        status: pytest's exit code.
        width: characters per line.
        quiet: leave out what each listener serves, unless its certificate is about to expire.
    """
    if not quiet:
        yield from _rows(report, width)
    yield from _faults(report.faults, width)
    yield from _warnings_in_verdict(report, width)
    yield from _profiles(report, width)
    yield from _not_verified(report, width)
    yield from _differences(report.comparisons, width)
    for problem in problems:
        yield from (coloured(line.text, "red") for line in wrapped(problem, width, "  "))
    made = f"{plural(report.connections, 'connection')} in {report.seconds:.1f} s"
    yield from wrapped(f"{made}; {exit_reason(report, problems, status)}", width, rest="  ")
    last = headline(report, problems)
    yield from (Line(line.text, last.markup) for line in wrapped(last.text, width, rest="  "))


def _rows(report: Report, width: int) -> Iterator[Line]:
    """Yield the listeners of each target; of many listeners those with faults, and a line for each target."""
    wrong = {(result.target, result.listener) for fault in report.faults for result in fault.results}
    left = _ROWS
    every = sum(len(seen.target.listeners) for seen in report.seen) <= _ROWS
    for seen in report.seen[:_TARGETS]:
        label, listeners = seen.target.label, seen.target.listeners
        shown = listeners if every else [one for one in listeners if (label, one.label) in wrong][:left]
        left -= len(shown)
        version = f", etcd {seen.etcd_version}" if seen.etcd_version else ""
        said = "" if every else f": {plural(len(listeners), 'listener')}, {_faults_of(report, label)}"
        yield bold(f"{label} ({seen.target.origin}{version}){said}")
        for listener in shown:
            yield from _row(report, seen, listener, width)
    if (more := len(report.seen) - _TARGETS) > 0:
        yield Line(f"and {plural(more, 'more target')}")


def _faults_of(report: Report, target: str) -> str:
    found = sum(any(result.target == target for result in fault.results) for fault in report.faults)
    undecided = sum(
        result.target == target and result.outcome in WITHOUT_VERDICT for result in report.results
    )
    parts = [plural(found, "fault")] if found else []
    parts += [f"{plural(undecided, 'check')} without evidence"] if undecided else []
    return ", ".join(parts) or "no fault"


def _row(report: Report, seen: Seen, listener: Listener, width: int) -> Iterator[Line]:
    """Yield what a listener accepts, refuses and serves."""
    yield from wrapped(f"{listener.label} {listener.url}", width, "  ", "    ")
    accepted = seen.known(listener.label, AcceptedClient)
    if accepted is not None:
        good = f"accepts {accepted.accepted.identity}" if accepted.accepted else "accepts no good client"
        versions = " ".join(str(version).replace("TLSv", "TLS ") for version in accepted.versions)
        identities = _identities(
            fact for _, fact in seen.facts_of[listener.label] if isinstance(fact, AccessMatrix)
        )
        yield from wrapped("; ".join(part for part in (good, identities, versions) if part), width, "    ")
    served = seen.served(listener.label)
    if served is not None:
        name = _served_file(report, seen, listener)
        leaf = served.leaf
        until = leaf.not_valid_after_utc
        yield from wrapped(
            f"serves {name}{shown(leaf)} by {name_text(leaf.issuer) or '(empty name)'}, SHA-256 "
            f"{fingerprint(leaf)[:_SHORT]}, until {until:%Y-%m-%d} ({days_left(leaf, report.started_at)})",
            width,
            "    ",
        )


def _identities(matrices: Iterable[AccessMatrix]) -> str:
    """Return one mark for each bad identity, and the names of those that are not refused."""
    marks: dict[str, str] = {}
    for matrix in matrices:
        if matrix.cells and not matrix.instead_of and matrix.identity not in marks:
            endings = {cell.attempt.ending for cell in matrix.cells}
            marks[matrix.identity] = (
                "!" if Ending.SERVED in endings else "." if endings <= REFUSED_OR_CLOSED else "?"
            )
    if not marks:
        return ""
    counted = Counter(marks.values())
    said = [f"refuses {counted['.']} of {len(marks)} bad identities {''.join(marks.values())}"]
    for mark, word in (("!", "accepts"), ("?", "unclear")):
        names = [_CALLED.get(name, name) for name, found in marks.items() if found == mark]
        if names:
            said.append(f"{word} {some(names, _NAMED)}")
    return ", ".join(said)


def _served_file(report: Report, seen: Seen, listener: Listener) -> str:
    """Return the name of the declared certificate file, if it is the one that is served."""
    as_declared = any(
        result.check in _SERVED_AS_DECLARED and result.outcome is Outcome.CONFORMS
        for result in report.results
        if (result.target, result.listener) == (seen.target.label, listener.label)
    )
    told = seen.target.declared.get(listener.member)
    if not as_declared or told is None:
        return ""
    flag = "peer-cert-file" if listener.role == "peer" else "cert-file"
    setting = told.declaration.settings.get(flag)
    return f"{setting.value.rpartition('/')[2]}, " if setting else ""


def _faults(found: Sequence[Fault], width: int) -> Iterator[Line]:
    """Yield each fault in a line with its remedy below; only the line if there are many."""
    for number, fault in enumerate(found, 1):
        first = fault.first
        following = len(fault.consequences)
        verb = "follows" if following == 1 else "follow"
        more = f"; {plural(following, 'more check')} {verb} from it" if following else ""
        begin = f"{number}. "
        where = f"{first.check} ({first.severity}) on {some(fault.listeners, _NAMED)}"
        text = f"{where}: {first.message}{more}"
        yield from (coloured(line.text, "red") for line in _at_most(text, width, begin, 2))
        if number <= _FAULTS and first.remediation:
            yield from _at_most(first.remediation, width, f"{' ' * len(begin)}remedy: ", 2)


def _at_most(text: str, width: int, begin: str, lines: int) -> Iterator[Line]:
    """Yield a text in so many lines at most; three dots stand for what is cut at the end of a word."""
    made = list(wrapped(text, width, begin))
    yield from made[: lines - 1]
    if len(made) > lines:
        last = f"{made[lines - 1].text} {made[lines].text.strip()}"
        indent = " " * len(begin)
        yield Line(indent + textwrap.shorten(last, width - len(begin) - 4, placeholder="") + " ...")
    else:
        yield from made[lines - 1 :]


def _warnings_in_verdict(report: Report, width: int) -> Iterator[Line]:
    warned = report.warnings
    names = list(dict.fromkeys(fault.first.check for fault in warned))
    if names:
        yield from (
            coloured(line.text, "yellow")
            for line in wrapped(f"{plural(len(names), 'warning')}: {some(names, _NAMED)}", width, rest="  ")
        )


def _profiles(report: Report, width: int) -> Iterator[Line]:
    for profile in report.profiles.profiles:
        outcomes = {outcome_of(section, report.results) for section in profile.sections}
        markup = {"red": True} if outcomes & FAILED else {}
        lines = wrapped(summary_of(profile, report.results), width, rest="  ")
        yield from (Line(line.text, markup) for line in lines)


def _differences(compared: Sequence[ComparedTargets], width: int) -> Iterator[Line]:
    """Yield what differs, the most important first, in at most :data:`_DIFFERENCE_LINES` lines."""
    shown = compared[-_COMPARISONS:]
    if len(shown) < len(compared):
        yield Line(f"{plural(len(compared) - len(shown), 'more comparison')}: see the report")
    left = _DIFFERENCE_LINES - len(shown)
    for number, one in enumerate(shown):
        yield from (bold(line.text) for line in _at_most(one.headline, width, "", 1))
        waiting = sum(bool(later.differences or later.remarks) for later in shown[number + 1 :])
        lines = list(_most_important(one, width, left - 2 * waiting))
        left -= len(lines)
        yield from lines


def _most_important(one: ComparedTargets, width: int, most: int) -> Iterator[Line]:
    """Yield as many differences as fit into so many lines, with the meaning of some if there is room."""
    found = [difference for difference in one.differences if not difference.follows]
    most -= bool(one.remarks or len(found) > most)
    room = most - len(found)
    for difference in found[: max(most, 0)]:
        lines = list(_difference(difference, width))
        if len(lines) - 1 > room:
            lines = lines[:1]
        room -= len(lines) - 1
        yield from lines
    left = len(found) - max(most, 0)
    rest = [f"{left} more: see the report"] if left > 0 else []
    if rest or one.remarks:
        yield from _at_most("; ".join([*rest, *one.remarks]), width, "  ", 1)


_MARKUP = {Direction.WORSE: "red", Direction.BETTER: "green"}


def _difference(one: TargetDifference, width: int) -> Iterator[Line]:
    colour = _MARKUP.get(one.direction)
    text = one.sentence if one.direction is Direction.CHANGED else f"{one.direction}: {one.sentence}"
    for line in _at_most(text, width, "  ", 1):
        yield coloured(line.text, colour) if colour else line
    if one.meaning:
        yield from _at_most(one.meaning, width, "    ", 2)


def _not_verified(report: Report, width: int) -> Iterator[Line]:
    unverified = [result for result in report.results if result.outcome is Outcome.NOT_VERIFIED]
    if not unverified:
        return
    options = Counter(option for result in unverified for option in options_in(result.reason))
    what = ", ".join(f"{option} ({count})" for option, count in options.most_common(_REASONS))
    text = f"{plural(len(unverified), 'result')} not verified" + (
        f": pass {what}; -v says why" if what else ": -v says why"
    )
    yield from wrapped(text, width, rest="  ")
