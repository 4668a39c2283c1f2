"""Writes the kill matrix where ``KILL_MATRIX`` names a file, if the whole zoo was run and nothing failed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from zoo.matrix import PROPERTY, Row, render
from zoo.members import ZOO

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
        if os.environ.get("ETCD_MATRIX") != "whole":
            terminalreporter.write_line(f"{self.path} is not written: it needs ETCD_MATRIX=whole", red=True)
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
        self.path.write_text(render(self.rows, catalogue()))
        terminalreporter.write_line(f"{self.path} is written")


def pytest_configure(config: pytest.Config) -> None:
    path = os.environ.get("KILL_MATRIX")
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(Path(path)), "kill-matrix")
