"""The verdict: the last lines of a run, at most 24 for one member at 80 columns."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from pytest_etcdtls.facts.access import AcceptedClient, AccessMatrix
from pytest_etcdtls.faults import Fault
from pytest_etcdtls.judgement import REFUSED_OR_CLOSED
from pytest_etcdtls.pki.certificate import name_text, shown
from pytest_etcdtls.profiles import FAILED, outcome_of, summary_of
from pytest_etcdtls.report.certificate_text import days_left, fingerprint
from pytest_etcdtls.report.differences import ComparedTargets, Direction, TargetDifference
from pytest_etcdtls.report.model import Report, Seen
from pytest_etcdtls.report.overview import WITHOUT_VERDICT, conclusion, exit_reason, options_in, plural
from pytest_etcdtls.report.text import Line, bold, coloured, section, wrapped
from pytest_etcdtls.results import Outcome
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Ending
from pytest_etcdtls.untrusted import some

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
    yield from _warnings(report, width)
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


def _warnings(report: Report, width: int) -> Iterator[Line]:
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
