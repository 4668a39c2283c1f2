"""The collection tree of the suite, with one item per check and listener."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import pytest

import pytest_etcdtls
from pytest_etcdtls.errors import EtcdTLSError
from pytest_etcdtls.options import ROOT
from pytest_etcdtls.registry import Check
from pytest_etcdtls.report.terminal import follows_from, full_result, result_lines
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.runner import Run, TargetRun


class ViolationError(Exception):
    """The target violates a requirement."""

    def __init__(self, result: CheckResult) -> None:
        super().__init__(headline(result))
        self.result = result


class NoVerdictError(Exception):
    """A check has no verdict: the evidence could not be obtained, or the check itself is broken."""

    def __init__(self, result: CheckResult) -> None:
        super().__init__(headline(result))
        self.result = result


@dataclass(frozen=True, slots=True)
class Crash:
    """The message that pytest's short summary and JUnit report show."""

    message: str


class Writer(Protocol):
    """The methods of pytest's terminal writer that are used."""

    def line(self, text: str, **markup: bool) -> None:
        """Write a line."""


class ResultRepr:
    """A result as pytest's ``longrepr``: a consequence is one line on the terminal, and complete as text."""

    def __init__(self, result: CheckResult) -> None:
        self.result = result
        self.reprcrash = Crash(headline(result))

    def toterminal(self, writer: Writer) -> None:
        """Write the result in full, or that it follows from another one."""
        for line in result_lines(self.result):
            writer.line(line.text, **line.markup)

    def __str__(self) -> str:
        return "\n".join(line.text for line in full_result(self.result))


def headline(result: CheckResult) -> str:
    """Return one line that summarises the result."""
    if result.cause is not None and result.outcome is Outcome.VIOLATES:
        return follows_from(result.cause)
    return f"{result.outcome}: {result.message}"


def refuse_unknown_ids(run: Run, names: Iterable[str]) -> None:
    """Refuse node ids and prefixes that match no item, unless further listeners may still be discovered.

    Raises:
        pytest.UsageError: for the first unknown id; also if there are no items because there is no etcd.
    """
    try:
        known = node_ids(run)
    except EtcdTLSError as error:
        raise pytest.UsageError(str(error)) from error
    if may_grow(run):
        return
    for name in names:
        if name != ROOT and not any(
            known_id == name or known_id.startswith(f"{name}::") for known_id in known
        ):
            raise pytest.UsageError(
                f"not found: {name}: there is no such check in this run; --collect-only shows which there are"
                f"{_but_for_those_found(run)}"
            )


def node_ids(run: Run) -> list[str]:
    """Return the node ids of all items whose listener is known at this point."""
    return [
        f"{ROOT}::{target.outline.label}::{label}::{check.id}"
        for target in run.targets
        for label, checks in target.subjects(run.checks)
        for check in checks
    ]


def may_grow(run: Run) -> bool:
    """Whether further listeners may be discovered."""
    return any(target.asks and target.seen is None for target in run.targets)


def _but_for_those_found(run: Run) -> str:
    if not any(target.outline.discover for target in run.targets):
        return ""
    return " of what is named, and a run lists what --etcd-discover adds"


_PACKAGE = Path(pytest_etcdtls.__file__).parent


class Suite(pytest.Collector):
    """The root collector, with node id ``etcdtls``."""

    run: Run
    ids: Sequence[str]

    @classmethod
    def of(cls, session: pytest.Session, run: Run, ids: Sequence[str]) -> Self:
        """Return the suite of a run.

        Args:
            session: the parent node.
            run: the run whose targets are judged.
            ids: node ids or prefixes to collect; empty for all.
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
        """Return whether an item is selected by the given ids, or no ids were given."""
        return not self.ids or any(nodeid == name or nodeid.startswith(f"{name}::") for name in self.ids)


class TargetNode(pytest.Collector):
    """One target."""

    target: TargetRun
    parent: Suite

    def collect(self) -> Iterator[pytest.Collector]:
        """Yield the listeners that have a selected check, then the target as a whole."""
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
        """Yield one item per check, only selected ones if ids were given."""
        for check in self.checks:
            item: CheckItem = CheckItem.from_parent(self, name=check.id)
            if self.parent.parent.selects(item.nodeid):
                item.bind(check, self.parent.target, self.parent.parent.run)
                yield item


class CheckItem(pytest.Item):
    """One check on one listener.

    The attributes below are those that hooks of other plugins expect on a test function.
    """

    check: Check
    target: TargetRun
    run: Run
    parent: ListenerNode
    cls: None = None
    fixturenames: tuple[str, ...] = ()

    def bind(self, check: Check, target: TargetRun, run: Run) -> None:
        """Set the check and the listener of the item."""
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
        """Run the check. A result that is not a verdict ends the item here."""
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
        """Return the heading of a failure; not the end of the node id, which ``-v`` would show twice."""
        return self.path, None, f"{self.check.id} on {self.label} of {self.target.outline.label}"

    def _judge(self) -> CheckResult:
        """Return the result. The check runs once, however often the item is run."""
        if self.result is None:
            try:
                self.result = self.run.result(self.target, self.check, self.label)
            except pytest.fail.Exception as stopped:  # raised by pytest-timeout in a signal handler
                reason = f"stopped before a verdict: {stopped}"
                self.target.keep(self.target.unjudged(self.check, self.label, Outcome.INCONCLUSIVE, reason))
                self.result = self.run.result(self.target, self.check, self.label)
                raise
            finally:
                self._add_properties()
        return self.result

    def _add_properties(self) -> None:
        if self.result is not None:
            for name in ("outcome", "level", "severity", "url", "reason", "remediation"):
                if value := getattr(self.result, name):
                    self.user_properties.append((f"etcdtls.{name}", str(value)))
            if cause := self.result.cause:
                self.user_properties.append(("etcdtls.cause", f"{cause.check} on {cause.listener}"))
