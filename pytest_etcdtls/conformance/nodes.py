"""The collection tree of the suite, and the item that judges.

An item's outcome is its check's result, whatever fixtures, modules and files the user has. Connections
are made in set-up alone, and only if something is to be run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

import pytest_etcdtls
from pytest_etcdtls.conformance.failures import NoVerdictError, ViolationError
from pytest_etcdtls.options.invocation import ROOT
from pytest_etcdtls.registry import Check
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.run import Run, TargetRun

_PACKAGE = Path(pytest_etcdtls.__file__).parent


class Suite(pytest.Collector):
    """All that is judged, with node id ``etcdtls``."""

    run: Run
    ids: Sequence[str]

    @classmethod
    def of(cls, session: pytest.Session, run: Run, ids: Sequence[str]) -> Self:
        """Return the suite of a run.

        Args:
            session: its parent.
            run: what is judged.
            ids: node ids or their prefixes, to collect these alone; empty for all.
        """
        suite: Self = cls.from_parent(session, name=ROOT, path=_PACKAGE, nodeid=ROOT)
        suite.run, suite.ids = run, ids
        suite.add_marker(pytest.mark.etcdtls)
        return suite

    def collect(self) -> Iterator[pytest.Collector]:
        """Yield the targets."""
        for target in self.run.targets:
            node: TargetNode = TargetNode.from_parent(self, name=target.outline.label)
            node.target = target
            yield node

    def selects(self, nodeid: str) -> bool:
        """Return whether an item was named, if any were."""
        return not self.ids or any(nodeid == name or nodeid.startswith(f"{name}::") for name in self.ids)


class TargetNode(pytest.Collector):
    """One target."""

    target: TargetRun
    parent: Suite

    def collect(self) -> Iterator[pytest.Collector]:
        """Yield the listeners that any selected check judges, last the target as a whole."""
        for label, checks in self.target.subjects(self.parent.run.checks):
            if checks:
                node: ListenerNode = ListenerNode.from_parent(self, name=label)
                node.checks = checks
                yield node


class ListenerNode(pytest.Collector):
    """One listener, or the target as a whole."""

    checks: Sequence[Check]
    parent: TargetNode

    def collect(self) -> Iterator[pytest.Item]:
        """Yield one item per check, those alone that were named if any were."""
        for check in self.checks:
            item: CheckItem = CheckItem.from_parent(self, name=check.id)
            if self.parent.parent.selects(item.nodeid):
                item.bind(check, self.parent.target, self.parent.parent.run)
                yield item


class CheckItem(pytest.Item):
    """One check on one listener.

    The attributes below are those that hooks of other plugins expect of a test function.
    """

    check: Check
    target: TargetRun
    run: Run
    parent: ListenerNode
    cls: None = None
    fixturenames: tuple[str, ...] = ()

    def bind(self, check: Check, target: TargetRun, run: Run) -> None:
        """Say what the item judges."""
        self.check, self.target, self.run = check, target, run
        self.result: CheckResult | None = None
        self.function = self.obj = check.function
        self.module = sys.modules[check.function.__module__]
        self.originalname = check.id
        self.funcargs: dict[str, Any] = {}

    @property
    def label(self) -> str:
        """Label of the listener."""
        return self.parent.name

    def setup(self) -> None:
        """Judge; a result that is no verdict ends the item here."""
        if self.config.getoption("setuponly"):
            return
        result = self._judge()
        match result.outcome:
            case Outcome.INCONCLUSIVE | Outcome.BROKEN:
                raise NoVerdictError(result)
            case Outcome.NOT_APPLICABLE | Outcome.NOT_VERIFIED:
                pytest.skip(f"{result.outcome}: {result.reason}")

    def runtest(self) -> None:
        """Fail on a violation."""
        if self.result is None:
            return
        if self.result.outcome is Outcome.WAIVED:
            pytest.xfail(self.result.reason)
        if self.result.outcome is Outcome.VIOLATES:
            raise ViolationError(self.result)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return what stands above a failure; were it the end of the node id, ``-v`` would show it twice."""
        return self.path, None, f"{self.check.id} on {self.label} of {self.target.outline.label}"

    def _judge(self) -> CheckResult:
        """Return the result, judged once however often the item is run."""
        if self.result is None:
            try:
                self.result = self.run.result(self.target, self.check, self.label)
            except pytest.fail.Exception as stopped:  # pytest-timeout, from within a signal handler
                reason = f"stopped before a verdict: {stopped}"
                self.result = self.target.unjudged(self.check, self.label, Outcome.INCONCLUSIVE, reason)
                raise
            finally:
                self._add_properties()
        return self.result

    def _add_properties(self) -> None:
        if self.result is not None:
            for name in ("outcome", "level", "severity", "url", "reason", "remediation"):
                if value := getattr(self.result, name):
                    self.user_properties.append((f"etcdtls.{name}", str(value)))
