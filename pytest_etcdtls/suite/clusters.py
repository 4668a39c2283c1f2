"""The clusters of ``--etcd-clusters``: how each is judged, in which order, and what is kept of it.

Each is a run of its own, with its settings. Threads contact the next clusters ahead of the one that is
judged, and a cluster that does not answer is judged after its time-outs. All checks of a cluster are judged
at once. Its report is written as a line when it arrives, and only the verdict stays in memory.
"""

from __future__ import annotations

import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Final

import pytest
from msgspec.json import Decoder

from pytest_etcdtls.document import Document, FleetPlace, ResultEntry
from pytest_etcdtls.errors import EtcdTLSError
from pytest_etcdtls.options import Invocation
from pytest_etcdtls.registry import catalogue
from pytest_etcdtls.report import private, write_file
from pytest_etcdtls.report.cluster_reports import RENDERERS, as_line, cluster_document, without_verdict
from pytest_etcdtls.report.cluster_verdicts import (
    ClusterVerdict,
    FleetReport,
    cluster_line,
    verdict_of,
)
from pytest_etcdtls.report.overview import plural
from pytest_etcdtls.report.text import Line
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.runner import Run
from pytest_etcdtls.settings.cluster_list import ClusterList, ListedCluster
from pytest_etcdtls.suite.interruptions import not_written
from pytest_etcdtls.suite.items import ClusterItem, run_item
from pytest_etcdtls.suite.ledger import ENDED_WELL, Ledger, is_selective, shortcomings, stale_waivers
from pytest_etcdtls.untrusted import printable
from pytest_etcdtls.waivers import review
from pytest_etcdtls.workers import Worker, in_threads

_AHEAD: Final = 4
"""Clusters that are contacted before they are judged."""
_SLOW: Final = 1.0
"""Seconds without an answer after which one more cluster is contacted."""
_MOST_SILENT: Final = 32
"""Clusters that are contacted at a time, with those that do not answer."""
_MOST_LISTENERS: Final = 8
"""Listeners of one cluster that are contacted at a time."""


class ClusterJudge:
    """Judges one cluster, once.

    Args:
        clusters: the list that it is from.
        cluster: the cluster.
    """

    def __init__(self, clusters: ClusterList, cluster: ListedCluster) -> None:
        self._clusters = clusters
        self._cluster = cluster
        self._run: Run | None = None
        self._problem = ""
        self._thread: Worker | None = None

    def contact(self, ended: Callable[[], None] = lambda: None) -> None:
        """Contact its listeners in threads, once.

        Args:
            ended: called when every listener has answered, or its time-outs have passed.
        """
        if self._thread is None:
            self._thread = Worker(lambda: self._contact(ended), f"contact_{self._cluster.label}")
            self._thread.start()

    def abandon(self) -> None:
        """Make no further connection."""
        if self._thread is not None:
            self._thread.abandoned = True
        if self._run is not None:
            self._run.abandon()

    def _contact(self, ended: Callable[[], None]) -> None:
        try:
            run = Run(self._clusters.settings(self._cluster))
            run.discover()
            (target,) = run.targets
            listeners = target.judge.observer.target.listeners
            in_threads(target.judge.passes, listeners, min(_MOST_LISTENERS, len(listeners)))
            self._run = run
        except Exception as error:  # costs no other cluster its verdict
            text = str(error) if isinstance(error, EtcdTLSError) else f"{type(error).__name__}: {error}"
            self._problem = f"The cluster could not be judged: {printable(text, 1024)}"
        finally:
            ended()

    def judge(self) -> Document:
        """Return the report of the cluster, and drop everything else."""
        place = place_in(self._clusters)
        try:
            return self._judge(place)
        except pytest.fail.Exception as stopped:  # raised by pytest-timeout in a signal handler
            self.abandon()
            return without_verdict(self._cluster.label, f"Stopped before a verdict: {stopped}", place)
        finally:
            self._run = None

    def _judge(self, place: FleetPlace) -> Document:
        self.contact()
        if self._thread is not None:
            self._thread.join()
        run = self._run
        if run is None:
            return without_verdict(self._cluster.label, self._problem, place)
        ledger = Ledger(run)
        (target,) = run.targets
        subjects = [(label, list(checks)) for label, checks in target.subjects(run.checks)]
        target.wanted = lambda: subjects
        for label, checks in subjects:
            for check in checks:
                ledger.record(f"{label}::{check.id}", run.result(target, check, label))
        run.abandon()
        problems = shortcomings(ledger)
        if "etcd_waivers" in self._cluster.values:
            problems += stale_waivers(ledger.review_waivers())
        status = int(pytest.ExitCode.TESTS_FAILED if ledger.failed or problems else pytest.ExitCode.OK)
        return cluster_document(ledger.report(status, problems), self._cluster.label, place)


def place_in(clusters: ClusterList) -> FleetPlace:
    """Return the part that the clusters of a list are."""
    return FleetPlace(clusters=clusters.total, shard=str(clusters.shard))


_OF_DOCUMENTS = (".json", ".prom")
"""The suffixes of reports that are made, at the end, of the documents of all clusters."""


class Contacting:
    """The hooks by which clusters are contacted ahead.

    Args:
        judges: of the clusters, by label.
        ordered: run the items in the order in which the clusters answer, after all others.
    """

    def __init__(self, judges: Mapping[str, ClusterJudge], *, ordered: bool) -> None:
        self._judges = judges
        self._ordered = ordered

    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        """Contact the next cluster of a worker with this one."""
        for each in (item, nextitem):
            if isinstance(each, ClusterItem):
                self._judges[each.name].contact()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, bool | None, bool | None]:
        """Run the items of clusters after the others."""
        if not self._ordered:
            return (yield)
        ours = [item for item in session.items if isinstance(item, ClusterItem)]
        session.items[:] = [item for item in session.items if not isinstance(item, ClusterItem)]
        ended = yield
        for item in self._as_contacted(ours):
            run_item(item)
        return ended

    def _as_contacted(self, items: Iterable[ClusterItem]) -> Iterator[ClusterItem]:
        """Yield items when the listeners of their clusters have answered, or their time-outs have passed.

        A few clusters are contacted at a time; one that is slow to answer does not count.
        """
        waiting = deque(items)
        begun: dict[ClusterItem, float] = {}
        ended: SimpleQueue[ClusterItem] = SimpleQueue()
        ready: deque[ClusterItem] = deque()
        try:
            while waiting or begun or ready:
                while not ended.empty():
                    ready.append(ended.get())
                    del begun[ready[-1]]
                now = time.monotonic()
                recent = sum(now - since < _SLOW for since in begun.values())
                while waiting and recent + len(ready) < _AHEAD and len(begun) < _MOST_SILENT:
                    item = waiting.popleft()
                    begun[item], recent = now, recent + 1
                    self._judges[item.name].contact(partial(ended.put, item))
                if ready:
                    yield ready.popleft()
                    continue
                with suppress(Empty):
                    item = ended.get(timeout=_SLOW if waiting else None)
                    del begun[item]
                    ready.append(item)
        finally:
            for item in (*begun, *ready):
                self._judges[item.name].abandon()


class ClusterLedger:
    """Stores the verdicts on the clusters of a list, and appends their reports to files.

    Args:
        clusters: the clusters of the list.
        run: the run, with the settings of all of them.
    """

    def __init__(self, clusters: ClusterList, run: Run) -> None:
        self.clusters = clusters
        self.run = run
        self.selected: frozenset[str] = frozenset()
        """The labels of the clusters to be judged."""
        self.verdicts: dict[str, ClusterVerdict] = {}
        self._waived: dict[tuple[str, Outcome], CheckResult] = {}
        self._started_at = datetime.now(UTC)
        self._files: dict[Path, IO[str]] = {}
        """What the reports are appended to: JSON Lines themselves, for JSON a temporary file."""
        self.unwritten: dict[Path, str] = {}
        """The reports that cannot be written any more, each with a sentence why."""

    def open(self) -> None:
        """Open the reports to which the report of each cluster is appended.

        Raises:
            OSError: if one cannot be opened.
        """
        for path in self.run.settings.reports:
            if path.suffix == ".jsonl":
                self._files[path] = open(path, "w", encoding="utf-8", opener=private)  # noqa: SIM115 - until the run ends
            elif path.suffix in _OF_DOCUMENTS:
                self._files[path] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - as above

    def header(self) -> str:
        """Return the line of the header: how many clusters there are, and where from."""
        shard = self.clusters.shard
        part = f", part {shard}" if shard.of > 1 else ""
        where = self.clusters.where.removeprefix("--etcd-clusters ")
        return f"{where}: {plural(len(self.clusters.clusters), 'cluster')} of {self.clusters.total}{part}"

    def record_failure(self, label: str, reason: str) -> None:
        """Record that a cluster has no verdict for a reason that is not in it."""
        problem = f"It could not be judged: {printable(reason, 512)}"
        self.record(label, without_verdict(label, problem, place_in(self.clusters)))

    def line(self, label: str, width: int) -> Line:
        """Return the line about a cluster that was recorded last."""
        of = len(self.selected)
        number = f"{len(self.verdicts):>{len(str(of))}}/{of} "
        longest = min(24, max(map(len, self.selected), default=0))
        line = cluster_line(self.verdicts[label], width - len(number), longest)
        return Line(number + line.text, line.markup)

    def record(self, label: str, document: Document) -> None:
        """Record the verdict on a cluster, and write its report."""
        self.verdicts[label] = verdict_of(document)
        line = as_line(document)
        for path, file in [*self._files.items()]:
            try:
                file.write(line)
                file.flush()
            except OSError as error:
                self.unwritten[path] = not_written(f"report {path}", error)
                del self._files[path]
        for waiver in self.run.settings.waivers:
            for result in map(ResultEntry.result, document.results):
                if waiver.names(result):
                    self._waived.setdefault((waiver.source, result.outcome), result)

    def problems(self, session: pytest.Session, invocation: Invocation) -> Iterator[str]:
        """Yield the problems that fail the run in addition to verdicts, one sentence each."""
        yield from self.unwritten.values()
        if session.exitstatus not in ENDED_WELL:
            return
        if self.clusters.clusters and not self.selected and not is_selective(session.config):
            yield (
                "--etcd-clusters was given and no cluster was judged: they were deselected (-k, -m, "
                "--deselect, an ini file). --no-etcd-conformance says that this is meant."
            )
        # A part of a list does not show that a waiver is no longer needed.
        is_whole = self.clusters.shard.of == 1 and all(
            cluster.label in self.verdicts for cluster in self.clusters.clusters
        )
        waived = self._waived.values() if is_whole else ()
        today = self._started_at.date()
        yield from stale_waivers(review(self.run.settings.waivers, waived, catalogue().keys(), today))

    def exit_status(self, status: int, problems: list[str]) -> int:
        """Return pytest's exit status, corrected: no cluster is no failure, and a missing one is one."""
        if status == pytest.ExitCode.NO_TESTS_COLLECTED:
            status = pytest.ExitCode.OK
        if status == pytest.ExitCode.OK and self.report(status, problems).fails:
            status = pytest.ExitCode.TESTS_FAILED
        return int(status)

    def report(self, status: int, problems: list[str]) -> FleetReport:
        """Return the report on all clusters."""
        shard = self.clusters.shard
        return FleetReport(
            verdicts=[*self.verdicts.values()],
            expected=len(self.selected),
            shard=str(shard) if shard.of > 1 else "",
            started_at=self._started_at,
            seconds=(datetime.now(UTC) - self._started_at).total_seconds(),
            problems=problems,
            documents=self._documents,
        )

    def _documents(self) -> Iterator[Document]:
        lines = next(file for path, file in self._files.items() if path.suffix in _OF_DOCUMENTS)
        lines.seek(0)
        yield from map(Decoder(Document).decode, lines)

    def close(self) -> None:
        """Close the files to which reports are appended."""
        while self._files:
            self._files.popitem()[1].close()

    def write(self, report: FleetReport, path: Path) -> None:
        """Write the report on all clusters. JSON Lines have the report of each already.

        Raises:
            OSError: if it cannot be written.
        """
        if path.suffix != ".jsonl":
            write_file(path, RENDERERS[path.suffix](report))
