"""The hooks of the suite in a pytest session.

The suite needs no file and no argument: its collector is appended to those of the session, so a run judges
what pytest would run there and the suite. The result of an item travels in its test report, as the
CheckResult itself, to the process that reports; only pytest-xdist encodes it. What is written at the end, and
the exit code, come from the ledger.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import pytest

from pytest_etcdtls._version import __version__
from pytest_etcdtls.options import Invocation, is_dry
from pytest_etcdtls.report import write_document
from pytest_etcdtls.report.model import Report, openssl_version
from pytest_etcdtls.report.terminal import summary, verdict
from pytest_etcdtls.report.text import Line, wrapped
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.runner import Run, TargetRun
from pytest_etcdtls.suite.interruptions import (
    Interruption,
    not_written,
    show_without_terminal,
    summary_reporter,
)
from pytest_etcdtls.suite.items import (
    CheckItem,
    ResultError,
    ResultRepr,
    Suite,
    refuse_unknown_ids,
    run_item,
)
from pytest_etcdtls.suite.ledger import Ledger, exit_status, gather, problems
from pytest_etcdtls.suite.state import is_distributed, is_worker, keep_in_one_process, run_of
from pytest_etcdtls.target import PortCredentials, Target
from pytest_etcdtls.untrusted import error_text
from pytest_etcdtls.waivers import write_proposal

_NAMED = 12
"""Maximum number of listeners of a target that the header names, without ``-v``."""


def header(run: Run, width: int, *, every: bool) -> list[str]:
    """Return the lines of the header.

    Args:
        run: the run.
        width: characters per line. A longer word, such as the path of a file, is not broken.
        every: name every listener.
    """
    lines = [f"etcd TLS: pytest-etcdtls {__version__}, {openssl_version()}, {len(run.checks)} checks"]
    for target in run.targets:
        outline = target.outline
        if (source := target.source) is not None:
            lines.append(f"  {outline.label}: {source.kind} of {source.location}, {source.why}")
        else:
            lines += _live(outline, every=every)
    if (plan := run.settings.replay) is not None:
        lines.append(f"  replayed on each: member {plan.label} as {plan.declaration.source} declares it")
        lines += [f"  replayed otherwise: {note}" for note in plan.notes]
    indented = ((line[: len(line) - len(line.lstrip())], line.strip()) for line in lines)
    return [line.text for indent, text in indented for line in wrapped(text, width, indent, "    ")]


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
    parts = [f"{identity.name} {identity.certificate_file}" for identity in held.identities]
    if held.server_ca:
        parts.append(f"trust {held.server_ca.source}")
    if held.client_trust:
        trusts = "etcd's trusted CAs are looked for in" if held.client_trust.inferred else "etcd trusts"
        parts.append(f"{trusts} {held.client_trust.source}")
    if held.signing_key:
        parts.append(f"CA key {held.signing_key.key_file}")
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


def show_verdict(
    terminal: pytest.TerminalReporter, report: Report, problems: Sequence[str], status: int
) -> None:
    """Write the verdict.

    Args:
        terminal: pytest's terminal reporter.
        report: report of the run.
        problems: problems that fail the run in addition to results.
        status: the exit code.
    """
    width = terminal.config.get_terminal_writer().fullwidth
    terminal.write_line("")
    _write(terminal, verdict(report, problems, status, width=width, quiet=terminal.verbosity < 0))


def _write(terminal: pytest.TerminalReporter, lines: Iterable[Line]) -> bool:
    whole = True
    for line in lines:
        terminal.write_line(line.text, **line.markup)
        whole &= not line.lost
    return whole


CONSEQUENCE = "consequences"
"""Category of failed items whose violation follows from another one, in the counts of pytest's last line."""

ATTRIBUTE = "etcdtls"
"""Attribute of a test report that holds its :class:`CheckResult`."""


def _result_of(report: object) -> CheckResult | None:
    return getattr(report, ATTRIBUTE, None)


class SuiteSession:
    """The hooks of the process that runs the checks.

    Args:
        config: pytest's configuration.
        invocation: the parsed command line.
        run: the run.
        ledger: the ledger that stores the results.
        interruption: the handler of signals.
    """

    def __init__(
        self,
        config: pytest.Config,
        invocation: Invocation,
        run: Run,
        ledger: Ledger,
        interruption: Interruption,
    ) -> None:
        self._config = config
        self._invocation = invocation
        self._run = run
        self.ledger = ledger
        self._interruption = interruption
        self._report: Report | None = None
        self._problems: list[str] = []
        self._written: list[str] = []

    def suite(self, session: pytest.Session) -> Suite:
        """Return a new collector of the suite. The members of a live cluster are discovered before.

        Raises:
            pytest.UsageError: if a given node id matches no discovered member.
        """
        self._run.discover()
        refuse_unknown_ids(self._run, self._invocation.ids)
        return Suite.of(session, self._run, self._invocation.ids)

    def select(self, items: Iterable[pytest.Item]) -> None:
        """Record the items that remain to be run."""
        selected = [item for item in items if isinstance(item, CheckItem)]
        self.ledger.select(selected)
        self._run.select(
            frozenset((item.target.outline.label, item.label, item.check.id) for item in selected)
        )

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Append the suite to the session's collectors. It needs no path on the command line."""
        report = yield
        if isinstance(collector, pytest.Session):
            report.result.append(self.suite(collector))
        return report

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Record the selection."""
        if not is_distributed(self._config):
            self.select(session.items)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Attach the result to the report, and replace the traceback with the result's text."""
        report: Any = yield
        result = item.result if isinstance(item, CheckItem) else None
        if result is not None:
            setattr(report, ATTRIBUTE, result)
            if call.excinfo and (
                call.excinfo.errisinstance(ResultError) or result.outcome is Outcome.INCONCLUSIVE
            ):
                report.longrepr = ResultRepr(result, item.path)
            if call.excinfo and call.excinfo.errisinstance(pytest.xfail.Exception):
                # As pytest's plugin skipping does it, which -p no:skipping disables.
                report.outcome, report.wasxfail = "skipped", f"reason: {result.reason}"
        return report  # type: ignore[no-any-return]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, object, object]:
        """Record the result."""
        result = _result_of(report)
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

    @pytest.hookimpl(wrapper=True)
    def pytest_report_to_serializable(
        self, report: pytest.CollectReport | pytest.TestReport
    ) -> Generator[None, dict[str, Any] | None, dict[str, Any] | None]:
        """Encode the result of a report that leaves this process or is written to a file."""
        data = yield
        result = _result_of(report)
        return data if data is None or result is None else {**data, ATTRIBUTE: result.to_json()}

    @pytest.hookimpl(wrapper=True)
    def pytest_report_from_serializable(
        self, data: Mapping[str, Any]
    ) -> Generator[None, pytest.TestReport | None, pytest.TestReport | None]:
        """Decode the result of a report of another process."""
        encoded = data.get(ATTRIBUTE)
        report = yield
        if report is not None and encoded is not None:
            setattr(report, ATTRIBUTE, CheckResult.from_json(encoded))
        return report

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, Any] | None:
        """Show a passed item with a warning as a warning."""
        result = _result_of(report)
        if result and report.when == "call" and report.passed and result.outcome is Outcome.WARNS:
            return "passed", "w", ("WARNS", {"yellow": True})
        recorded = self.ledger.result(report.nodeid)
        follows = recorded and recorded.outcome is Outcome.VIOLATES and recorded.cause
        if follows and report.when == "call" and report.failed:
            return CONSEQUENCE, "f", ("FOLLOWS", {"red": True})
        return None

    def pytest_report_header(self) -> list[str]:
        """Return the header: the targets and their etcd."""
        width = self._config.get_terminal_writer().fullwidth
        return header(self._run, width, every=self._config.get_verbosity() > 0)

    def pytest_report_collectionfinish(self) -> list[str]:
        """Return the lines about the discovered members."""
        return members(self._run)

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
        if self._interruption.received is not None:
            self.ledger.judge_recorded()
        self.ledger.record_failed_starts()
        self._problems = problems(session, self._invocation, self.ledger)
        status = exit_status(int(session.exitstatus), self.ledger, self._problems)
        if not is_dry(self._config) and status != pytest.ExitCode.USAGE_ERROR:
            self._report = gather(self._run, self.ledger, status, self._problems)
            self._call_users_hooks(self._report)
            self._propose_waivers(self._report)
            self._write(self._report)
            status = exit_status(status, self.ledger, self._problems)
        session.exitstatus = status

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        """Set the exit code and write the reports; show the verdict after everything else."""
        with self._interruption.held():
            self._finish(session)
        yield
        terminal = summary_reporter(self._config)
        with self._interruption.held():
            if terminal is None:
                show_without_terminal(self._problems)
            elif self._report is not None:
                show_verdict(terminal, self._report, self._problems, int(session.exitstatus))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the summary."""
        if self._report is None:
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

    def _write(self, report: Report) -> None:
        for path in self._run.settings.reports:
            try:
                lost = write_document(report, path)
            except Exception as error:  # one format that cannot be written costs no other
                self._problems.append(not_written(f"report {path}", error))
            else:
                self._written.append(f"report: {path}")
                self._problems += [f"The report {path} is without {part}." for part in lost]


class Distribution:
    """Runs the items of the suite in the process that controls pytest-xdist's workers.

    Args:
        config: pytest's configuration.
        suite: the hooks of this process.
    """

    def __init__(self, config: pytest.Config, suite: SuiteSession) -> None:
        self._config = config
        self._suite = suite
        self._items: list[pytest.Item] = []
        self._distributed: int | None = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, bool | None, bool | None]:
        """Run our items, then those of the workers."""
        self._items = items = list(session.genitems(self._suite.suite(session)))
        self._config.hook.pytest_collection_modifyitems(session=session, config=self._config, items=items)
        self._suite.select(items)
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
    """Register the suite. An xdist worker does not run it.

    Raises:
        pytest.UsageError: if a setting, a pattern or a node id cannot be used.
    """
    if is_worker(config):
        return
    # Before the run: the last cleanup to be added is the first to be done, and it stops the owned clusters.
    interruption = Interruption.register(config)
    run = run_of(config)
    refuse_unknown_ids(run, invocation.ids)
    ledger = Ledger(run)
    suite = SuiteSession(config, invocation, run, ledger, interruption)
    config.pluginmanager.register(suite, "etcdtls-session")
    if invocation.alone:
        keep_in_one_process(config)
    if is_distributed(config):
        config.pluginmanager.register(Distribution(config, suite), "etcdtls-distribution")
