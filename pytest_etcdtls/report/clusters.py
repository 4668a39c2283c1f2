"""The table of ``--etcd-clusters``: a row for each cluster, made from the report of its run.

The report of each cluster is an ordinary one, which is written and dropped. What stays in memory is its row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Final

from msgspec import Struct

from pytest_etcdtls.checks.registry import GATES
from pytest_etcdtls.checks.results import Severity
from pytest_etcdtls.report.markdown import code, prose
from pytest_etcdtls.report.model import Report, tool
from pytest_etcdtls.report.openmetrics import Sample, lines, samples
from pytest_etcdtls.report.overview import (
    BUT_WAIVED,
    CLEAN,
    FROM_OUTSIDE,
    NO_VERDICT,
    NOT_CLEAN,
    PASSING,
    SOME_CHECKS,
    certificates,
    colour_of,
    conclusion,
    undecided,
    without_evidence,
)
from pytest_etcdtls.report.text import Line, bold, coloured, section, wrapped
from pytest_etcdtls.untrusted.printable import LINE_LIMIT, plural, printable, some

_SHOWN: Final = 6
_NAMED: Final = 3
_NAMED_IN_FILES: Final = 20
_MARKDOWN_ROWS: Final = 2000
"""GitHub takes 1 MiB for the summary of a step."""
_SEVERITIES: Final = [str(severity) for severity in Severity]


NOT_JUDGED: Final = "NOT JUDGED"
"""The kind of a cluster whose turn did not come before the run ended."""
_UNJUDGED: Final = "without a verdict"
CALLED: Final = {
    NOT_CLEAN: "not clean",
    NO_VERDICT: _UNJUDGED,
    FROM_OUTSIDE: "without a client certificate",
    SOME_CHECKS: "clean in some checks",
    BUT_WAIVED: "clean but for waived faults",
    CLEAN: "clean",
    NOT_JUDGED: "not judged",
}
"""How clusters with each kind of verdict are counted."""


class ClusterRow(Struct, frozen=True, kw_only=True):
    """What is shown of a cluster beside its report.

    Attributes:
        kind: of its verdict, one of :data:`~pytest_etcdtls.report.overview.KINDS`.
        verdict: in one line.
        faults: check and severity of each fault that fails the cluster.
        undecided: each check without evidence with the reason; without a check, why there is no verdict.
        warnings: the number of faults that only warn.
        expires: the date on which the first of the served certificates expires; empty if none was seen.
        waivers: by source, whether each is used, stale or unused, and what is said of it.
        samples: its metrics, if a report of metrics is written.
        problems: what could not be written or called, one sentence each.
    """

    label: str
    kind: str
    verdict: str
    faults: tuple[tuple[str, str], ...] = ()
    undecided: tuple[tuple[str, str], ...] = ()
    warnings: int = 0
    expires: str = ""
    connections: int = 0
    waivers: Mapping[str, tuple[str, str]] = {}
    samples: tuple[Sample, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def passes(self) -> bool:
        """Whether nothing fails it."""
        return self.kind in PASSING

    @property
    def violates(self) -> bool:
        """Whether it has a fault."""
        return self.kind == NOT_CLEAN

    @property
    def colour(self) -> str:
        """The colour of its line on a terminal."""
        return "yellow" if self.kind == CLEAN and self.warnings else colour_of(self.kind)

    @property
    def line(self) -> str:
        """The verdict with the checks that decide it."""
        if self.faults:
            return f"{self.verdict}: {some([*dict(self.faults)], _NAMED)}"
        if named := [pair for pair in self.undecided if pair[0] not in ("", GATES[0])]:
            return f"{self.verdict}: {': '.join(named[0])}"
        return f"{self.verdict}, {plural(self.warnings, 'warning')}" if self.warnings else self.verdict


def row_of(label: str, report: Report, *, metrics: bool, problems: Sequence[str]) -> ClusterRow:
    """Return the row of a cluster.

    Args:
        label: of the cluster.
        report: of its run.
        metrics: with its metrics.
        problems: what could not be written or called.
    """
    lost: list[str] = []
    of_run = tuple(samples(report, lost)) if metrics else ()
    served = next((certificate for certificate in certificates(report.seen) if certificate.served), None)
    verdict = conclusion(report)
    _, _, why = verdict.text.partition(": ")
    no_evidence = tuple(
        (check, group.reason)
        for group in undecided(without_evidence(report))
        for check in (GATES[:1] if GATES[0] in group.checks else group.checks)
    )
    return ClusterRow(
        label=label,
        kind=verdict.kind,
        verdict=printable(" ".join(verdict.text.split()), LINE_LIMIT),
        faults=tuple((fault.first.check, str(fault.first.severity)) for fault in report.faults),
        undecided=no_evidence or ((("", why),) if verdict.kind == NO_VERDICT else ()),
        warnings=len(report.warnings),
        expires=f"{served.certificate.not_valid_after_utc:%Y-%m-%d}" if served else "",
        connections=report.connections,
        waivers={
            **{waiver.source: ("used", "") for waiver in report.reviewed.used},
            **{source: ("stale", text) for source, text in report.reviewed.problems.items()},
            **{waiver.source: ("unused", why) for waiver, why in report.reviewed.unused},
        },
        samples=of_run,
        problems=(*problems, *(f"The metrics of {label} are without {part}." for part in lost)),
    )


Group = tuple[str, str, list[str]]
"""A check, its severity or why it has no evidence, and the labels of its clusters."""


class ClusterTable(Struct, frozen=True, kw_only=True, dict=True):
    """The rows of a run.

    Attributes:
        rows: of each selected cluster, in the order in which they ended.
        listed: the number of clusters in the list, or in its part.
        shard: the part of the list, as ``3/10``; empty for all of it.
        started_at: start of the run; aware, UTC.
        seconds: duration of the run.
        problems: what fails the run besides single clusters, one sentence each.
        metadata: of the run, from the user, by key.
        ended: how the run ended before every cluster was judged; empty if it did not.
        unused: the sources of the waivers of whose check no cluster has a verdict where they match.
    """

    rows: Sequence[ClusterRow]
    listed: int
    shard: str
    started_at: datetime
    seconds: float
    problems: Sequence[str]
    metadata: Mapping[str, str]
    ended: str = ""
    unused: Sequence[str] = ()

    @property
    def connections(self) -> int:
        """The number of connections made."""
        return sum(row.connections for row in self.rows)

    @cached_property
    def worst_first(self) -> list[ClusterRow]:
        """Every row, the worst first."""
        order = (NOT_CLEAN, "", *reversed(PASSING))
        return sorted(
            self.rows,
            key=lambda row: (
                order.index(row.kind if row.kind in order else ""),
                min((_SEVERITIES.index(severity) for _, severity in row.faults), default=0),
                -len(row.faults),
                row.label,
            ),
        )

    @cached_property
    def by_fault(self) -> list[Group]:
        """The faults, the most severe first."""
        order = _SEVERITIES.index
        return sorted(self._groups("faults"), key=lambda group: (order(group[1]), -len(group[2]), group[0]))

    @cached_property
    def by_reason(self) -> list[Group]:
        """The checks without evidence, each with the reason in the first cluster; others name other URLs."""
        return self._groups("undecided")

    def _groups(self, name: str) -> list[Group]:
        groups: dict[str, Group] = {}
        for row in self.worst_first:
            for check, about in dict(getattr(row, name)).items():
                groups.setdefault(check or about, (check, about, []))[2].append(row.label)
        return [*groups.values()]

    @property
    def verdict(self) -> str:
        """The kind of the verdict on all clusters."""
        kinds = {row.kind for row in self.rows}
        if NOT_CLEAN in kinds:
            return NOT_CLEAN
        if self.ended:
            return "NOT COMPLETE"
        if self.problems or kinds - {*PASSING}:
            return NO_VERDICT
        return max(kinds, key=PASSING.index, default=CLEAN)

    @property
    def conclusion(self) -> str:
        """The verdict and the number of clusters of each kind, in one line."""
        part = f" in part {self.shard}" if self.shard else ""
        if not self.listed:
            return f"{self.verdict}: the list has no cluster{part}, there is nothing to judge"
        kinds = Counter(CALLED.get(row.kind, _UNJUDGED) for row in self.rows)
        warned = sum(row.kind == CLEAN and row.warnings > 0 for row in self.rows)
        texts = [
            f"{kinds[called]} {called}" + (f" ({warned} with warnings)" if kind == CLEAN and warned else "")
            for kind, called in CALLED.items()
            if kinds[called]
        ] or ["none was judged"]
        texts += [self.ended] if self.ended else []
        some_of = f"{len(self.rows)} of " if len(self.rows) < self.listed else ""
        number = f"{some_of}{plural(self.listed, 'cluster')}{part}"
        said = {row.verdict for row in self.rows if row.kind == self.verdict}
        # With the checks, if they are the same of all clusters.
        headline = said.pop() if self.verdict == SOME_CHECKS and len(said) == 1 else self.verdict
        return f"{headline}: {number}: {', '.join(texts)}"


def cluster_line(row: ClusterRow, width: int, label_width: int) -> Line:
    """Return the line about a cluster that has ended; it is cut at the width."""
    text = f"{row.label:<{label_width}}  {row.line}"
    return coloured(text if len(text) <= width else f"{text[: width - 4].rstrip()} ...", row.colour)


@section
def table_summary(table: ClusterTable, *, width: int, written: Sequence[str], status: int) -> Iterator[Line]:
    """Yield the faults by the number of their clusters, and the verdict on all clusters.

    Args:
        table: the rows of the run.
        width: characters per line.
        written: what was written elsewhere, one line each.
        status: the exit code.
    """
    if table.by_fault:
        yield bold("faults")
    yield from _first(
        (f"{check} ({severity}) on {_on(labels)}" for check, severity, labels in table.by_fault),
        width,
        "faulty check",
    )
    if table.by_reason:
        yield bold("without evidence")
    yield from _first(
        (
            f"{check} on {_on(labels)}: {reason}".removeprefix(" on ")
            for check, reason, labels in table.by_reason
        ),
        width,
        "reason",
    )
    if table.unused:
        yield bold("unused waivers")
    for source in table.unused:
        yield from wrapped(
            f"{source}: its check has no verdict on a listener that it matches", width, "  ", "    "
        )
    yield from _first(table.problems, width, "problem")
    yield from map(Line, written)
    yield Line(f"{plural(table.connections, 'connection')} in {table.seconds:.1f} s; exit code {status}")
    yield Line(f"etcd TLS: {table.conclusion}", {colour_of(table.verdict): True, "bold": True})


def _on(labels: Sequence[str]) -> str:
    return f"{plural(len(labels), 'cluster')}: {some(labels, _NAMED)}"


def _first(texts: Iterable[str], width: int, of: str) -> Iterator[Line]:
    """Yield the first texts and the number of the others."""
    every = [*texts]
    for text in every[:_SHOWN]:
        yield from wrapped(printable(text, LINE_LIMIT), width, "  ", "    ", "red")
    if (left := len(every) - _SHOWN) > 0:
        yield coloured(f"  and {plural(left, f'more {of}')}", "red")


def render(table: ClusterTable, suffix: str) -> Iterator[str]:
    """Return the parts of a report on all clusters, in the format of a suffix."""
    if suffix == ".html":
        return _html(table)
    if suffix == ".md":
        return _markdown(table)
    return lines(sample for row in table.rows for sample in row.samples)


def _html(table: ClusterTable) -> Iterator[str]:
    from pytest_etcdtls.report.html import environment  # Jinja2 is imported for this format only

    template = environment().get_template("clusters.html.j2")
    return template.stream(
        table=table, tool=tool(), plural=plural, some=some, colour_of=colour_of, named=_NAMED_IN_FILES
    )


def _markdown(table: ClusterTable) -> Iterator[str]:
    made = tool()
    yield f"# etcd TLS: {prose(table.conclusion)}\n\n"
    yield (
        f"{plural(table.connections, 'connection')} in {table.seconds:.1f} s, started at "
        f"{table.started_at:%Y-%m-%d %H:%M} UTC, {made.name} {made.version}.\n\n"
    )
    yield from (f"- {code(key)}: {code(value)}\n" for key, value in table.metadata.items())
    yield from (f"- {prose(problem)}\n" for problem in table.problems)
    yield "\n| cluster | verdict | faults | first expiry | connections |\n|---|---|---|---|--:|\n"
    for row in table.worst_first[:_MARKDOWN_ROWS]:
        faults = some([code(check) for check in dict(row.faults)], _NAMED_IN_FILES)
        yield f"| {code(row.label)} | {_cell(row.verdict)} | {faults} | {row.expires} | {row.connections} |\n"
    if (left := len(table.rows) - _MARKDOWN_ROWS) > 0:
        yield f"\nand {plural(left, 'more cluster')}: see the other reports\n"
    for heading, rows in (
        ("fault | severity", table.by_fault),
        ("without evidence | reason", table.by_reason),
    ):
        if rows:
            yield f"\n| {heading} | clusters |\n|---|---|---|\n"
        for check, about, labels in rows:
            named = some([*map(code, labels)], _NAMED_IN_FILES)
            yield f"| {code(check)} | {_cell(about)} | {len(labels)}: {named} |\n"


def _cell(text: str) -> str:
    """Return a text for a cell of a table, which a pipe would end, in a code span as well."""
    return prose(text).replace("|", r"\|")
