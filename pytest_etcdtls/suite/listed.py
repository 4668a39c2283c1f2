"""The clusters of ``--etcd-clusters``: each is a run of its own, one after another, or several in workers.

A cluster is one item, because an item for each check takes several kilobytes with its reports, and a list has
hundreds of clusters with hundreds of checks. Within its item a cluster is judged and reported as any other
target, and then dropped. Its row of the table travels to the process that reports, and stays there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec import convert
from msgspec.structs import replace

from pytest_etcdtls.errors import EtcdTLSError, UsageError
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.options import ROOT, VERBOSITY, Invocation
from pytest_etcdtls.profiles.waivers import review
from pytest_etcdtls.report import write_document, write_file
from pytest_etcdtls.report.clusters import (
    CALLED,
    NOT_JUDGED,
    ClusterRow,
    ClusterTable,
    cluster_line,
    render,
    row_of,
    table_summary,
)
from pytest_etcdtls.report.from_run import report_of
from pytest_etcdtls.report.model import Report
from pytest_etcdtls.report.overview import CLEAN
from pytest_etcdtls.report.terminal import verdict
from pytest_etcdtls.report.text import WIDTH, Line
from pytest_etcdtls.run.runner import ENDED_WELL, Run
from pytest_etcdtls.settings.cluster_list import ClusterList, ListedCluster
from pytest_etcdtls.suite.interruptions import Interruption, not_written
from pytest_etcdtls.suite.items import (
    ATTRIBUTE,
    Items,
    Suite,
    SuiteItem,
    SuiteRepr,
    ViolationError,
    subjects_of,
)
from pytest_etcdtls.suite.problems import is_selective, shortcomings
from pytest_etcdtls.suite.reporting import Reporting, call_users_hooks
from pytest_etcdtls.suite.state import clusters_of, is_distributed, is_worker, run_of, send_standard_input
from pytest_etcdtls.suite.waiting import Waiting
from pytest_etcdtls.target import Target
from pytest_etcdtls.untrusted.printable import plural

_LIST: Final = "etcdtls_clusters"
_ALONE: Final = "etcdtls_alone"
"""Inputs of a worker: the text of the list, and whether the command line names nothing else."""
_LONGEST_LABEL: Final = 24


class ClusterJudge:
    """Judges the clusters of a list, one at a time, and writes the report of each."""

    def __init__(self, config: pytest.Config, invocation: Invocation) -> None:
        self._config = config
        self._settings = run_of(config).settings
        self.clusters = clusters_of(config, invocation, getattr(config, "workerinput", {}).get(_LIST))
        self.by_label = {cluster.label: cluster for cluster in self.clusters.clusters}
        self._metrics = any(path.suffix == ".prom" for path in self._settings.reports)
        self._begun: tuple[ListedCluster, Run] | None = None
        """The cluster that is being judged."""

    def judge(self, label: str) -> tuple[ClusterRow, Sequence[Line]]:
        """Return the row of a cluster, and its verdict as a run on it alone shows it."""
        cluster = self.by_label[label]
        try:
            report = self._judge(cluster)
        except pytest.fail.Exception as stopped:  # raised by pytest-timeout in a signal handler
            return self.without_verdict(cluster, f"stopped before a verdict: {stopped}")
        except Exception as error:  # costs no other cluster its verdict
            text = str(error) if isinstance(error, EtcdTLSError) else f"{type(error).__name__}: {error}"
            return self.without_verdict(cluster, f"could not be judged: {text}")
        judged = self._reported(cluster, report)
        self._begun = None
        return judged

    def without_verdict(self, cluster: ListedCluster, why: str) -> tuple[ClusterRow, Sequence[Line]]:
        """Return the row and the verdict of a cluster for a reason that is not in it."""
        self._begun = None
        return self._reported(cluster, self._empty(cluster, f"{cluster.label} {why}"))

    def interrupted(self) -> ClusterRow | None:
        """Return the row of the cluster that was being judged when the run ended, by recorded facts."""
        if self._begun is None:
            return None
        cluster, run = self._begun
        run.judge_recorded()
        report = report_of(run, int(pytest.ExitCode.INTERRUPTED), [])
        return self._reported(cluster, report)[0]

    def not_judged(self, cluster: ListedCluster, why: str) -> ClusterRow:
        """Return the row of a cluster whose turn did not come. It has no report."""
        report = self._empty(cluster, f"not judged: {why}")
        row = row_of(cluster.label, report, metrics=self._metrics, problems=())
        return replace(row, kind=NOT_JUDGED)

    def _empty(self, cluster: ListedCluster, problem: str) -> Report:
        return Report(
            started_at=datetime.now(UTC),
            seconds=0.0,
            partial=True,
            seen=(Recording(Target(label=cluster.label, origin="live", listeners=())),),
            results=(),
            problems=(problem,),
            status=int(pytest.ExitCode.TESTS_FAILED),
            metadata=self._settings.metadata,
        )

    def _judge(self, cluster: ListedCluster) -> Report:
        run = Run(replace(self.clusters.settings(cluster), metadata=self._settings.metadata))
        self._begun = cluster, run
        try:
            run.discover()
            run.judge(subjects_of(run).values())
        finally:
            run.abandon()
        problems = shortcomings(run)
        if "etcd_waivers" in cluster.values:  # else another cluster of the list may need them
            problems += run.reviewed.problems.values()
        status = int(pytest.ExitCode.TESTS_FAILED if run.failed or problems else pytest.ExitCode.OK)
        return report_of(run, status, problems)

    def _reported(self, cluster: ListedCluster, report: Report) -> tuple[ClusterRow, Sequence[Line]]:
        problems = [*call_users_hooks(self._config, report)]
        for directory in self._settings.directories:
            path = directory / cluster.file
            try:
                directory.mkdir(exist_ok=True)
                lost = write_document(report, path)
            except Exception as error:  # costs no verdict
                problems.append(not_written(f"report {path}", error))
            else:
                problems += [f"The report {path} is without {part}." for part in lost]
        row = row_of(cluster.label, report, metrics=self._metrics, problems=problems)
        if row.passes:
            return row, ()
        return row, [*verdict(report, width=WIDTH, verbosity=-2)]


class ClusterItem(SuiteItem):
    """One cluster of a list.

    Attributes:
        row: once it is judged. It is judged once, however often the item is run.
    """

    parent: ClusterSuite
    row: ClusterRow | None = None
    lines: Sequence[Line] = ()

    def setup(self) -> None:
        """Judge the cluster. Without a verdict the item ends here, which pytest shows as an error."""
        if self.config.getoption("setuponly", False):
            return
        if self.row is None:
            self.row, self.lines = self.parent.judge.judge(self.name)
            self.user_properties.append(("etcdtls.verdict", self.row.verdict))
        if not self.row.passes and not self.row.violates:
            raise self._error(self.row)

    def runtest(self) -> None:
        """Fail if the cluster is not clean."""
        if self.row is not None and not self.row.passes:
            raise self._error(self.row)

    def _error(self, row: ClusterRow) -> ViolationError:
        """Return the verdict with the faults and their remedies."""
        return ViolationError(SuiteRepr(row.line, self.path, self.lines, self.lines))

    def complete_report(self, report: pytest.TestReport, call: pytest.CallInfo[None]) -> None:
        """Attach the row to the first report."""
        if self.row is not None and call.when == "setup":
            setattr(report, ATTRIBUTE, self.row)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return the heading of a failure."""
        return self.config.rootpath / ROOT, None, f"cluster {self.name}"


class ClusterSuite(Suite):
    """The root collector of a list."""

    judge: ClusterJudge

    def collect(self) -> Iterator[ClusterItem]:
        """Yield an item for each cluster."""
        for label in self.judge.by_label:
            item: ClusterItem = ClusterItem.from_parent(self, name=label)
            if self.selects(item.nodeid):
                yield item


class ListItems(Items):
    """The hooks of a process that judges clusters of a list."""

    def __init__(self, judge: ClusterJudge, run: Run, ids: Sequence[str], *, alone: bool) -> None:
        super().__init__(run, ids, alone=alone)
        self._judge = judge

    def suite(self, session: pytest.Session) -> Suite:
        """Return a new collector of the suite."""
        suite = ClusterSuite.of(session, self.run, self.ids)
        suite.judge = self._judge
        return suite


class ListSession(Reporting):
    """The hooks of the process that reports, which is no worker."""

    def __init__(
        self, config: pytest.Config, invocation: Invocation, interruption: Interruption, run: Run
    ) -> None:
        super().__init__(config, invocation, interruption, run)
        self.judge = ClusterJudge(config, invocation)
        self._clusters = self.judge.clusters
        self._selected: Sequence[str] = ()
        self._rows: dict[str, ClusterRow] = {}
        self._table: ClusterTable | None = None

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:  # noqa: ANN401 - of xdist
        """Send the list to a worker: standard input can be read only once."""
        node.workerinput |= {_LIST: self._clusters.text, _ALONE: self.invocation.alone}
        send_standard_input(node.config, node.workerinput)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Record the selection."""
        if not is_distributed(self.config):
            self._select(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Record the selection of the workers."""
        self._select(ids)

    def _select(self, ids: Iterable[str]) -> None:
        self._selected = tuple(filter(None, map(self._label, ids)))

    def _label(self, nodeid: str) -> str:
        """Return the label of the cluster with that node id; empty for another item."""
        root, _, label = nodeid.partition("::")
        return label if root == ROOT and label in self.judge.by_label else ""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Keep pytest's reporter from writing the path before the line of a cluster."""
        # It writes the path of an item if that is not its currentfspath.
        if self.terminal is not None and self._label(nodeid):
            self.terminal.currentfspath = self.config.rootpath / ROOT

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record the row of a cluster, and show its line."""
        label, data = self._label(report.nodeid), report.__dict__.pop(ATTRIBUTE, None)
        if not label or label in self._rows or (data is None and not report.failed):
            return
        if data is not None:
            row = convert(data, ClusterRow)  # itself, if this process has judged the cluster
        else:  # the worker crashed, or a hook of another plugin failed
            why = str(report.longrepr).strip().rpartition("\n")[2]
            row, _ = self.judge.without_verdict(self.judge.by_label[label], f"could not be judged: {why}")
        self._add(row)

    def _add(self, row: ClusterRow) -> None:
        self._rows[row.label] = row
        self.problems += row.problems
        if self.terminal is not None and self.config.get_verbosity(VERBOSITY) > -2:
            self._show(self.terminal, row)

    def _show(self, terminal: pytest.TerminalReporter, row: ClusterRow) -> None:
        writer = self.config.get_terminal_writer()
        of = len(self._selected)
        number = f"{len(self._rows):>{len(str(of))}}/{of} "
        longest = min(_LONGEST_LABEL, max(map(len, self._selected), default=0))
        line = cluster_line(row, writer.fullwidth - len(number), longest)
        if terminal.showlongtestinfo:
            terminal.ensure_newline()
        writer.line(number + line.text, **line.markup)

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Return the category in which pytest counts a cluster, whose line is written."""
        if not (label := self._label(report.nodeid)):
            return None
        if report.failed:
            return ("not clean" if report.when == "call" else "without a verdict"), "", ""
        row = self._rows.get(label)
        passed = CALLED[row.kind if row else CLEAN]
        return (passed if report.when == "call" and report.passed else ""), "", ""

    def describe_targets(self) -> Iterator[str]:
        """Yield how many clusters there are, and where from."""
        clusters, shard = self._clusters, self._clusters.shard
        part = f", part {shard}" if shard.of > 1 else ""
        where = clusters.where.removeprefix("--etcd-clusters ")
        yield f"  {where}: {plural(len(clusters.clusters), 'cluster')} of {clusters.total}{part}"

    def finish(self, session: pytest.Session) -> int:
        """Write the reports on all clusters, and return the exit code."""
        status = int(session.exitstatus)
        if (interrupted := self.judge.interrupted()) is not None:
            self._add(interrupted)
        waivers = self._waivers() if status in ENDED_WELL else {}
        if status in ENDED_WELL:
            self.problems += self._run_problems(session)
            self.problems += (text for state, text in waivers.values() if state == "stale")
        if status == pytest.ExitCode.NO_TESTS_COLLECTED:
            status = int(pytest.ExitCode.OK)
        left = [self.judge.by_label[label] for label in self._selected if label not in self._rows]
        ended = "interrupted" if self.interruption.received else "stopped early" if left else ""
        not_judged = [self.judge.not_judged(cluster, f"the run was {ended}") for cluster in left]
        self._table = table = ClusterTable(
            rows=[*self._rows.values(), *not_judged],
            listed=len(self._clusters.clusters),
            shard=str(self._clusters.shard) if self._clusters.shard.of > 1 else "",
            started_at=self.run.settings.started_at,
            seconds=(datetime.now(UTC) - self.run.settings.started_at).total_seconds(),
            problems=self.problems,
            metadata=self.run.settings.metadata,
            ended=ended,
            unused=[source for source, (state, _) in waivers.items() if state == "unused"],
        )
        if status != pytest.ExitCode.USAGE_ERROR:
            self.write_reports(lambda path: write_file(path, render(table, path.suffix)))
            self.written += (f"reports: {path}{os.sep}" for path in self.run.settings.directories)
        if status == pytest.ExitCode.OK and (self.problems or ended):
            status = int(pytest.ExitCode.TESTS_FAILED)
        return status

    def _waivers(self) -> dict[str, tuple[str, str]]:
        """Return the state of each waiver by its source; after a part of the list, of expired ones alone."""
        rows = self._rows.values()
        # A part of a list does not show that a waiver is not needed.
        is_whole = self._clusters.shard.of == 1 and len(rows) == len(self._clusters.clusters)
        states = {
            source: (state, text)
            for wanted in (("unused", "stale", "used") if is_whole else ())
            for row in rows
            for source, (state, text) in row.waivers.items()
            if state == wanted
        }
        today = self.run.settings.started_at.date()
        expired = review(self.run.settings.waivers, (), today).problems
        return states | {source: ("stale", text) for source, text in expired.items()}

    def _run_problems(self, session: pytest.Session) -> Iterator[str]:
        """Yield what fails the run besides clusters, one sentence each."""
        if self._clusters.clusters and not self._selected and not is_selective(session.config):
            yield (
                "--etcd-clusters was given and no cluster was judged: they were deselected (-k, -m, "
                "--deselect, an ini file). --no-etcd-conformance confirms that this is intended."
            )

    def verdict(self, terminal: pytest.TerminalReporter, status: int) -> Iterator[Line]:
        """Yield the verdict on all clusters."""
        if self._table is not None:
            width = self.config.get_terminal_writer().fullwidth
            yield from table_summary(self._table, width=width, written=self.written, status=status)


def activate_list(config: pytest.Config, invocation: Invocation) -> None:
    """Register the suite of a list. Workers of pytest-xdist judge its clusters, if there are some.

    Raises:
        pytest.UsageError: if a setting, a pattern, a node id or the list cannot be used.
    """
    session = None
    if not is_worker(config):
        session = ListSession(config, invocation, Interruption.register(config), run_of(config))
    judge = ClusterJudge(config, invocation) if session is None else session.judge
    alone = getattr(config, "workerinput", {}).get(_ALONE, False)
    items = ListItems(judge, run_of(config), invocation.ids, alone=alone)
    config.pluginmanager.register(items, "etcdtls-items")
    if session is not None:
        _refuse_unusable(judge.clusters, session.run, invocation.ids)
        Waiting.register(config, session.run)
        config.pluginmanager.register(session, "etcdtls-session")


def _refuse_unusable(clusters: ClusterList, run: Run, ids: Sequence[str]) -> None:
    """Read the settings of every cluster before any connection.

    Raises:
        pytest.UsageError: for the first one that cannot be used; for a node id without a cluster.
    """
    try:
        for cluster in clusters.clusters:
            clusters.settings(cluster)
        _ = run.checks
    except UsageError as error:
        raise pytest.UsageError(str(error)) from error
    known = {ROOT, *(f"{ROOT}::{cluster.label}" for cluster in clusters.clusters)}
    for name in ids:
        if name not in known:
            raise pytest.UsageError(f"not found: {name}: no cluster of {clusters.where} has that label")
