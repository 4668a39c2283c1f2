"""The clusters of ``--etcd-clusters`` in a pytest session: one item for each.

An item judges all of its cluster, and only the verdict stays in memory. Meanwhile threads contact the next
clusters. A cluster that does not answer is judged after its time-outs.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any, Final, Self

import pytest

from pytest_etcdtls._version import __version__
from pytest_etcdtls.errors import EtcdTLSError, UsageError
from pytest_etcdtls.options import ROOT, Invocation, Values, is_dry
from pytest_etcdtls.registry import catalogue
from pytest_etcdtls.report import private, write_file
from pytest_etcdtls.report.cluster_verdicts import (
    RENDERERS,
    ClusterVerdict,
    Document,
    FleetPlace,
    FleetReport,
    as_line,
    cluster_document,
    cluster_line,
    fleet_summary,
    full_text,
    verdict_of,
)
from pytest_etcdtls.report.model import Report, openssl_version
from pytest_etcdtls.report.overview import plural
from pytest_etcdtls.report.text import Line
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.runner import Run
from pytest_etcdtls.settings.cluster_list import (
    MAXIMUM_SIZE,
    ClusterList,
    ListedCluster,
    read_list,
    read_shard,
)
from pytest_etcdtls.suite.interruptions import (
    Interruption,
    not_written,
    show_without_terminal,
    summary_reporter,
)
from pytest_etcdtls.suite.items import Crash, existing_place, run_item
from pytest_etcdtls.suite.ledger import ENDED_WELL, Ledger, gather, is_selective, shortcomings, stale_waivers
from pytest_etcdtls.suite.state import is_distributed, is_worker, run_of
from pytest_etcdtls.untrusted import printable
from pytest_etcdtls.waivers import review
from pytest_etcdtls.workers import Worker

_LIST: Final = "etcdtls_clusters"
_ALONE: Final = "etcdtls_alone"
"""Inputs of a worker: the text of the list, and whether the command line names nothing else."""
_DOCUMENT: Final = "etcdtls_cluster"
"""Attribute of a test report that holds the report of a cluster, as a line of JSON."""

_AHEAD: Final = 4
"""Clusters that are contacted before they are judged."""
_SLOW: Final = 1.0
"""Seconds without an answer after which one more cluster is contacted."""
_MOST_SILENT: Final = 32
"""Clusters that are contacted at a time, with those that do not answer."""
_MOST_LISTENERS: Final = 8
"""Listeners of one cluster that are contacted at a time."""


class ClusterNotCleanError(AssertionError):
    """A cluster is not clean, or has no verdict."""

    def __init__(self, verdict: ClusterVerdict) -> None:
        super().__init__(verdict.line)
        self.verdict = verdict


class ClusterRepr:
    """A cluster that is not clean as pytest's ``longrepr``: its faults with their remedies."""

    def __init__(self, verdict: ClusterVerdict, path: Path) -> None:
        self._text = "\n".join(full_text(verdict))
        self.reprcrash = Crash(verdict.line, str(path))

    def toterminal(self, writer: Any) -> None:  # noqa: ANN401 - as pytest has it
        """Write the faults."""
        for line in self._text.split("\n"):
            writer.line(Line(line).text)

    def __str__(self) -> str:
        return self._text


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
            judge = target.judge
            waiting = list(judge.observer.target.listeners)

            def work() -> None:
                with suppress(IndexError):
                    while True:
                        judge.passes(waiting.pop())

            threads = [
                Worker(work, f"listener_{number}") for number in range(min(_MOST_LISTENERS, len(waiting)))
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self._run = run
        except Exception as error:  # costs no other cluster its verdict
            text = str(error) if isinstance(error, EtcdTLSError) else f"{type(error).__name__}: {error}"
            self._problem = f"The cluster could not be judged: {printable(text, 1024)}"
        finally:
            ended()

    def judge(self, place: FleetPlace) -> Document:
        """Return the report of the cluster, and drop everything else.

        Raises:
            pytest.fail.Exception: if pytest-timeout stopped it. Its report has the results until then.
        """
        self.contact()
        if self._thread is not None:
            self._thread.join()
        run, self._run = self._run, None
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
        return cluster_document(gather(run, ledger, status, problems), self._cluster.label, place)


def without_verdict(label: str, reason: str, place: FleetPlace) -> Document:
    """Return the report of a cluster that has no verdict for a reason of our own."""
    report = Report(
        started_at=datetime.now(UTC),
        seconds=0.0,
        partial=False,
        seen=(),
        results=(),
        problems=(reason,),
        status=1,
    )
    return cluster_document(report, label, place)


class Fleet(pytest.Collector):
    """The root collector, with node id ``etcdtls``."""

    clusters: ClusterList
    ids: Sequence[str]

    @classmethod
    def of(cls, session: pytest.Session, clusters: ClusterList, ids: Sequence[str]) -> Self:
        """Return the collector of the clusters; ``ids`` are node ids to collect, empty for all."""
        place = existing_place(session.config)
        fleet: Self = cls.from_parent(session, name=ROOT, path=place, nodeid=ROOT)
        fleet.clusters, fleet.ids = clusters, ids
        fleet.add_marker(pytest.mark.etcdtls)
        return fleet

    def collect(self) -> Iterator[pytest.Item]:
        """Yield an item for each cluster."""
        for cluster in self.clusters.clusters:
            item: ClusterItem = ClusterItem.from_parent(self, name=cluster.label)
            if not self.ids or {item.nodeid, ROOT} & {*self.ids}:
                item.judge = ClusterJudge(self.clusters, cluster)
                yield item


class ClusterItem(pytest.Item):
    """One cluster. The attributes below are those that hooks of other plugins expect on a test function."""

    judge: ClusterJudge
    parent: Fleet
    document: Document | None = None
    verdict: ClusterVerdict | None = None
    cls: None = None
    fixturenames: tuple[str, ...] = ()

    @property
    def place(self) -> FleetPlace:
        """Its part of the list."""
        return place_in(self.parent.clusters)

    def setup(self) -> None:
        """Judge the cluster. Without a verdict the item ends here, which pytest shows as an error."""
        if self.config.getoption("setuponly", False):
            return
        if self.verdict is None:
            try:
                self.document = self.judge.judge(self.place)
            except pytest.fail.Exception as stopped:  # raised by pytest-timeout in a signal handler
                self.document = without_verdict(self.name, f"Stopped before a verdict: {stopped}", self.place)
            self.verdict = verdict_of(self.document)
            self.user_properties += [("etcdtls.verdict", self.verdict.verdict)]
        if not self.verdict.passes and self.verdict.kind != "NOT CLEAN":
            raise ClusterNotCleanError(self.verdict)

    def runtest(self) -> None:
        """Fail if the cluster is not clean."""
        if self.verdict is not None and not self.verdict.passes:
            raise ClusterNotCleanError(self.verdict)

    def _repr_failure_py(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:  # noqa: ANN401 - as pytest has it
        """Return the faults instead of a traceback, as ``CheckItem`` does."""
        if isinstance(excinfo.value, ClusterNotCleanError):
            return ClusterRepr(excinfo.value.verdict, self.path)
        return super()._repr_failure_py(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return the heading of a failure."""
        return self.config.rootpath / ROOT, None, f"cluster {self.name}"


def place_in(clusters: ClusterList) -> FleetPlace:
    """Return the part that the clusters of a list are."""
    return FleetPlace(clusters=clusters.total, shard=str(clusters.shard))


class Spool:
    """The reports of the judged clusters, a line each in a temporary file."""

    def __init__(self) -> None:
        self._file: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - until the end

    def write(self, line: str) -> None:
        """Append a report."""
        self._file.seek(0, os.SEEK_END)
        self._file.write(line)

    def documents(self) -> Iterator[Document]:
        """Yield the reports."""
        self._file.seek(0)
        yield from map(json.loads, self._file)

    def close(self) -> None:
        """Remove the file."""
        self._file.close()


class FleetItems:
    """The hooks that collect and run the items of clusters, in the process that judges them.

    Args:
        clusters: the clusters of the list.
        ids: node ids to collect, empty for all.
        alone: collect nothing else.
    """

    def __init__(self, clusters: ClusterList, ids: Sequence[str], *, alone: bool) -> None:
        self._clusters = clusters
        self._ids = ids
        self._alone = alone

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Append the clusters to the session's collectors. They need no path on the command line."""
        report = yield
        if isinstance(collector, pytest.Session):
            others = [] if self._alone else report.result
            report.result = [*others, Fleet.of(collector, self._clusters, self._ids)]
        return report

    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        """Contact the next cluster of a worker with this one."""
        for each in (item, nextitem):
            if isinstance(each, ClusterItem):
                each.judge.contact()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Attach the report of the cluster, which the item does not keep."""
        report: Any = yield
        if isinstance(item, ClusterItem) and item.document is not None:
            setattr(report, _DOCUMENT, as_line(item.document))
            item.document = None
        return report  # type: ignore[no-any-return]


class FleetSession:
    """The hooks of a process that is no worker: it shows the verdicts and writes the reports.

    Args:
        config: pytest's configuration.
        invocation: the parsed command line.
        text: the content of the list.
        clusters: the clusters of the list.
        interruption: the handler of signals.
    """

    def __init__(
        self,
        config: pytest.Config,
        invocation: Invocation,
        text: str,
        clusters: ClusterList,
        interruption: Interruption,
    ) -> None:
        self._config = config
        self._invocation = invocation
        self._text = text
        self._clusters = clusters
        self._interruption = interruption
        self._settings = run_of(config).settings
        self._started_at = datetime.now(UTC)
        self._expected: frozenset[str] = frozenset()
        self._verdicts: dict[str, ClusterVerdict] = {}
        self._waived: dict[tuple[str, Outcome], CheckResult] = {}
        self._problems: list[str] = []
        self._lines: dict[Path, IO[str]] = {}
        self._failed: set[Path] = set()
        self._report: FleetReport | None = None
        self._spool = Spool() if any(path.suffix == ".json" for path in self._settings.reports) else None

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionstart(self) -> Generator[None, object, object]:
        """Open the reports to which the report of each cluster is appended when it ends."""
        if not is_dry(self._config):
            for path in self._settings.reports:
                if path.suffix == ".jsonl":
                    self._lines[path] = open(path, "w", encoding="utf-8", opener=private)  # noqa: SIM115 - until the run ends
        return (yield)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:  # noqa: ANN401 - of xdist
        """Send the list to a worker: standard input can be read only once."""
        node.workerinput |= {_LIST: self._text, _ALONE: self._invocation.alone}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Record which clusters are judged."""
        self._expected = frozenset(item.name for item in session.items if isinstance(item, ClusterItem))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Record which clusters the workers judge."""
        self._expected = frozenset(id_.removeprefix(f"{ROOT}::") for id_ in ids if _is_ours(id_))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, bool | None, bool | None]:
        """Run the user's items, then ours in the order in which their clusters answer."""
        if is_dry(self._config) or is_distributed(self._config):
            return (yield)
        ours = [item for item in session.items if isinstance(item, ClusterItem)]
        session.items[:] = [item for item in session.items if not isinstance(item, ClusterItem)]
        ended = yield
        for item in self._as_contacted(ours):
            run_item(item)
        return ended

    def _as_contacted(self, items: Iterable[ClusterItem]) -> Iterator[ClusterItem]:
        """Yield items when their clusters have answered, or their time-outs have passed.

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
                    item.judge.contact(partial(ended.put, item))
                if ready:
                    yield ready.popleft()
                    continue
                with suppress(Empty):
                    item = ended.get(timeout=_SLOW if waiting else None)
                    del begun[item]
                    ready.append(item)
        finally:
            for item in (*begun, *ready):
                item.judge.abandon()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record the verdict of a cluster, write its report and show its line."""
        if not _is_ours(report.nodeid):
            return
        label = report.nodeid.removeprefix(f"{ROOT}::")
        line: str | None = report.__dict__.pop(_DOCUMENT, None)
        if label in self._verdicts or (line is None and not report.failed):
            return
        if line is None:  # the worker crashed, or a hook of another plugin failed
            reason = printable(str(report.longrepr).strip().rpartition("\n")[2], 512)
            place = place_in(self._clusters)
            line = as_line(without_verdict(label, f"It could not be judged: {reason}", place))
        self._record(label, line)

    def _record(self, label: str, line: str) -> None:
        document = json.loads(line)
        verdict = self._verdicts[label] = verdict_of(document)
        for path, file in [*self._lines.items()]:
            try:
                file.write(line)
                file.flush()
            except OSError as error:
                self._not_written(path, error)
                del self._lines[path]
        if self._spool is not None:
            self._spool.write(line)
        for waiver in self._settings.waivers:
            for table in document["results"]:
                result = CheckResult.from_json(table)
                if waiver.names(result):
                    self._waived.setdefault((waiver.source, result.outcome), result)
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None and self._config.get_verbosity() > -2:
            number = f"{len(self._verdicts):>{len(str(len(self._expected)))}}/{len(self._expected)} "
            writer = self._config.get_terminal_writer()
            width = writer.fullwidth - len(number)
            shown = cluster_line(verdict, width, min(24, max(map(len, self._expected), default=0)))
            if terminal.showlongtestinfo:
                terminal.ensure_newline()
            writer.line(number + shown.text, **shown.markup)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Keep pytest's reporter from writing the path before each line."""
        # It writes the path of an item if that is not its currentfspath.
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None and _is_ours(nodeid):
            terminal.currentfspath = self._config.rootpath / ROOT

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Return the category in which pytest counts a cluster. :meth:`_record` writes the line about it."""
        if not _is_ours(report.nodeid):
            return None
        if report.failed:
            return ("not clean" if report.when == "call" else "without a verdict"), "", ""
        verdict = self._verdicts.get(report.nodeid.removeprefix(f"{ROOT}::"))
        passed = "clean" if verdict is None or verdict.is_clean else "without a fault from outside"
        return (passed if report.when == "call" and report.passed else ""), "", ""

    def pytest_report_header(self) -> list[str]:
        """Return the header: how many clusters there are, and where from."""
        clusters = self._clusters
        part = f", part {clusters.shard}" if clusters.shard.of > 1 else ""
        checks = len(run_of(self._config).checks)
        return [
            f"etcd TLS: pytest-etcdtls {__version__}, {openssl_version()}, {checks} checks",
            f"  {clusters.where.removeprefix('--etcd-clusters ')}: "
            f"{plural(len(clusters.clusters), 'cluster')} of {clusters.total}{part}",
        ]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        """Set the exit code and write the reports; show the summary after everything else."""
        if is_dry(self._config):
            return (yield)
        with self._interruption.held():
            self._finish(session)
        yield
        if self._report is None:
            return None
        terminal = summary_reporter(self._config)
        if terminal is None:
            show_without_terminal(self._problems)
            return None
        width = self._config.get_terminal_writer().fullwidth
        written = [f"report: {path}" for path in self._settings.reports if path not in self._failed]
        lines = fleet_summary(self._report, width=width, written=written, status=int(session.exitstatus))
        for line in (Line(), *lines):
            terminal.write_line(line.text, **line.markup)
        return None

    def _finish(self, session: pytest.Session) -> None:
        status = int(session.exitstatus)
        interrupted = status == pytest.ExitCode.INTERRUPTED
        if status not in ENDED_WELL and not interrupted:
            return
        clusters = self._clusters
        if clusters.clusters and not self._expected and not interrupted and not is_selective(self._config):
            self._problems.append(
                "--etcd-clusters was given and no cluster was judged: they were deselected (-k, -m, "
                "--deselect, an ini file). --no-etcd-conformance says that this is meant."
            )
        # A part of a list does not show that a waiver is no longer needed.
        waived = self._waived.values() if clusters.shard.of == 1 else ()
        today = self._started_at.date()
        self._problems += stale_waivers(review(self._settings.waivers, waived, catalogue().keys(), today))
        for file in self._lines.values():
            file.close()
        self._report = FleetReport(
            verdicts=[*self._verdicts.values()],
            expected=len(self._expected),
            shard=str(clusters.shard) if clusters.shard.of > 1 else "",
            started_at=self._started_at,
            seconds=(datetime.now(UTC) - self._started_at).total_seconds(),
            problems=self._problems,
            documents=self._spool.documents if self._spool is not None else tuple,
        )
        for path in self._settings.reports:
            if path.suffix != ".jsonl":
                try:
                    write_file(path, RENDERERS[path.suffix](self._report))
                except Exception as error:  # one format that cannot be written costs no other
                    self._not_written(path, error)
        if self._spool is not None:
            self._spool.close()
        if status == pytest.ExitCode.NO_TESTS_COLLECTED:
            status = int(pytest.ExitCode.OK)
        if status == pytest.ExitCode.OK and self._report.fails:
            status = int(pytest.ExitCode.TESTS_FAILED)
        session.exitstatus = status

    def _not_written(self, path: Path, error: Exception) -> None:
        self._failed.add(path)
        self._problems.append(not_written(f"report {path}", error))


def _is_ours(nodeid: str) -> bool:
    return nodeid.startswith(f"{ROOT}::")


def activate_fleet(config: pytest.Config, invocation: Invocation) -> None:
    """Read the clusters of ``--etcd-clusters``, and register the hooks.

    Raises:
        pytest.UsageError: if the list or a setting of a cluster cannot be used.
    """
    workerinput: Mapping[str, Any] = getattr(config, "workerinput", {})
    interruption = None if is_worker(config) else Interruption.register(config)
    text, clusters = fleet_of(config, invocation, workerinput.get(_LIST))
    items = FleetItems(clusters, invocation.ids, alone=workerinput.get(_ALONE, False))
    config.pluginmanager.register(items, "etcdtls-fleet-items")
    if interruption is None:
        return
    try:
        for cluster in clusters.clusters:
            clusters.settings(cluster)
        _ = run_of(config).checks
    except UsageError as error:
        raise pytest.UsageError(str(error)) from error
    _refuse_unknown(invocation.ids, clusters)
    session = FleetSession(config, invocation, text, clusters, interruption)
    config.pluginmanager.register(session, "etcdtls-fleet")


def fleet_of(
    config: pytest.Config, invocation: Invocation, text: str | None = None
) -> tuple[str, ClusterList]:
    """Return the text of the list, and its clusters.

    Args:
        config: pytest's configuration.
        invocation: the parsed command line.
        text: the list, if the controller sent it to this worker.

    Raises:
        pytest.UsageError: if it cannot be used.
    """
    name, values = invocation.fleet or "-", Values(config)
    try:
        if text is None:
            text = read_list(values, name, lambda: _standard_input(config))
        shard = read_shard(config.getoption("etcd_shard"), os.environ)
        waive = not config.getoption("runxfail", False)
        return text, ClusterList(name, text, values, os.environ, shard, waive=waive)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from error


def _standard_input(config: pytest.Config) -> bytes:
    """Return the content of standard input, which pytest's capture has replaced."""
    capture = config.pluginmanager.get_plugin("capturemanager")
    if capture is not None:
        capture.suspend(in_=True)
    try:
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError("--etcd-clusters -: standard input is a terminal or closed: pipe a list into it")
        return sys.stdin.buffer.read(MAXIMUM_SIZE + 1)
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(f"--etcd-clusters -: standard input cannot be read ({error})") from error
    finally:
        if capture is not None:
            capture.resume()


def _refuse_unknown(ids: Sequence[str], clusters: ClusterList) -> None:
    known = {ROOT, *(f"{ROOT}::{one.label}" for one in clusters.clusters)}
    for name in ids:
        if name not in known:
            raise pytest.UsageError(f"not found: {name}: no cluster of {clusters.where} has that label")
