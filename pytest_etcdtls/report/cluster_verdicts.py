"""The clusters of ``--etcd-clusters``: the verdict of each, read from its report, and one verdict on all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Final, TypeVar

from msgspec import Struct, UnsetType
from msgspec.structs import replace

from pytest_etcdtls.document import (
    MAXIMUM_SIZE,
    Document,
    FaultEntry,
    Fleet,
    FleetPlace,
    ResultEntry,
    Summary,
    as_document,
)
from pytest_etcdtls.errors import UnreadableFileError, UnreadableJSONError, UsageError
from pytest_etcdtls.report.overview import CLEAN, FROM_OUTSIDE, PASSING, plural
from pytest_etcdtls.report.text import Line, bold, coloured, section, wrapped
from pytest_etcdtls.results import Outcome, Severity
from pytest_etcdtls.untrusted import open_regular, printable, read_json, read_regular, some

OfTarget = TypeVar("OfTarget", ResultEntry, FaultEntry)

_MOST_FAULTS: Final = 200
"""Faults of a cluster that are kept; its report has all."""
_SHOWN: Final = 10
"""Maximum number of clusters that the summary shows each."""
_SHOWN_FAULTS: Final = 6
_SHOWN_PROBLEMS: Final = 4
_NAMED: Final = 3
_ORDER: Final = {str(severity): place for place, severity in enumerate(Severity)}


class ClusterFault(Struct, frozen=True, kw_only=True):
    """A fault of a cluster, as its report has it."""

    check: str
    severity: str
    message: str
    remediation: str
    listeners: tuple[str, ...]
    consequences: int


def _severity_rank(fault: ClusterFault) -> int:
    return _ORDER.get(fault.severity, len(_ORDER))


class ClusterVerdict(Struct, frozen=True, kw_only=True):
    """The verdict on one cluster.

    Attributes:
        label: of the cluster.
        verdict: in one line, as :func:`~pytest_etcdtls.report.overview.conclusion` returns it.
        faults: that fail the run, the most severe first, at most 200.
        warnings: the number of faults that only warn.
        connections: the number of connections made.
        seconds: its duration.
        problems: what fails it besides results, one sentence each.
        silent: the reason of a result without evidence, empty if there is none.
        place: its part of the list.
        metadata: of the run, by key.
    """

    label: str
    verdict: str
    etcd_version: str | None
    listeners: int
    faults: tuple[ClusterFault, ...]
    warnings: int
    connections: int
    seconds: float
    problems: tuple[str, ...]
    silent: str
    place: FleetPlace
    metadata: Mapping[str, str]

    @property
    def kind(self) -> str:
        """CLEAN, NO FAULT FOUND FROM OUTSIDE, NOT CLEAN or NO VERDICT."""
        return self.verdict.partition(":")[0]

    @property
    def is_clean(self) -> bool:
        """Whether nothing fails it, and a client certificate was given for it."""
        return self.kind == CLEAN

    @property
    def passes(self) -> bool:
        """Whether nothing fails it."""
        return self.kind in PASSING

    @property
    def rank(self) -> tuple[int, int, int, str]:
        """Its place in a list with the worst first."""
        worst = min(map(_severity_rank, self.faults), default=len(_ORDER))
        order = {"NOT CLEAN": 0, FROM_OUTSIDE: 2, CLEAN: 3}.get(self.kind, 1)
        return order, worst, -len(self.faults), self.label

    @property
    def line(self) -> str:
        """The verdict with the checks that decide it, or the reason."""
        names = list(dict.fromkeys(fault.check for fault in self.faults))
        if names:
            return f"{self.verdict}: {some(names, _NAMED)}"
        if self.passes:
            return f"{self.verdict}, {plural(self.warnings, 'warning')}" if self.warnings else self.verdict
        why = self.silent or (self.problems[0] if self.problems else "")
        if why.startswith(self.verdict.partition(": ")[2]):
            return f"{self.kind}: {why}"
        return self.verdict if not why or why in self.verdict else f"{self.verdict}: {why}"

    @property
    def markup(self) -> dict[str, bool]:
        """The colour of its line on a terminal."""
        colour = "green" if self.is_clean and not self.warnings else "yellow"
        return {colour if self.passes else "red": True}


def verdict_of(cluster: Document) -> ClusterVerdict:
    """Return the verdict in the report of one cluster."""
    fleet = fleet_of(cluster)
    (verdict,) = fleet.verdicts
    failing = sorted(
        (_fault(entry) for entry in cluster.faults if entry.outcome == Outcome.VIOLATES),
        key=lambda fault: (_severity_rank(fault), fault.check),
    )
    version = next((target.etcd_version for target in cluster.targets if target.etcd_version), None)
    undecided = (
        _line(result.reason)
        for result in cluster.results
        if result.outcome in (Outcome.INCONCLUSIVE, Outcome.BROKEN)
    )
    return ClusterVerdict(
        label=printable(verdict.label, 100),
        verdict=_line(verdict.verdict),
        etcd_version=printable(version, 64) if version else None,
        listeners=sum(len(target.listeners) for target in cluster.targets),
        faults=tuple(failing[:_MOST_FAULTS]),
        warnings=len(cluster.faults) - len(failing),
        connections=cluster.summary.connections,
        seconds=verdict.seconds,
        problems=tuple(printable(problem, 1024) for problem in verdict.problems[:20]),
        silent=next(undecided, ""),
        place=FleetPlace(clusters=fleet.clusters, shard=fleet.shard),
        metadata={printable(key, 64): printable(text, 1024) for key, text in cluster.metadata.items()},
    )


def _fault(entry: FaultEntry) -> ClusterFault:
    return ClusterFault(
        check=printable(entry.check),
        severity=entry.severity,
        message=_line(entry.message),
        remediation=_line(entry.remediation),
        listeners=tuple(map(printable, entry.listeners[:20])),
        consequences=len(entry.consequences),
    )


def _line(text: str) -> str:
    return printable(" ".join(text.split()), 1024)


def fleet_of(cluster: Document) -> Fleet:
    """Return the part of the list that a report is about.

    Raises:
        UsageError: if it is no report of a run with ``--etcd-clusters``.
    """
    if isinstance(cluster.fleet, UnsetType):
        raise UsageError("it is the report of a run without --etcd-clusters")
    return cluster.fleet


def read_documents(path: Path) -> Iterator[Document]:
    """Yield the report of each cluster in a file: JSON Lines (``.jsonl``), else one JSON report.

    Each is bounded, and one of JSON Lines is in memory at a time.

    Raises:
        UsageError: if it cannot be read or is no report of a run with ``--etcd-clusters``.
    """
    try:
        if path.suffix == ".jsonl":
            with open_regular(path) as file:
                for number in range(1, 1_000_000_000):
                    line = file.readline(MAXIMUM_SIZE + 1)
                    if not line:
                        return
                    yield from _divided(_checked(line, f"{path}, line {number}"))
        else:
            yield from _divided(_checked(read_regular(path, MAXIMUM_SIZE), str(path)))
    except UnreadableFileError as error:
        raise UsageError(f"{path} {error}") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): check the path") from error


_ADVICE: Final = "Pass reports that --etcd-clusters with --etcd-report=NAME.jsonl or NAME.json wrote."


def _checked(data: bytes, at: str) -> Document:
    try:
        value = read_json(data, size=MAXIMUM_SIZE, raw=True)
    except UnreadableJSONError as error:
        cut = "; the run that wrote it was killed, or the disk was full" if not data.endswith(b"\n") else ""
        raise UsageError(f"{at}: {error}{cut}. {_ADVICE}") from error
    cluster = as_document(value, at, _ADVICE)
    try:
        fleet_of(cluster)
    except UsageError as error:
        raise UsageError(f"{at}: {error}. {_ADVICE}") from error
    return cluster


def _divided(whole: Document) -> Iterator[Document]:
    """Yield the report of each cluster in a report of several; a report of one cluster as it is."""
    fleet = fleet_of(whole)
    if len(fleet.verdicts) == 1:
        yield whole
        return
    all_results, all_faults = _by_target(whole.results), _by_target(whole.faults)
    for verdict in fleet.verdicts:
        results = tuple(all_results.get(verdict.label, ()))
        faults = tuple(all_faults.get(verdict.label, ()))
        counted = Counter(result.outcome for result in results)
        yield replace(
            whole,
            targets=tuple(target for target in whole.targets if target.label == verdict.label),
            results=results,
            faults=faults,
            seconds=verdict.seconds,
            summary=Summary.of(
                counted,
                faults=sum(fault.outcome == Outcome.VIOLATES for fault in faults),
                not_collected=verdict.not_collected or 0,
                connections=verdict.connections or 0,
            ),
            fleet=replace(fleet, verdicts=(verdict,)),
        )


def _by_target(entries: Iterable[OfTarget]) -> Mapping[str, Sequence[OfTarget]]:
    divided: dict[str, list[OfTarget]] = {}
    for entry in entries:
        divided.setdefault(entry.target, []).append(entry)
    return divided


class FleetReport(Struct, frozen=True, kw_only=True, dict=True):
    """All clusters of a run, or of the reports of several.

    Attributes:
        verdicts: of each cluster, in the order in which they ended.
        expected: the number of clusters that were to be judged.
        shard: the part of the list, as ``3/10``; empty for all of it.
        started_at: start of the run; aware, UTC.
        seconds: duration of the run; 0 if it is not known.
        problems: what fails the run besides single clusters, one sentence each.
        documents: reads the reports of the clusters from their file.
    """

    verdicts: Sequence[ClusterVerdict]
    expected: int
    shard: str
    started_at: datetime
    seconds: float
    problems: Sequence[str]
    documents: Callable[[], Iterable[Document]]

    @cached_property
    def worst_first(self) -> list[ClusterVerdict]:
        """Every verdict, the worst first."""
        return sorted(self.verdicts, key=lambda verdict: verdict.rank)

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of the run; of several runs, what all of them have."""
        first, *others = [one.metadata.items() for one in self.verdicts] or [{}.items()]
        return dict(pair for pair in first if all(pair in other for other in others))

    @property
    def missing(self) -> int:
        """The number of clusters that were not judged before the run ended."""
        return max(0, self.expected - len(self.verdicts))

    @property
    def failing(self) -> list[ClusterVerdict]:
        """The clusters that fail the run, the worst first."""
        return [one for one in self.worst_first if not one.passes]

    @property
    def connections(self) -> int:
        """The number of connections made."""
        return sum(one.connections for one in self.verdicts)

    @property
    def fails(self) -> bool:
        """Whether it ends with exit code 1."""
        return bool(self.failing or self.missing or self.problems)

    @cached_property
    def by_fault(self) -> list[tuple[str, str, list[str]]]:
        """Check and severity of the faults, each with its clusters; the most severe first."""
        clusters: dict[tuple[str, str], dict[str, None]] = {}
        for verdict in self.worst_first:
            for fault in verdict.faults:
                clusters.setdefault((fault.check, fault.severity), {})[verdict.label] = None
        order = sorted(
            clusters, key=lambda key: (_ORDER.get(key[1], len(_ORDER)), -len(clusters[key]), key[0])
        )
        return [(check, severity, list(clusters[check, severity])) for check, severity in order]

    @property
    def counts(self) -> str:
        """The number of clusters for each kind of verdict, in one line."""
        kinds = Counter(one.kind for one in self.verdicts)
        clean, not_clean, outside = kinds[CLEAN], kinds["NOT CLEAN"], kinds[FROM_OUTSIDE]
        warned = sum(one.is_clean and one.warnings > 0 for one in self.verdicts)
        counts = {
            "not clean": not_clean,
            "without a verdict": len(self.verdicts) - not_clean - clean - outside,
            "without a fault from outside": outside,
            f"clean ({warned} with warnings)" if warned else "clean": clean,
            "not judged": self.missing,
        }
        parts = ", ".join(f"{number} {text}" for text, number in counts.items() if number)
        part = f" in part {self.shard}" if self.shard else ""
        return f"{plural(self.expected, 'cluster')}{part}: {parts or 'nothing to judge'}"

    @property
    def conclusion(self) -> str:
        """The verdict in one line.

        It begins with CLEAN, NO FAULT FOUND FROM OUTSIDE, NOT CLEAN, NO VERDICT or NOT COMPLETE.
        """
        if not self.expected and self.shard and not self.problems:
            return f"CLEAN: part {self.shard} of the list has no cluster, there is nothing to judge"
        if not_clean := sum(one.kind == "NOT CLEAN" for one in self.verdicts):
            return f"NOT CLEAN: {not_clean} of {plural(self.expected, 'cluster')}"
        if self.missing:
            return f"NOT COMPLETE: {self.missing} of {plural(self.expected, 'cluster')} not judged"
        if self.failing:
            return f"NO VERDICT: {len(self.failing)} of {plural(self.expected, 'cluster')}"
        if self.problems:
            return f"NO VERDICT: {self.problems[0]}"
        if outside := sum(one.kind == FROM_OUTSIDE for one in self.verdicts):
            of = f" for {outside} of {plural(self.expected, 'cluster')}" if self.expected > 1 else ""
            return f"{FROM_OUTSIDE}: no client certificate was given{of}"
        return CLEAN


def cluster_line(verdict: ClusterVerdict, width: int, label_width: int) -> Line:
    """Return the line about a cluster that has ended; it is cut at the width."""
    return Line(_cut(f"{verdict.label:<{label_width}}  {verdict.line}", width), verdict.markup)


@section
def fleet_summary(report: FleetReport, *, width: int, written: Sequence[str], status: int) -> Iterator[Line]:
    """Yield the summary of all clusters, the worst first, in about 40 lines of 80 characters at most.

    Args:
        report: of all clusters.
        width: characters per line.
        written: what was written elsewhere, one line each.
        status: the exit code.
    """
    yield bold(report.counts)
    if report.by_fault:
        yield bold("faults")
    for check, severity, labels in report.by_fault[:_SHOWN_FAULTS]:
        text = f"  {check} ({severity}) on {plural(len(labels), 'cluster')}: {some(labels, _NAMED)}"
        yield coloured(_cut(text, width), "red")
    if (left := len(report.by_fault) - _SHOWN_FAULTS) > 0:
        yield Line(f"  and {plural(left, 'more kind')} of faults")
    if report.failing:
        yield bold("worst first")
    label_width = max((len(one.label) for one in report.failing[:_SHOWN]), default=0)
    for verdict in report.failing[:_SHOWN]:
        yield Line(f"  {(line := cluster_line(verdict, width - 2, label_width)).text}", line.markup)
    if (left := len(report.failing) - _SHOWN) > 0:
        yield Line(f"  and {plural(left, 'more cluster')} that {'is' if left == 1 else 'are'} not clean")
    for problem in report.problems[:_SHOWN_PROBLEMS]:
        yield from wrapped(problem, width, "  ", colour="red")
    yield from (Line(line) for text in written[:6] for line in text.splitlines())
    duration = f" in {report.seconds:.1f} s" if report.seconds else ""
    yield Line(f"{plural(report.connections, 'connection')}{duration}; exit code {status}")
    last = f"etcd TLS: {report.conclusion}"
    every = all(one.is_clean for one in report.verdicts)
    colour = "red" if report.fails else "green" if every else "yellow"
    yield Line(last, {colour: True, "bold": True})


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 4].rstrip()} ..."


def full_text(verdict: ClusterVerdict) -> Iterator[str]:
    """Yield the verdict of a cluster with its faults and their remedies, in lines."""
    yield verdict.line
    for number, fault in enumerate(verdict.faults, 1):
        others = (
            f"; {plural(fault.consequences, 'more check')} of the same cause" if fault.consequences else ""
        )
        where = f"{fault.check} ({fault.severity}) on {some(fault.listeners, 5)}"
        yield f"{number}. {where}: {fault.message}{others}"
        if fault.remediation:
            yield f"   remedy: {fault.remediation}"
    yield from verdict.problems
