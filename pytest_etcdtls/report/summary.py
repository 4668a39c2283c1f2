"""The summary of a run for a terminal: what is known of each listener, counts, then results, worst first.

Makes lines; does not write them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from pytest_etcdtls.observations.discovery import Discovery
from pytest_etcdtls.report.benchmark import compare
from pytest_etcdtls.report.certificate import certificate_card, certificate_line
from pytest_etcdtls.report.declared import ListenerRow, members
from pytest_etcdtls.report.declared_text import benchmark_lines, declared_lines
from pytest_etcdtls.report.model import Report, Seen
from pytest_etcdtls.report.rejected import rejected_lines
from pytest_etcdtls.report.text import Line, bold, coloured, full_result, wrapped
from pytest_etcdtls.results import CheckResult, Outcome, Severity
from pytest_etcdtls.target import Target
from pytest_etcdtls.waivers import Review, Waiver

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
"""Checks that are named for one reason."""
_NOT_LOOKED_FOR = "Listeners that were not named were not looked for: pass --etcd-discover."


def summary(report: Report, review: Review, *, width: int, verbosity: int) -> Iterator[Line]:
    """Yield the summary.

    Args:
        report: of the run.
        review: what became of the waivers.
        width: characters per line; lines to paste may be longer.
        verbosity: pytest's: below zero no certificates and no lists of what was not judged, above zero
            certificates in full, and of an owned cluster too what it was told to be.
    """
    if verbosity >= 0:
        for seen in report.seen:
            yield from _target(seen, report.started_at, width, verbosity)
    yield from wrapped(_counts(report), width)
    for outcome in (Outcome.VIOLATES, Outcome.INCONCLUSIVE, Outcome.BROKEN):
        yield from _in_full(outcome, _of(report, outcome), width)
    yield from _stale(review, width)
    if verbosity >= 0:
        yield from _warnings(_of(report, Outcome.WARNS), width)
        yield from _waived(_of(report, Outcome.WAIVED), width)
        yield from _grouped("not verified", _of(report, Outcome.NOT_VERIFIED), width, every=verbosity > 0)
        yield from _unused(review, width)
        if verbosity > 0:
            yield from _grouped("not applicable", _of(report, Outcome.NOT_APPLICABLE), width, every=True)
        for seen in report.seen:
            if _shows_declared(seen, verbosity):
                yield from benchmark_lines(compare(report, seen), width, every=verbosity > 0)
            yield from rejected_lines(seen, width, every=verbosity > 0)


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
    """Whether a member may have listeners that neither a declaration nor an option tells."""
    members = {listener.member for listener in target.listeners}
    return target.origin == "live" and not target.discover and not members <= target.declared.keys()


def _shows_declared(seen: Seen, verbosity: int) -> bool:
    """Whether what was declared is shown: of somebody's cluster always, of ours when asked for."""
    return seen.target.origin == "live" or verbosity > 0


def _declared(seen: Seen) -> Mapping[str, ListenerRow]:
    """Return what was declared, by listener."""
    return {row.listener.label: row for _, rows in members(seen) for row in rows}


def _in_full(outcome: Outcome, results: Sequence[CheckResult], width: int) -> Iterator[Line]:
    if not results:
        return
    yield Line()
    yield from (coloured(line.text, "red") for line in wrapped(_HEADINGS[outcome], width))
    for result in results:
        yield from _title(result, width)
        yield from full_result(result, width)


_HEADINGS = {
    Outcome.VIOLATES: "violations",
    Outcome.INCONCLUSIVE: "inconclusive: the evidence could not be got",
    Outcome.BROKEN: "broken: a fault of the check's own code, not of the cluster; please report it",
}


def _title(result: CheckResult, width: int) -> Iterator[Line]:
    yield Line()
    yield bold(f"{result.check} ({result.level}, {result.severity})")
    yield from wrapped(f"on {result.listener} of {result.target}, {result.url}", width, "  ")


def _warnings(results: Sequence[CheckResult], width: int) -> Iterator[Line]:
    """Yield one block per warning; listeners of which the same is said share one."""
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


def _waived(results: Sequence[CheckResult], width: int) -> Iterator[Line]:
    if results:
        yield Line()
        yield bold("waived")
    for result in results:
        yield from wrapped(
            f"{result.check} on {result.listener} of {result.target}: {result.reason}", width, "  ", "    "
        )


def _grouped(heading: str, results: Iterable[CheckResult], width: int, *, every: bool) -> Iterator[Line]:
    """Yield one entry per reason, with the checks that it stopped: by name, or only how many."""
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


def _stale(review: Review, width: int) -> Iterator[Line]:
    yield from _waivers("stale waivers: remove or renew them", review.stale, width, "red")


def _unused(review: Review, width: int) -> Iterator[Line]:
    yield from _waivers("unused waivers", review.unused, width, "bold")


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
