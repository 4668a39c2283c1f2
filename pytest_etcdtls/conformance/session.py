"""The suite's part in a pytest session: collection, reports, the summary, the exit code.

Judges nothing itself: items do, and what they came to is read from the reports.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Iterable
from typing import Any

import pytest

from pytest_etcdtls.conformance.distribution import is_distributed
from pytest_etcdtls.conformance.failures import NoVerdict, ResultRepr, Violation
from pytest_etcdtls.conformance.ledger import Ledger
from pytest_etcdtls.conformance.nodes import CheckItem, Suite
from pytest_etcdtls.options.invocation import Invocation
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

    def suite(self, session: pytest.Session) -> Suite:
        """Return a new collector of the suite."""
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
                call.excinfo.errisinstance((NoVerdict, Violation)) or result.outcome is Outcome.INCONCLUSIVE
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

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Set the exit code and write the reports."""
        problems = self.problems()
        status = int(session.exitstatus)
        if status == pytest.ExitCode.NO_TESTS_COLLECTED and self.ledger.judged:
            status = pytest.ExitCode.TESTS_FAILED if self.ledger.failed else pytest.ExitCode.OK
        if problems and status in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            status = pytest.ExitCode.TESTS_FAILED
        session.exitstatus = status

    def problems(self) -> list[str]:
        """Return what fails the run besides results."""
        return []
