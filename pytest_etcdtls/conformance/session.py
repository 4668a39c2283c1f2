"""The suite's part in a pytest session: collection, reports, the summary, the exit code.

Judges nothing itself: items do, and what they came to is read from the reports.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable
from typing import Any

import pytest

from pytest_etcdtls.conformance.closing import exit_status, gather, problems
from pytest_etcdtls.conformance.display import show, show_without_terminal
from pytest_etcdtls.conformance.distribution import is_distributed
from pytest_etcdtls.conformance.failures import NoVerdictError, ResultRepr, ViolationError
from pytest_etcdtls.conformance.headers import header, members
from pytest_etcdtls.conformance.ledger import Ledger
from pytest_etcdtls.conformance.naming import refuse_unknown_ids
from pytest_etcdtls.conformance.nodes import CheckItem, Suite
from pytest_etcdtls.options.invocation import Invocation, is_dry
from pytest_etcdtls.report.document import write_document
from pytest_etcdtls.report.model import Report
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.run import Run

ATTRIBUTE = "etcdtls"
"""Of a test report: the result as JSON."""


class SuiteSession:
    """Hooks of the process that judges.

    Args:
        config: pytest's.
        invocation: what the command line asks for.
        run: what is judged.
        ledger: where results are kept.
    """

    def __init__(self, config: pytest.Config, invocation: Invocation, run: Run, ledger: Ledger) -> None:
        self._config = config
        self._invocation = invocation
        self._run = run
        self.ledger = ledger
        self._report: Report | None = None
        self._problems: list[str] = []
        self._written: list[str] = []

    def suite(self, session: pytest.Session) -> Suite:
        """Return a new collector of the suite; a live cluster is asked for its members by now.

        Raises:
            pytest.UsageError: if an id was named that no member that was found has.
        """
        self._run.discover()
        refuse_unknown_ids(self._run, self._invocation.ids)
        return Suite.of(session, self._run, self._invocation.ids)

    def select(self, items: Iterable[pytest.Item]) -> None:
        """Note which items are left to be run."""
        self.ledger.select(item for item in items if isinstance(item, CheckItem))

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Append the suite to what the session collects; no path is added for it."""
        report = yield
        if isinstance(collector, pytest.Session):
            report.result.append(self.suite(collector))
        return report

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note the selection."""
        if not is_distributed(self._config):
            self.select(session.items)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Put the result on the report, and the result's words in the place of a traceback."""
        report: Any = yield
        result = item.result if isinstance(item, CheckItem) else None
        if result is not None:
            setattr(report, ATTRIBUTE, json.dumps(result.to_json()))
            if call.excinfo and (
                call.excinfo.errisinstance((NoVerdictError, ViolationError))
                or result.outcome is Outcome.INCONCLUSIVE
            ):
                report.longrepr = ResultRepr(result)
        return report  # type: ignore[no-any-return]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record the result."""
        if text := getattr(report, ATTRIBUTE, None):
            self.ledger.record(report.nodeid, CheckResult.from_json(json.loads(text)))

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, Any] | None:
        """Show a warning as such among what passed."""
        text = getattr(report, ATTRIBUTE, None)
        if text and report.when == "call" and report.passed and json.loads(text)["outcome"] == Outcome.WARNS:
            return "passed", "w", ("WARNS", {"yellow": True})
        return None

    def pytest_report_header(self) -> list[str]:
        """Say what is judged, with what."""
        return header(self._run)

    def pytest_report_collectionfinish(self) -> list[str]:
        """Say which members were found."""
        return members(self._run)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Set the exit code and write the reports, after Ctrl-C as well."""
        self._problems = problems(session, self._invocation, self.ledger)
        status = exit_status(int(session.exitstatus), self.ledger, self._problems)
        if not is_dry(self._config) and status != pytest.ExitCode.USAGE_ERROR:
            self._report = gather(self._run, self.ledger, status)
            self._write(self._report)
            status = exit_status(status, self.ledger, self._problems)
        session.exitstatus = status
        if not self._config.pluginmanager.has_plugin("terminalreporter") or self._config.option.no_summary:
            show_without_terminal(self._problems)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show what came of it."""
        if self._report is not None:
            show(terminalreporter, self._report, self.ledger, self._written, self._problems)

    def _write(self, report: Report) -> None:
        for path in self._run.settings.reports:
            try:
                write_document(report, path)
            except OSError as error:
                self._problems.append(f"The report {path} could not be written: {error.strerror}.")
            else:
                self._written.append(f"report: {path}")
