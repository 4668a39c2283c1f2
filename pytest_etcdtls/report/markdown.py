"""The report as Markdown, for a ticket or the summary of a CI job: the worst first, within GitHub's bound.

Text that a server sent is in code spans and fenced blocks only, in which GitHub and others find no markup,
link, mention or reference. Escapes are not enough: a service may look for mentions after it has removed them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from pytest_etcdtls.checks.registry import why
from pytest_etcdtls.checks.results import Finding, Outcome
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.profiles.profiles import outcome_of, summary_of
from pytest_etcdtls.report.benchmark import judged_items
from pytest_etcdtls.report.differences import OUTCOME, ComparedTargets, Direction, TargetDifference
from pytest_etcdtls.report.model import Fault, Report, tool, version_of
from pytest_etcdtls.report.overview import (
    about_commands,
    access_in_words,
    certificates,
    colour_of,
    conclusion,
    exit_reason,
    is_of_several,
    judged,
    numbered,
    places,
    undecided,
)
from pytest_etcdtls.report.text import days_left
from pytest_etcdtls.untrusted.printable import error_text, plural, printable, printable_lines, some

LIMIT = 900_000
"""Octets of the file. GitHub takes 1 MiB for the summary of a step."""
_SHORT = 500
"""Characters of a text in a code span; twice as many in a sentence."""
_LONG = 4000
"""Characters of a text in a block."""
_LINES = 60
"""Lines of a block."""
_ROWS = 60
"""Rows or list entries of one kind."""

_FOLDED = "<details><summary>The whole report</summary>"
"""What follows the differences, which are what the reviewer of an update reads."""

_PLAIN = re.compile(r"[A-Za-z]+(?:['-][A-Za-z]+)*|[0-9]{1,6}")
"""A word that is no markup, mention, link or reference in any Markdown."""
_QUOTED = re.compile(r"`([^`]+)`")
_WORDS = re.compile(r"\(?`[^`]+`[.,;:)?]*(?=\s|$)|\S+")
_HEXADECIMAL = re.compile(r"[0-9a-fA-F]{7,}")
"""GitHub makes a link of what may be the hash of a commit."""


def render(report: Report, lost: list[str]) -> str:
    """Return the report as the text of a file, and append to ``lost`` the parts that are not in it."""
    made, size, left = [], 0, 0
    for part in _parts(report, lost):
        text = f"{part}\n\n"
        if size + len(text.encode()) > LIMIT:
            left += 1
        else:
            made.append(text)
            size += len(text.encode())
    if left:
        made.append(f"**{plural(left, 'more part')} did not fit here: the other formats have them.**\n")
    return "".join(made)


def _parts(report: Report, lost: list[str]) -> Iterator[str]:
    """Yield parts that stand alone, the most important first."""
    sections: list[tuple[str, Iterator[str]]] = [
        ("head", _head(report)),
        ("differences", _differences(report)),
        ("", iter([_FOLDED] if report.comparisons else [])),
        ("faults", _faults("Faults", report.faults, report)),
        ("undecided", _undecided("Without evidence", report, (Outcome.INCONCLUSIVE, Outcome.BROKEN))),
        *(("who is accepted", _who_is_accepted(report, seen)) for seen in report.worst_first[:_ROWS]),
        ("certificates", _certificates(report)),
        ("warnings", _faults("Warnings", report.warnings, report)),
        ("profiles", _profiles(report)),
        *(("CIS Kubernetes Benchmark", _benchmark(report, seen)) for seen in report.seen[:_ROWS]),
        ("not verified", _undecided("Not verified", report, (Outcome.NOT_VERIFIED, Outcome.NOT_RUN))),
        ("waived", _undecided("Waived", report, (Outcome.WAIVED,))),
        ("", iter(["</details>"] if report.comparisons else [])),
    ]
    for name, parts in sections:
        try:
            yield from parts
        except Exception as error:  # costs the rest of this section
            lost.append(f"{name}: {error_text(error)}")
            yield f"**This part could not be shown: {name}.**"


def _head(report: Report) -> Iterator[str]:
    verdict = conclusion(report)
    counts = ", ".join(f"{count} {outcome}" for outcome, count in report.counts.items() if count)
    made = tool()
    sign = {"green": "✅", "yellow": "⚠️", "red": "❌"}[colour_of(verdict.kind)]
    of = judged(report)
    subject = f" ({prose(of)})" if of and of not in verdict.text else ""
    yield f"# etcd TLS: {sign} {prose(verdict.text)}{subject}"
    yield (
        f"{exit_reason(report)}. "
        f"{plural(report.connections, 'connection')} in {report.seconds:.1f} s, started at "
        f"{report.started_at:%Y-%m-%d %H:%M} UTC, {made.name} {made.version}.  \n{counts}."
        + ("  \n**The run ended before every check was judged.**" if report.partial else "")
        + (f"  \n{prose(about)}" if (about := about_commands(report)) else "")
    )
    for problem in [problem for problem in report.problems if problem not in report.not_as_before][:_ROWS]:
        yield f"- {prose(problem)}"
    targets = [
        f"- {code(seen.target.label)} ({seen.target.origin}, etcd {prose(version_of(seen) or 'unknown')}): "
        + ", ".join(code(listener.url) for listener in seen.target.listeners[:_ROWS])
        for seen in report.worst_first
    ]
    yield _bounded(targets)
    if report.metadata:
        yield _bounded(f"- {code(key)}: {code(value)}" for key, value in report.metadata.items())


def _who_is_accepted(report: Report, seen: Recording) -> Iterator[str]:
    lines = [
        f"- {code(listener.label)} {prose(text)}"
        for listener in seen.target.listeners
        for text in access_in_words(report, seen, listener)
    ]
    if lines:
        yield f"## Who is accepted: {code(seen.target.label)}"
        yield _bounded(lines)


def _faults(heading: str, faults: Sequence[Fault], report: Report) -> Iterator[str]:
    if faults:
        yield f"## {heading}: {len(faults)}"
    for number, fault in numbered(faults):
        first, on = fault.first, f"{_some(fault.listeners)} of {code(fault.first.target)}"
        lines = [
            f"### {number}. {code(first.check)} ({first.severity}, {first.level})",
            f"On {prose(places(fault, report.seen)) if is_of_several(fault) else on}: {prose(first.message)}",
        ]
        if first.remediation:
            lines.append(f"**Remedy:** {prose(first.remediation)}")
        if fault.settings:
            lines.append(block("\n".join(fault.settings)))
        for result in fault.results[:3]:
            lines += [block(_evidence(finding)) for finding in result.findings[:3]]
        lines += _details(fault)
        yield "\n\n".join(lines)


def _differences(report: Report) -> Iterator[str]:
    """Yield what the reviewer of an update reads, a page at most: what got worse first, with what to do."""
    for targets in report.comparisons[:_ROWS]:
        yield f"## {_arrow(targets.headline)}"
        if targets.not_started:
            yield _bounded(f"- **{prose(text)}**" for text in targets.not_started)
        to_do = [difference for difference in targets.shown if difference.remedies]
        if to_do:
            yield _numbered(to_do)
        if nothing := [difference for difference in targets.shown if not difference.remedies]:
            yield "**Nothing to do:**"
            yield "\n".join([*(f"- {_difference(one)}" for one in nothing[:_NUMBERED]), *_more(nothing)])
        if remarks := [*_counted(targets), *_as_before(report, targets), *targets.remarks]:
            yield " ".join(prose(f"{remark[0].upper()}{remark[1:]}.") for remark in remarks)


_NUMBERED = 12
"""Most differences in a list: of those with something to do, and of those without."""


def _numbered(differences: Sequence[TargetDifference]) -> str:
    """Return a list; alike ones in a row, such as those of alerts, have their meaning and remedy once."""
    lines: list[str] = []
    number, last = 0, ("", tuple[str, ...]())
    for difference in differences[:_NUMBERED]:
        same = difference.meaning, difference.remedies
        if difference.meaning and same == last:
            lines.append(f"   - {_changed(difference)}")
            continue
        number, last = number + 1, same
        lines.append(f"{number}. {_difference(difference)}")
        if len(difference.remedies) == 1:
            lines.append(f"   **What to do:** {prose(difference.remedies[0])}")
        else:
            lines += [
                "   **What to do:**",
                *(f"   - {prose(text)}" for text in difference.remedies[:_NUMBERED]),
            ]
            lines += [f"   {text}" for text in _more(difference.remedies)]
    return "\n".join([*lines, *_more(differences)])


def _more(things: Sequence[object]) -> list[str]:
    return [f"- and {len(things) - _NUMBERED} more: see the other reports"] if len(things) > _NUMBERED else []


def _counted(targets: ComparedTargets) -> Iterator[str]:
    if count := len(targets.differences) - len(targets.shown):
        yield f"{plural(count, 'more difference')} {'follows' if count == 1 else 'follow'} from these"


def _as_before(report: Report, targets: ComparedTargets) -> Iterator[str]:
    """Yield which faults the later target has as the earlier one had them."""
    new = {check for difference in targets.worse for check in difference.subjects}
    old = [fault.first.check for fault in report.faults if fault.first.target == targets.labels[1]]
    if checks := [*dict.fromkeys(check for check in old if check not in new)]:
        yield f"Wrong as before, see the faults: {some(checks, _NUMBERED)}"


def _difference(difference: TargetDifference) -> str:
    direction = difference.direction
    better = "" if direction is Direction.CHANGED else f"**{direction}:** "
    return f"{better}{_changed(difference)}{_meaning(difference)}"


def _changed(difference: TargetDifference) -> str:
    where = f"on {_some(difference.listeners, 2)}: " if difference.where else ""
    change = difference.changed(_value).replace(" -> ", " → ")
    if difference.topic == OUTCOME and difference.direction is Direction.WORSE and difference.meaning:
        verdict = f"{prose(difference.about)}: {change}"
        return f"{where}{prose(difference.meaning)} ({verdict})."
    return f"{where}{prose(difference.about)}: {change}."


def _arrow(change: str) -> str:
    return " → ".join(map(prose, change.split(" -> ")))


def _value(text: str) -> str:
    """Return a value whole: as words, or in one code span if any of its words needs that."""
    shown = prose(text)
    return code(text) if "`" in shown else shown


def _meaning(difference: TargetDifference) -> str:
    if not difference.meaning or (difference.topic == OUTCOME and difference.direction is Direction.WORSE):
        return ""
    source = f" ({prose(difference.source)})" if difference.source else ""
    return f" {prose(difference.meaning)}{source}"


def _evidence(finding: Finding) -> str:
    facts = [("expected", finding.expected), ("observed", finding.observed), *finding.evidence.items()]
    lines = [finding.message, *(f"{f'{name}:':<10}{value}" for name, value in facts), ""]
    return "\n".join([*lines, *finding.commands]).rstrip()


def _details(fault: Fault) -> Iterator[str]:
    if text := why(fault.first):
        yield f"**Why:** {prose(text)}"
    if fault.consequences:
        names: dict[str, list[str]] = {}
        for result in fault.consequences:
            names.setdefault(result.check, []).append(result.listener)
        follow = [f"- {code(check)} on {_some(labels)}" for check, labels in names.items()]
        verb = "follows" if len(fault.consequences) == 1 else "follow"
        yield f"{plural(len(fault.consequences), 'check')} {verb} from it:\n\n{_bounded(follow)}"


def _undecided(heading: str, report: Report, outcomes: Sequence[Outcome]) -> Iterator[str]:
    groups = undecided(result for result in report.results if result.outcome in outcomes)
    if groups:
        yield f"## {heading}: {sum(report.counts[outcome] for outcome in outcomes)}"
        yield _bounded(
            f"- {prose(group.reason)}: {_some([*group.checks])} on {_some(group.listeners)}"
            for group in groups
        )


def _profiles(report: Report) -> Iterator[str]:
    for profile in report.profiles.profiles:
        yield f"## Profile {code(profile.name)}"
        yield prose(summary_of(profile, report.results))
        yield _bounded(
            f"- {code(section.section)} {prose(section.title)}: {outcome_of(section, report.results)}"
            for section in profile.sections
        )
    notes = undecided(report.profile_notes)
    if notes:
        yield "### Notes of profiles"
        yield _bounded(
            f"- {prose(note.reason)}: {_some([*note.checks])} on {_some(note.listeners)}" for note in notes
        )


def _benchmark(report: Report, seen: Recording) -> Iterator[str]:
    items = judged_items(report, seen) if seen.target.configured_by_user else []
    if not items:
        return
    yield f"## CIS Kubernetes Benchmark, section 2: {code(seen.target.label)}"
    lines = ["| item | member | by its flags | on the wire | checks |", "|---|---|---|---|---|"]
    for item in items[:_ROWS]:
        wire = f"{item.wire_says}, **contradicts the flags**" if item.differs else item.wire_says
        lines.append(
            f"| {item.item} {item.title} | {code(item.member)} "
            f"| {item.flags_say} | {wire} | {_some(item.checks)} |"
        )
    if len(items) > _ROWS:
        lines += ["", f"and {len(items) - _ROWS} more"]
    yield "\n".join(lines)


def _certificates(report: Report) -> Iterator[str]:
    every = certificates(report.seen)
    if every:
        yield f"## Certificates: {len(every)}"
        yield block(
            "\n".join(
                f"{entry.certificate.not_valid_after_utc:%Y-%m-%d}  {entry.validity(report.started_at)}, "
                f"{days_left(entry.certificate, report.started_at)}: {entry.subject} "
                f"({printable('; '.join(entry.where))})"
                for entry in every[:_ROWS]
            )
            + (f"\nand {len(every) - _ROWS} more" if len(every) > _ROWS else "")
        )


def _bounded(lines: Iterable[str]) -> str:
    lines = list(lines)
    rest = [f"- and {len(lines) - _ROWS} more"] if len(lines) > _ROWS else []
    return "\n".join([*lines[:_ROWS], *rest])


def _some(names: Sequence[str], most: int = 12) -> str:
    return some([*map(code, names)], most)


def prose(text: str) -> str:
    """Return a text as Markdown in one line, with every word that could be anything else in a code span.

    What is in backticks, such as a command, is one code span.
    """
    return " ".join(map(_word, _WORDS.findall(printable(" ".join(text.split()), _SHORT * 2))))


def _word(word: str) -> str:
    core = word.removeprefix("(").rstrip(".,;:)?")  # these characters are no markup beside a code span
    if quoted := _QUOTED.fullmatch(core):
        return word.replace(core, code(quoted[1]), 1)
    plain = not core or (_PLAIN.fullmatch(core) and not _HEXADECIMAL.fullmatch(core))
    return word if plain else word.replace(core, code(core), 1)


def code(text: str) -> str:
    """Return a text as a code span."""
    shown = printable(" ".join(text.split()), _SHORT) or "-"
    longest = max(map(len, re.findall("`+", shown)), default=0)
    fence = "`" * (longest + 1)
    space = " " if longest else ""
    return f"{fence}{space}{shown}{space}{fence}"


def block(text: str) -> str:
    """Return a text as a fenced block, with the number of the lines that are left out."""
    lines = printable_lines(text, _LONG).split("\n")
    if len(lines) > _LINES:
        lines = [*lines[:_LINES], f"and {len(lines) - _LINES} more lines"]
    longest = max((len(found) for line in lines for found in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}text", *lines, fence])
