"""The misconfigured clusters that ``make test`` has; the kill matrix, if the whole zoo ran and passed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from shares import ALL, TESTS
from zoo.matrix import PROPERTY, Row, render
from zoo.members import ZOO
from zoo.model import Misconfigured

from pytest_etcdtls.registry import catalogue


class Recorder:
    """Collects the results, in the process that gets all reports."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.members = {member.name: member for member in ZOO}
        self.rows: list[Row] = []
        self.failed = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed |= report.failed
        if report.when != "call" or not report.passed:
            return
        for name, version in (str(value).split() for key, value in report.user_properties if key == PROPERTY):
            member = self.members[name]
            row = Row(name=name, what=member.what, version=version, killed=member.found_by(version))
            self.rows.append(row)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not ALL:
            terminalreporter.write_line(f"{self.path} is not written: it needs TESTS=all", red=True)
            return
        missing = sorted(self.members.keys() - {row.name for row in self.rows})
        if self.failed or missing:
            why = (
                "a test failed"
                if self.failed
                else f"{len(missing)} members were not run, one is {missing[0]}"
            )
            terminalreporter.write_line(f"{self.path} is not written: {why}", red=True)
            return
        self.path.write_text(render(self.rows, catalogue()), encoding="utf-8")
        terminalreporter.write_line(f"{self.path} is written")


def pytest_configure(config: pytest.Config) -> None:
    path = os.environ.get("KILL_MATRIX")
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(Path(path)), "kill-matrix")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave to ``make test`` a small set of clusters on which every check finds something (greedy)."""
    if TESTS != "few":
        return
    rest: dict[pytest.Item, frozenset[str]] = {}
    for item in items:
        if item.path.name == "test_zoo.py" and isinstance(item, pytest.Function):
            member: Misconfigured = item.callspec.params["member"]  # type: ignore[assignment]
            version = item.callspec.id.removesuffix(f"-{member.name}").removeprefix(f"{member.name}-")
            # An experiment starts many more clusters.
            experiments = any(pattern.startswith("lifecycle") for pattern in member.checks)
            found = member.found_by(version).values() if not experiments else ()
            rest[item] = frozenset[str]().union(*found)
    wanted = frozenset[str]().union(*rest.values())
    while wanted:
        best = max(rest, key=lambda item: len(rest[item] & wanted))
        wanted -= rest.pop(best)
    if rest:
        config.hook.pytest_deselected(items=[*rest])
        items[:] = [item for item in items if item not in rest]
