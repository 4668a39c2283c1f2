"""The hooks of the suite in a pytest session.

The suite needs no file and no argument: its collector is appended to those of the session, so a run judges
what pytest would run there and the suite. What an item finds travels in its test report to the process that
reports: the CheckResult itself, or the report of a cluster of a list. Only pytest-xdist encodes it. What is
written at the end, and the exit code, come from the ledger.

One target is judged in one process, that of pytest-xdist's controller, since its checks share observations
and limits on connections. The clusters of a list are spread over the workers.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import convert, to_builtins

from pytest_etcdtls._version import __version__
from pytest_etcdtls.document import Document, ResultEntry
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.options import ROOT, Invocation, Values, is_dry
from pytest_etcdtls.report import write_document
from pytest_etcdtls.report.cluster_verdicts import FleetReport, fleet_summary
from pytest_etcdtls.report.model import Report, openssl_version
from pytest_etcdtls.report.terminal import summary, verdict
from pytest_etcdtls.report.text import Line, wrapped
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.runner import Run, TargetRun
from pytest_etcdtls.settings.endpoints import without_scheme
from pytest_etcdtls.suite.interruptions import (
    Interruption,
    not_written,
    show_without_terminal,
    summary_reporter,
)
from pytest_etcdtls.suite.items import (
    CheckItem,
    ClusterItem,
    Suite,
    causes_first,
    refuse_unknown_ids,
    result_repr,
    run_item,
)
from pytest_etcdtls.suite.junit import skip_consequences
from pytest_etcdtls.suite.ledger import Ledger
from pytest_etcdtls.suite.state import (
    clusters_of,
    is_distributed,
    is_worker,
    keep_in_one_process,
    run_of,
    send_standard_input,
)
from pytest_etcdtls.suite.waiting import Waiting
from pytest_etcdtls.target import PortCredentials, Target
from pytest_etcdtls.untrusted import error_text
from pytest_etcdtls.waivers import write_proposal

if TYPE_CHECKING:
    # A run on one target imports none.
    from pytest_etcdtls.settings.cluster_list import ClusterList
    from pytest_etcdtls.suite.clusters import ClusterLedger

_NAMED = 12
"""Maximum number of listeners of a target that the header names, without ``-v``."""


def header(run: Run, *, every: bool) -> Iterator[str]:
    """Yield the lines about the targets.

    Args:
        run: the run.
        every: name every listener.
    """
    for target in run.targets:
        outline = target.outline
        if (source := target.source) is not None:
            yield f"  {outline.label}: {source.kind} of {source.location}, {source.why}"
        else:
            yield from _live(outline, every=every)
    profiles = run.settings.profiles
    if profiles.profiles:
        names = ", ".join(profile.name for profile in profiles.profiles)
        why = f", as {profiles.applied}" if profiles.applied else ""
        yield f"  profile {names}{why}"
    if (plan := run.settings.replay) is not None:
        yield f"  replayed on each: member {plan.label} as {plan.declaration.source} declares it"
        yield from (f"  replayed otherwise: {note}" for note in plan.notes)


def members(run: Run) -> list[str]:
    """Return the lines about the members of a live cluster, with or without discovery."""
    return [
        f"etcd TLS: {target.outline.label}: {_members(target)}"
        for target in run.targets
        if target.outline.discover
    ]


def _members(target: TargetRun) -> str:
    if not target.discovers:
        return "this is what is named; a run that judges adds what --etcd-discover finds"
    members = target.discovery.describe() if target.discovery else "the member list could not be requested"
    return f"{members}; {len(target.outline.listeners)} listeners"


def _live(target: Target, *, every: bool) -> Iterator[str]:
    shown = target.listeners if every else target.listeners[:_NAMED]
    for listener in shown:
        address = f" by way of {':'.join(map(str, listener.connect_to))}" if listener.connect_to else ""
        address += f" via {listener.via.command}" if listener.via else ""
        yield f"  {target.label}: {listener.role} {listener.url}{address}"
    if left := len(target.listeners) - len(shown):
        yield f"  {target.label}: and {left} more listeners: -v names them"
    for other in target.unreached:
        yield f"  {target.label}: not judged: {other.role} listener of {other.member}: {other.reason}"
    for label, declared in sorted(target.declared.items()):
        yield f"  {target.label}: member {label} as {declared.declaration.source} declares it"
    for remark in target.remarks:
        yield f"  {target.label}: not used: {remark}"
    for host, log in sorted(target.logs.items()):
        yield f"  {target.label}: log of {host or 'every member'}: {log.name}"
    if target.discover:
        yield f"  {target.label}: --etcd-discover adds every member that the cluster lists"
    yield from _credentials("client", target.client)
    if target.peer != target.client:
        yield from _credentials("peer", target.peer)


def _credentials(side: str, held: PortCredentials) -> Iterator[str]:
    parts = [
        f"{identity.name} {identity.certificate_file or identity.origin}" for identity in held.identities
    ]
    if held.server_ca:
        parts.append(f"trust {held.server_ca.source}")
    if held.client_trust:
        trusts = "etcd's trusted CAs are looked for in" if held.client_trust.inferred else "etcd trusts"
        parts.append(f"{trusts} {held.client_trust.source}")
    if held.signing_key:
        parts.append(f"CA key {held.signing_key.key_file or held.signing_key.origin}")
    yield f"  {side} credentials: {', '.join(parts) or 'none'}"


TITLE = "etcd TLS conformance"


def show(
    terminal: pytest.TerminalReporter,
    report: Report,
    ledger: Ledger,
    closing: Sequence[str],
) -> bool:
    """Write the summary section; return whether all of it could be.

    Args:
        terminal: pytest's terminal reporter.
        report: report of the run.
        ledger: ledger of the run.
        closing: further lines, such as the files written.
    """
    width = terminal.config.get_terminal_writer().fullwidth
    terminal.write_sep("=", TITLE)
    whole = _write(
        terminal,
        summary(report, ledger.review_waivers(), width=width, verbosity=terminal.verbosity),
    )
    for line in ["", *closing] if closing else ():
        terminal.write_line(line)
    return whole


def _write(terminal: pytest.TerminalReporter, lines: Iterable[Line]) -> bool:
    whole = True
    for line in lines:
        terminal.write_line(line.text, **line.markup)
        whole &= not line.lost
    return whole


CONSEQUENCE = "consequent"
"""Category of failed items whose violation follows from another one, in the counts of pytest's last line."""

ATTRIBUTE = "etcdtls"
"""Attribute of a test report with what its item found: a CheckResult, or the document of a cluster."""

_LIST = "etcdtls_clusters"
_ALONE = "etcdtls_alone"
"""Inputs of a worker: the text of the list, and whether the command line names nothing else."""

_DECODING = threading.Lock()
"""Held while a report is decoded: pytest-xdist does it in a thread for each worker (WorkerController,
process_from_remote), and msgspec crashes if two threads use a type for the first time."""


class Items:
    """The hooks of a process that judges.

    Args:
        run: the run.
        clusters: what judges each cluster of a list, by label; they are judged instead of the run's targets.
        ids: node ids to collect, empty for all.
        alone: collect nothing else.
    """

    def __init__(
        self,
        run: Run,
        clusters: Mapping[str, Callable[[], Document]] | None,
        ids: Sequence[str],
        *,
        alone: bool,
    ) -> None:
        self._run = run
        self._clusters = clusters
        self._ids = ids
        self._alone = alone

    def suite(self, session: pytest.Session) -> Suite:
        """Return a new collector of the suite. The members of a live cluster are discovered before.

        Raises:
            pytest.UsageError: if a given node id matches no discovered member.
        """
        if self._clusters is None:
            self._run.discover()
            refuse_unknown_ids(self._run, self._ids)
        return Suite.of(session, self._run, self._clusters, self._ids)

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Append the suite to the session's collectors. It needs no path on the command line."""
        report = yield
        if isinstance(collector, pytest.Session):
            others = [] if self._alone else report.result
            report.result = [*others, self.suite(collector)]
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None, object, object]:
        """Run causes before what follows from them.

        The items are put in this order before other plugins see them, since --stepwise leaves out what comes
        before the last failure, and again afterwards, since others shuffle them.
        """
        _order(items)
        changed = yield
        _order(items)
        return changed

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Attach what was found to the report, and replace the traceback with the result's text."""
        report: Any = yield
        if isinstance(item, ClusterItem) and item.document is not None:
            setattr(report, ATTRIBUTE, item.document)
            item.document = None
        result = item.result if isinstance(item, CheckItem) else None
        if result is not None:
            setattr(report, ATTRIBUTE, result)
            if call.excinfo and result.outcome is Outcome.INCONCLUSIVE:
                report.longrepr = result_repr(result, item.path)  # also if pytest-timeout stopped it
            if call.excinfo and call.excinfo.errisinstance(pytest.xfail.Exception):
                # As pytest's plugin skipping does it, which -p no:skipping disables.
                report.outcome, report.wasxfail = "skipped", f"reason: {result.reason}"
        return report  # type: ignore[no-any-return]

    @pytest.hookimpl(wrapper=True)
    def pytest_report_to_serializable(
        self, report: pytest.CollectReport | pytest.TestReport
    ) -> Generator[None, dict[str, Any] | None, dict[str, Any] | None]:
        """Encode what a report carries that leaves this process or is written to a file."""
        data = yield
        carried = _carried(report)
        if data is None or carried is None:
            return data
        entry = ResultEntry.of(carried) if isinstance(carried, CheckResult) else carried
        return {**data, ATTRIBUTE: to_builtins(entry)}


def _order(items: list[pytest.Item]) -> None:
    """Put causes before what follows from them, in the places that our items have."""
    ours = iter(causes_first([item for item in items if isinstance(item, CheckItem)]))
    items[:] = [next(ours) if isinstance(item, CheckItem) else item for item in items]


class SuiteSession:
    """The hooks of the process that reports, which is no worker.

    Args:
        config: pytest's configuration.
        invocation: the parsed command line.
        ledger: the ledger that stores the results.
        interruption: the handler of signals.
        text: the text of the list of clusters.
    """

    def __init__(
        self,
        config: pytest.Config,
        invocation: Invocation,
        ledger: Ledger | ClusterLedger,
        interruption: Interruption,
        text: str = "",
    ) -> None:
        self._config = config
        self._invocation = invocation
        self._run = ledger.run
        self.ledger = ledger
        self._interruption = interruption
        self._text = text
        self._report: Report | FleetReport | None = None
        self._problems: list[str] = []
        self._written: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionstart(self) -> Generator[None, object, object]:
        """Open the reports that are written while the run goes on."""
        if not isinstance(self.ledger, Ledger) and not is_dry(self._config):
            self.ledger.open()
            self._config.add_cleanup(self.ledger.close)
        return (yield)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:  # noqa: ANN401 - of xdist
        """Send the list to a worker: standard input can be read only once."""
        if not isinstance(self.ledger, Ledger):
            node.workerinput |= {_LIST: self._text, _ALONE: self._invocation.alone}
            send_standard_input(node.config, node.workerinput)

    def select(self, items: Iterable[pytest.Item]) -> None:
        """Record the items that remain to be run."""
        if isinstance(self.ledger, Ledger):
            self.ledger.select({item.nodeid: item.subject for item in items if isinstance(item, CheckItem)})
        else:
            self.ledger.selected = frozenset(item.name for item in items if isinstance(item, ClusterItem))

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Record the selection."""
        if not is_distributed(self._config):
            self.select(session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Record which clusters the workers judge."""
        if not isinstance(self.ledger, Ledger):
            self.ledger.selected = frozenset(map(_label, filter(_is_ours, ids)))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Keep pytest's reporter from writing the path before the line of a cluster."""
        # It writes the path of an item if that is not its currentfspath.
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if not isinstance(self.ledger, Ledger) and terminal is not None and _is_ours(nodeid):
            terminal.currentfspath = self._config.rootpath / ROOT

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, object, object]:
        """Record the result, or the verdict on a cluster."""
        if not isinstance(self.ledger, Ledger):
            self._record_cluster(report, self.ledger)
            return (yield)
        result = _carried(report)
        if result is not None:
            self.ledger.record(report.nodeid, result)
        ended = yield
        # pytest's reporter keeps the reports of passed set-ups and teardowns under an empty key, and ignores
        # them: two for each check, with its whole result.
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if result is not None and terminal is not None and report.passed and not report.sections:
            kept = terminal.stats.get("", [])
            if kept and kept[-1] is report:
                kept.pop()
        return ended

    def _record_cluster(self, report: pytest.TestReport, ledger: ClusterLedger) -> None:
        """Record the verdict on a cluster, write its report and show its line."""
        if not _is_ours(report.nodeid):
            return
        label, document = _label(report.nodeid), report.__dict__.pop(ATTRIBUTE, None)
        if label in ledger.verdicts or (document is None and not report.failed):
            return
        if document is None:  # the worker crashed, or a hook of another plugin failed
            ledger.record_failure(label, str(report.longrepr).strip().rpartition("\n")[2])
        else:
            ledger.record(label, document)
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None and self._config.get_verbosity() > -2:
            writer = self._config.get_terminal_writer()
            line = ledger.line(label, writer.fullwidth)
            if terminal.showlongtestinfo:
                terminal.ensure_newline()
            writer.line(line.text, **line.markup)

    @pytest.hookimpl(wrapper=True)
    def pytest_report_from_serializable(
        self, data: Mapping[str, Any]
    ) -> Generator[None, pytest.TestReport | None, pytest.TestReport | None]:
        """Decode what a report of another process carries."""
        encoded = data.get(ATTRIBUTE)
        report = yield
        if report is not None and encoded is not None:
            is_result = "check" in encoded
            with _DECODING:
                carried = convert(encoded, ResultEntry).result() if is_result else convert(encoded, Document)
            setattr(report, ATTRIBUTE, carried)
        return report

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, Any] | None:
        """Return the category of a cluster, of a warning and of a violation that follows from another one."""
        if not isinstance(self.ledger, Ledger):
            return _cluster_status(report, self.ledger) if _is_ours(report.nodeid) else None
        result = _carried(report)
        if result and report.when == "call" and report.passed and result.outcome is Outcome.WARNS:
            return "passed", "w", ("WARNS", {"yellow": True})
        recorded = self.ledger.result(report.nodeid)
        follows = recorded and recorded.outcome is Outcome.VIOLATES and recorded.cause
        if follows and report.when == "call" and report.failed:
            return CONSEQUENCE, "f", ("FOLLOWS", {"red": True})
        return None

    def pytest_report_header(self) -> list[str]:
        """Return the header: what is judged."""
        lines = [
            f"etcd TLS: pytest-etcdtls {__version__}, {openssl_version()}, {len(self._run.checks)} checks"
        ]
        if not isinstance(self.ledger, Ledger):
            return [*lines, f"  {self.ledger.header()}"]
        lines += header(self._run, every=self._config.get_verbosity() > 0)
        if self._run.settings.live is not None:
            lines += (f"  {text}" for text in without_scheme(Values(self._config)))
        width = self._config.get_terminal_writer().fullwidth
        indented = ((line[: len(line) - len(line.lstrip())], line.strip()) for line in lines)
        return [line.text for indent, text in indented for line in wrapped(text, width, indent, "    ")]

    def pytest_report_collectionfinish(self) -> list[str]:
        """Return the lines about the discovered members."""
        return members(self._run) if isinstance(self.ledger, Ledger) else []

    def _call_users_hooks(self, report: Report) -> None:
        """Call the users' hooks with the results of each target; what they raise fails the run."""
        for seen in report.seen:
            label = seen.target.label
            results = [result for result in report.results if result.target == label]
            faults = [one for one in results if one.outcome is Outcome.VIOLATES and one.cause is None]
            try:
                self._config.hook.pytest_etcdtls_judged(
                    config=self._config, target=seen.target, results=results, faults=faults
                )
            except Exception as error:  # a user's code must not cost the report
                self._problems.append(f"A hook pytest_etcdtls_judged failed on {label}: {error_text(error)}.")

    def _finish(self, session: pytest.Session) -> None:
        self._run.abandon()
        ledger = self.ledger
        if isinstance(ledger, Ledger):
            if self._interruption.received is not None:
                ledger.judge_recorded()
            ledger.record_failed_starts()
        if is_dry(self._config):
            return
        self._problems = [*ledger.problems(session, self._invocation)]
        status = ledger.exit_status(int(session.exitstatus), self._problems)
        if status != pytest.ExitCode.USAGE_ERROR:
            self._report = ledger.report(status, self._problems)
            if isinstance(self._report, Report):
                self._call_users_hooks(self._report)
                self._propose_waivers(self._report)
            self._write(self._report)
            status = ledger.exit_status(status, self._problems)
        session.exitstatus = status

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        """Set the exit code and write the reports; show the verdict after everything else."""
        with self._interruption.held():
            self._finish(session)
        yield
        if junit := self._config.getoption("xmlpath", None):
            skip_consequences(
                self._config.invocation_params.dir / Path(os.path.expandvars(junit)).expanduser()
            )
        terminal = summary_reporter(self._config)
        with self._interruption.held():
            if terminal is None:
                show_without_terminal(self._problems)
            elif self._report is not None:
                terminal.write_line("")
                _write(terminal, self._verdict(terminal, self._report, int(session.exitstatus)))

    def _verdict(
        self, terminal: pytest.TerminalReporter, report: Report | FleetReport, status: int
    ) -> Iterator[Line]:
        width = self._config.get_terminal_writer().fullwidth
        if isinstance(report, Report):
            return verdict(report, self._problems, status, width=width, quiet=terminal.verbosity < 0)
        return fleet_summary(report, width=width, written=self._written, status=status)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the summary of a run. That of a list is its verdict."""
        if not isinstance(self._report, Report) or not isinstance(self.ledger, Ledger):
            return
        with self._interruption.held():
            session = self._config.pluginmanager.get_plugin("session")
            whole = show(terminalreporter, self._report, self.ledger, self._written)
            if not whole and session is not None and session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _propose_waivers(self, report: Report) -> None:
        path = self._run.settings.write_waivers
        if path is None:
            return
        if not report.faults:
            self._written.append(f"no waivers are proposed in {path}: there is no fault")
            return
        try:
            write_proposal(path, report.faults, report.started_at.date())
        except OSError as error:
            self._problems.append(not_written(f"waivers {path}", error))
        else:
            self._written.append(f"waivers to give reasons: {path}")

    def _write(self, report: Report | FleetReport) -> None:
        for path in self._run.settings.reports:
            lost: list[str] = []
            try:
                if isinstance(report, Report):
                    lost = write_document(report, path)
                elif not isinstance(self.ledger, Ledger):
                    self.ledger.write(report, path)
            except Exception as error:  # one format that cannot be written costs no other
                self._problems.append(not_written(f"report {path}", error))
            else:
                if isinstance(self.ledger, Ledger) or path not in self.ledger.unwritten:
                    self._written.append(f"report: {path}")
                self._problems += [f"The report {path} is without {part}." for part in lost]


def _carried(report: object) -> Any:  # noqa: ANN401 - a CheckResult, or a document
    return getattr(report, ATTRIBUTE, None)


def _is_ours(nodeid: str) -> bool:
    return nodeid.startswith(f"{ROOT}::")


def _label(nodeid: str) -> str:
    """Return the label of the cluster with that node id."""
    return nodeid.removeprefix(f"{ROOT}::")


def _cluster_status(report: pytest.TestReport, ledger: ClusterLedger) -> tuple[str, str, str]:
    """Return the category in which pytest counts a cluster, whose line was written when it was recorded."""
    if report.failed:
        return ("not clean" if report.when == "call" else "without a verdict"), "", ""
    verdict = ledger.verdicts.get(_label(report.nodeid))
    passed = "clean" if verdict is None or verdict.is_clean else "without a fault from outside"
    return (passed if report.when == "call" and report.passed else ""), "", ""


class Distribution:
    """Runs the checks of the suite in the process that controls pytest-xdist's workers.

    Args:
        config: pytest's configuration.
        items: the hooks that judge.
        session: the hooks that report.
    """

    def __init__(self, config: pytest.Config, items: Items, session: SuiteSession) -> None:
        self._config = config
        self._collecting = items
        self._session = session
        self._items: list[pytest.Item] = []
        self._distributed: int | None = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, bool | None, bool | None]:
        """Run our items, then those of the workers."""
        self._items = items = list(session.genitems(self._collecting.suite(session)))
        self._config.hook.pytest_collection_modifyitems(session=session, config=self._config, items=items)
        self._session.select(items)
        session.testscollected = len(items)
        for item, following in zip_longest(items, items[1:]):
            run_item(item, following)
        return (yield)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Record the number of the workers' tests, which xdist uses as the total."""
        self._distributed = len(ids)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self) -> None:
        """Correct the total number of tests, from which the progress is computed."""
        session: pytest.Session | None = self._config.pluginmanager.get_plugin("session")
        if session is not None and session.testscollected == self._distributed:
            session.testscollected += len(self._items)
            self._distributed = None


def activate(config: pytest.Config, invocation: Invocation) -> None:
    """Register the suite. An xdist worker judges only clusters of a list.

    Raises:
        pytest.UsageError: if a setting, a pattern, a node id or the list cannot be used.
    """
    if invocation.fleet is not None:
        _activate_list(config, invocation)
        return
    if is_worker(config):
        return
    # Before the run: the last cleanup to be added is the first to be done, and it stops the owned clusters.
    interruption = Interruption.register(config)
    run = run_of(config)
    refuse_unknown_ids(run, invocation.ids)
    Waiting.register(config, run)
    items = Items(run, None, invocation.ids, alone=False)
    session = SuiteSession(config, invocation, Ledger(run), interruption)
    config.pluginmanager.register(items, "etcdtls-items")
    config.pluginmanager.register(session, "etcdtls-session")
    if invocation.alone:
        keep_in_one_process(config)
    if is_distributed(config):
        config.pluginmanager.register(Distribution(config, items, session), "etcdtls-distribution")


def _activate_list(config: pytest.Config, invocation: Invocation) -> None:
    # Imported here: a run on one target reads no list.
    from pytest_etcdtls.suite.clusters import ClusterJudge, ClusterLedger, Contacting

    received = getattr(config, "workerinput", {})
    interruption = None if is_worker(config) else Interruption.register(config)
    run = run_of(config)
    text, clusters = clusters_of(config, invocation, received.get(_LIST))
    judges = {cluster.label: ClusterJudge(clusters, cluster) for cluster in clusters.clusters}
    by_label = {label: judge.judge for label, judge in judges.items()}
    items = Items(run, by_label, invocation.ids, alone=received.get(_ALONE, False))
    config.pluginmanager.register(items, "etcdtls-items")
    ordered = interruption is not None and not is_dry(config) and not is_distributed(config)
    config.pluginmanager.register(Contacting(judges, ordered=ordered), "etcdtls-contacting")
    if interruption is not None:
        _refuse_unusable(clusters, run, invocation.ids)
        ledger = ClusterLedger(clusters, run)
        Waiting.register(config, run, lambda: f"{len(ledger.verdicts)} of {len(judges)} clusters judged")
        session = SuiteSession(config, invocation, ledger, interruption, text)
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
