"""The collection tree of the suite, one item per check and listener; its hooks where items are run."""

from __future__ import annotations

import functools
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest
from msgspec import to_builtins

from pytest_etcdtls.checks.registry import FOUND, GATES, Check, ancestors, catalogue
from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.errors import EtcdTLSError
from pytest_etcdtls.options import ROOT
from pytest_etcdtls.report.document import ResultEntry
from pytest_etcdtls.report.model import root_of
from pytest_etcdtls.report.text import Line, follows_from, full_result, result_lines
from pytest_etcdtls.role import CLUSTER
from pytest_etcdtls.run.judge import checks_of, left_out
from pytest_etcdtls.run.runner import Run, TargetRun
from pytest_etcdtls.suite.junit import CAUSE


class SuiteRepr:
    """A failed item as pytest's ``longrepr``.

    Args:
        headline: one line that summarises it.
        path: that of the item, see :func:`existing_place`: no line of a file is at fault.
        lines: what the terminal shows.
        full: the whole text, for other reporters.
    """

    def __init__(self, headline: str, path: Path, lines: Iterable[Line], full: Iterable[Line]) -> None:
        # pytest's short summary and JUnit report show the message; other reporters need a place.
        self.reprcrash = SimpleNamespace(message=headline, path=str(path), lineno=1)
        self._lines = [*lines]
        self._text = "\n".join(line.text for line in full)

    def toterminal(self, writer: Any) -> None:  # noqa: ANN401 - a TerminalWriter, which is not public
        """Write it."""
        for line in self._lines:
            writer.line(line.text, **line.markup)

    def __str__(self) -> str:
        return self._text


class NotCleanError(Exception):
    """What fails an item, with what pytest shows of it."""

    def __init__(self, shown: SuiteRepr) -> None:
        super().__init__(shown.reprcrash.message)
        self.shown = shown


class ViolationError(NotCleanError, AssertionError):
    """The target violates a requirement. Reporters such as Allure call other errors broken tests."""


def result_repr(result: CheckResult, path: Path) -> SuiteRepr:
    """Return a result as ``longrepr``: a consequence is one line on the terminal, and complete as text."""
    headline = f"{result.outcome}: {result.message}"
    if result.cause is not None and result.outcome is Outcome.VIOLATES:
        headline = follows_from(result.cause)
    return SuiteRepr(headline, path, result_lines(result), full_result(result))


def refuse_unknown_ids(run: Run, names: Iterable[str]) -> None:
    """Refuse node ids and prefixes that match no item, unless further listeners may still be discovered.

    Raises:
        pytest.UsageError: for the first unknown id; also if there are no items because there is no etcd.
    """
    try:
        known = subjects_of(run)
    except EtcdTLSError as error:
        raise pytest.UsageError(str(error)) from error
    if any(target.discovers and target.seen is None for target in run.targets):
        return
    for name in names:
        if name != ROOT and not any(
            known_id == name or known_id.startswith(f"{name}::") for known_id in known
        ):
            why = _left_out(run, name) or "there is no such check in this run"
            discovers = any(target.outline.discover for target in run.targets)
            restriction = " of what is named, and a run lists what --etcd-discover adds" if discovers else ""
            raise pytest.UsageError(
                f"not found: {name}: {why}; --collect-only shows which there are{restriction}"
            )


def subjects_of(run: Run) -> dict[str, tuple[TargetRun, Check, str]]:
    """Return what all items judge whose listener is known at this point, by node id."""
    selected = run.checks  # a broken module of checks is reported before an image is pulled
    return {
        f"{ROOT}::{target.outline.label}::{label}::{check.id}": (target, check, label)
        for target in run.targets
        for label, checks in checks_of(target.outline, selected)
        for check in checks
    }


def _left_out(run: Run, name: str) -> str:
    """Return why the options leave out the check that a node id ends in."""
    check = catalogue().get(name.rpartition("::")[2])
    reasons = (left_out(check, target.outline) for target in run.targets) if check else ()
    return next((f"{name.rpartition('::')[2]} is left out, {reason}" for reason in reasons if reason), "")


def existing_place(config: pytest.Config) -> Path:
    """Return an existing path for the items: a file of the root directory, else that directory.

    pytest calls the hooks of a conftest.py for items below its directory only, and finds it by the directory
    of a file.
    """
    files = [config.inipath, config.rootpath / "conftest.py"]
    return next(
        (one for one in files if one and one.parent == config.rootpath and one.is_file()), config.rootpath
    )


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
        suite: Self = cls.from_parent(session, name=ROOT, path=existing_place(session.config), nodeid=ROOT)
        suite.run, suite.ids = run, ids
        suite.add_marker(pytest.mark.etcdtls)
        return suite

    def collect(self) -> Iterator[pytest.Collector | pytest.Item]:
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
        for label, checks in checks_of(self.target.outline, self.parent.run.checks):
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
                item.bind(check, self.parent.target)
                yield item


def causes_first(items: Sequence[CheckItem]) -> list[CheckItem]:
    """Return the items in their order, except that each comes after those from which it may follow.

    So a run that ends at the first failure ends at the fault. The gates of a listener come before its other
    checks. Of checks that name each other as causes, the first in the given order comes first.
    """
    checks = catalogue()
    above = functools.cache(lambda id_: ancestors(checks[id_], checks))
    by_place = {(item.target, item.label, item.check.id): item for item in items}
    labels: dict[TargetRun, dict[str, None]] = {}
    for item in items:
        labels.setdefault(item.target, {})[item.label] = None
    ordered: dict[CheckItem, None] = {}
    visited: set[CheckItem] = set()

    def visit(item: CheckItem) -> None:
        if item in visited:
            return
        visited.add(item)
        places = labels[item.target] if item.label == CLUSTER else (item.label, CLUSTER)
        id_ = item.check.id
        gates = GATES[: GATES.index(id_)] if id_ in GATES else GATES
        before = [(label, cause) for cause in above(id_) for label in places]
        for label, id_ in (*((item.label, gate) for gate in gates), *before):
            cause = by_place.get((item.target, label, id_))
            if cause is not None:
                visit(cause)
        ordered[item] = None

    for item in items:
        visit(item)
    return list(ordered)


_PROPERTIES = ["check", "target", "listener", "outcome", "level", "severity", "url", "reason", "remediation"]
"""The fields of a result that are properties of its item, in the JUnit report."""


@functools.lru_cache(maxsize=4096)
def _property(name: str, value: str) -> tuple[str, str]:
    """Return a property of an item. Most items have the same ones, and each would cost memory."""
    return sys.intern(f"etcdtls.{name}"), value


ATTRIBUTE = "etcdtls"
"""Attribute of a test report with the result of its item, or the row of its cluster."""


class SuiteItem(pytest.Item):
    """An item of the suite, with the attributes that hooks of other plugins expect on a test function."""

    cls: None = None
    fixturenames: tuple[str, ...] = ()

    def _repr_failure_py(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:  # noqa: ANN401 - as pytest has it
        """Return what was found instead of a traceback, before other plugins read it."""
        # For an error in set-up, TestReport.from_item_and_call of pytest calls this method, no public one.
        if isinstance(excinfo.value, NotCleanError):
            return excinfo.value.shown
        return super()._repr_failure_py(excinfo, style)


class CheckItem(SuiteItem):
    """One check on one listener."""

    check: Check
    target: TargetRun
    parent: ListenerNode

    def bind(self, check: Check, target: TargetRun) -> None:
        """Set the check and the listener of the item."""
        self.check, self.target = check, target
        self.function = self.obj = check.function
        self.module = sys.modules[check.function.__module__]
        self.originalname = check.id
        self.funcargs: dict[str, Any] = {}

    @property
    def label(self) -> str:
        """Label of the listener."""
        return self.parent.name

    @property
    def result(self) -> CheckResult | None:
        """The result that the target has for it; ``None`` before it is run."""
        return self.target.results.get((self.check.id, self.label))

    @property
    def subject(self) -> tuple[TargetRun, Check, str]:
        """What it judges: the check, on the listener of that label."""
        return self.target, self.check, self.label

    def _initrequest(self) -> None:
        """Do nothing. pytest-retry calls this method of a test function before it runs it again."""

    def setup(self) -> None:
        """Run the check. A result that is not a verdict ends the item here."""
        if self.config.getoption("setuponly", False):
            return
        result = self._judge()
        match result.outcome:
            case Outcome.INCONCLUSIVE | Outcome.BROKEN:
                raise NotCleanError(result_repr(result, self.path))
            case Outcome.NOT_APPLICABLE | Outcome.NOT_VERIFIED:
                pytest.skip(f"{result.outcome}: {result.reason}")

    def runtest(self) -> None:
        """Fail on a violation."""
        if self.result is None:
            return
        if self.result.outcome is Outcome.WAIVED:
            pytest.xfail(self.result.reason)
        if self.result.outcome is Outcome.VIOLATES:
            raise ViolationError(result_repr(self.result, self.path))

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return the heading of a failure; not the end of the node id, which ``-v`` would show twice."""
        return (
            self.config.rootpath / ROOT,
            None,
            f"{self.check.id} on {self.label} of {self.target.outline.label}",
        )

    def complete_report(self, report: Any, call: pytest.CallInfo[None]) -> None:  # noqa: ANN401 - has more
        """Attach what was found, and replace the traceback with the result's text."""
        if self.result is None:
            return
        setattr(report, ATTRIBUTE, self.result)
        if call.excinfo and self.result.outcome is Outcome.INCONCLUSIVE:
            report.longrepr = result_repr(self.result, self.path)  # also if pytest-timeout stopped it
        if call.excinfo and call.excinfo.errisinstance(pytest.xfail.Exception):
            # As pytest's plugin skipping does it, which -p no:skipping disables.
            report.outcome, report.wasxfail = "skipped", f"reason: {self.result.reason}"

    def _judge(self) -> CheckResult:
        """Return the result. The check runs once, however often the item is run."""
        if self.result is not None:
            return self.result
        if self.target.handed_out:
            self.target.replace_damaged()
        try:
            result = self.target.final_result(self.check, self.label)
        except pytest.fail.Exception as stopped:  # raised by pytest-timeout in a signal handler
            reason = f"stopped before a verdict: {stopped}"
            self._add_properties(self.target.stopped(self.check, self.label, reason))
            raise
        self._add_properties(result)
        return result

    def _add_properties(self, result: CheckResult) -> None:
        for name in _PROPERTIES:
            if value := getattr(result, name):
                self.user_properties.append(_property(name, str(value)))
        if cause := result.cause:
            self.user_properties.append((CAUSE, f"{cause.check} on {cause.listener}"))
        if result.outcome in FOUND:
            judged = self.target
            fault = root_of(result, lambda place: judged.result(judged.selected[place[1:]], place[2]))
            self.user_properties.append(("etcdtls.fault", f"{fault.check} on {fault.listener}"))


class Items:
    """The hooks of a process that judges.

    Args:
        run: the run.
        ids: node ids to collect, empty for all.
        alone: collect nothing else.
    """

    def __init__(self, run: Run, ids: Sequence[str], *, alone: bool) -> None:
        self.run = run
        self.ids = ids
        self._alone = alone

    def suite(self, session: pytest.Session) -> Suite:
        """Return a new collector of the suite. The members of a live cluster are discovered before.

        Raises:
            pytest.UsageError: if a given node id matches no discovered member.
        """
        self.run.discover()
        refuse_unknown_ids(self.run, self.ids)
        return Suite.of(session, self.run, self.ids)

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

    @pytest.hookimpl(wrapper=True)
    def pytest_report_to_serializable(
        self, report: pytest.CollectReport | pytest.TestReport
    ) -> Generator[None, dict[str, Any] | None, dict[str, Any] | None]:
        """Encode what a report carries, for another process and for plugins that write reports to a file."""
        data = yield
        if data is None or (found := getattr(report, ATTRIBUTE, None)) is None:
            return data
        entry = ResultEntry.of(found) if isinstance(found, CheckResult) else found
        return {**data, ATTRIBUTE: to_builtins(entry)}


def _order(items: list[pytest.Item]) -> None:
    """Put causes before what follows from them, in the places that our items have."""
    ours = iter(causes_first([item for item in items if isinstance(item, CheckItem)]))
    items[:] = [next(ours) if isinstance(item, CheckItem) else item for item in items]


def carried(report: object) -> CheckResult | None:
    """Return the result of the item that a test report is about; ``None`` for other tests."""
    return getattr(report, ATTRIBUTE, None)
