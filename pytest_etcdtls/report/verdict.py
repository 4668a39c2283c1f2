"""The verdict: the last lines of a run, at most 24 for one member at 80 columns."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from pytest_etcdtls.facts.access import AcceptedClient, AccessMatrix
from pytest_etcdtls.faults import Fault
from pytest_etcdtls.judgement import REFUSED_OR_CLOSED
from pytest_etcdtls.report.certificate_text import days_left, fingerprint
from pytest_etcdtls.report.model import Report, Seen
from pytest_etcdtls.report.terminal import Line, bold, coloured, section, wrapped
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Ending

_ROWS = 6
"""Maximum number of listeners that are shown each."""
_FAULTS = 6
"""Maximum number of faults of which the remedy is shown."""
_NAMED = 5
"""Maximum number of checks that are named in a line."""
_REASONS = 3
"""Maximum number of reasons for not-verified checks."""
_SHORT = 16
_WITHOUT_VERDICT = (Outcome.INCONCLUSIVE, Outcome.BROKEN, Outcome.NOT_RUN)
_SERVED_AS_DECLARED = ("config.served-file", "config.peer-served-file")


def headline(report: Report, problems: Sequence[str]) -> Line:
    """Return the verdict in one line: CLEAN, NOT CLEAN, NO VERDICT or NOT COMPLETE."""
    found = report.faults
    counts = report.counts
    if found:
        checks = sum(fault.size for fault in found)
        text = f"NOT CLEAN: {_number(len(found), 'fault')} ({_number(checks, 'check')})"
        return Line(f"etcd TLS: {text}", {"red": True, "bold": True})
    undecided = [f"{counts[outcome]} {outcome}" for outcome in _WITHOUT_VERDICT if counts[outcome]]
    if undecided or problems or report.partial:
        said = ", ".join(undecided) or ("the run was interrupted" if report.partial else problems[0])
        return Line(f"etcd TLS: NO VERDICT: {said}", {"red": True, "bold": True})
    if not counts[Outcome.CONFORMS] + counts[Outcome.WARNS] + counts[Outcome.WAIVED]:
        return Line("etcd TLS: NO VERDICT: nothing was judged", {"red": True, "bold": True})
    return Line("etcd TLS: CLEAN", {"green": True, "bold": True})


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
    yield from _not_verified(report, width)
    for problem in problems:
        yield from (coloured(line.text, "red") for line in wrapped(problem, width, "  "))
    made = f"{_number(report.connections, 'connection')} in {report.seconds:.1f} s"
    yield from wrapped(f"{made}; {_exit(report, problems, status)}", width, rest="  ")
    last = headline(report, problems)
    yield from (Line(line.text, last.markup) for line in wrapped(last.text, width, rest="  "))


def _number(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _exit(report: Report, problems: Sequence[str], status: int) -> str:
    """Return the exit code and its reason."""
    undecided = sum(report.counts[outcome] for outcome in (Outcome.INCONCLUSIVE, Outcome.BROKEN))
    if status == 0:
        reason = "no fault"
    elif status == 1:
        reasons = [_number(len(report.faults), "fault")] if report.faults else []
        reasons += [f"{_number(undecided, 'check')} without evidence"] if undecided else []
        reasons += [_number(len(problems), "problem")] if problems else []
        reason = ", ".join(reasons) or "a test failed that is not of this suite"
    else:
        reason = {2: "interrupted", 3: "internal error", 4: "usage error", 5: "nothing was run"}.get(
            status, "see above"
        )
    return f"exit code {status}: {reason}"


def _rows(report: Report, width: int) -> Iterator[Line]:
    listeners = [(seen, listener) for seen in report.seen for listener in seen.target.listeners]
    shown = listeners
    if len(listeners) > _ROWS:
        wrong = {(result.target, result.listener) for fault in report.faults for result in fault.results}
        shown = [(seen, one) for seen, one in listeners if (seen.target.label, one.label) in wrong][:_ROWS]
    target = ""
    for seen, listener in shown:
        if seen.target.label != target:
            target = seen.target.label
            version = f", etcd {seen.etcd_version}" if seen.etcd_version else ""
            yield bold(f"{target} ({seen.target.origin}{version})")
        yield from _row(report, seen, listener, width)
    if left := len(listeners) - len(shown):
        yield from wrapped(
            f"{_number(left, 'more listener')} in {_number(len(report.seen), 'target')}: -v has them",
            width,
            "  ",
        )


def _row(report: Report, seen: Seen, listener: Listener, width: int) -> Iterator[Line]:
    """Yield what a listener accepts, refuses and serves."""
    yield from wrapped(f"{listener.label} {listener.url}", width, "  ", "    ")
    facts = [(key, fact) for label, key, fact in seen.facts if label == listener.label]
    accepted = next((fact for _, fact in facts if isinstance(fact, AcceptedClient)), None)
    if accepted is not None:
        good = f"accepts {accepted.accepted.identity}" if accepted.accepted else "accepts no good client"
        versions = " ".join(str(version).replace("TLSv", "TLS ") for version in accepted.versions)
        identities = _identities(fact for _, fact in facts if isinstance(fact, AccessMatrix))
        yield from wrapped("; ".join(part for part in (good, identities, versions) if part), width, "    ")
    served = seen.served(listener.label)
    if served is not None:
        name = _served_file(report, seen, listener)
        leaf = served.leaf
        until = leaf.not_valid_after_utc
        yield from wrapped(
            f"serves {name}SHA-256 {fingerprint(leaf)[:_SHORT]}, until {until:%Y-%m-%d} "
            f"({days_left(leaf, report.started_at)})",
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
        names = [name for name, found in marks.items() if found == mark]
        if names:
            said.append(f"{word} {_some(names)}")
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


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _faults(found: Sequence[Fault], width: int) -> Iterator[Line]:
    """Yield each fault in a line with its remedy below; only the line if there are many."""
    for number, fault in enumerate(found, 1):
        first = fault.first
        following = len(fault.consequences)
        verb = "follows" if following == 1 else "follow"
        more = f"; {_number(following, 'more check')} {verb} from it" if following else ""
        begin = f"{number}. "
        where = f"{first.check} ({first.severity}) on {_some(fault.listeners)}"
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
            for line in wrapped(f"{_number(len(names), 'warning')}: {_some(names)}", width, rest="  ")
        )


def _not_verified(report: Report, width: int) -> Iterator[Line]:
    unverified = [result for result in report.results if result.outcome is Outcome.NOT_VERIFIED]
    if not unverified:
        return
    options = Counter(option for result in unverified for option in _options(result))
    what = ", ".join(f"{option} ({count})" for option, count in options.most_common(_REASONS))
    text = f"{_number(len(unverified), 'result')} not verified" + (
        f": pass {what}" if what else ": -v says why"
    )
    yield from wrapped(text, width, rest="  ")


def _options(result: CheckResult) -> Iterator[str]:
    """Yield the options that a reason names."""
    yield from dict.fromkeys(
        word.strip(",.;:()") for word in result.reason.split() if word.lstrip("(").startswith("--etcd-")
    )
