"""Writes the kill matrix to the file ``KILL_MATRIX``: which misconfigured cluster is found by which checks.

It has a line for each check that found the fault of a cluster that was started and judged exactly as
expected. Warnings that a conforming cluster of the same version has too are not among them.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
from zoo.members import ZOO
from zoo.model import PROPERTY

_MEMBERS = {member.name: member for member in ZOO}


class Recorder:
    """Collects the results, in the process that gets all reports."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.judged: set[tuple[str, str]] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            for name, version in (
                str(value).split() for key, value in report.user_properties if key == PROPERTY
            ):
                self.judged.add((name, version))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["misconfiguration", "etcd", "listener", "check"])
            for name, version in sorted(self.judged):
                for listener, checks in _MEMBERS[name].found_by(version).items():
                    table.writerows([name, version, listener, check] for check in sorted(checks))
        names, versions = ({pair[place] for pair in self.judged} for place in (0, 1))
        terminalreporter.write_line(
            f"{self.path}: {len(names)} of {len(ZOO)} misconfigurations, {len(self.judged)} clusters on "
            f"{len(versions)} etcds, each found by exactly the expected checks"
        )


def pytest_configure(config: pytest.Config) -> None:
    path = os.environ.get("KILL_MATRIX")
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(Path(path)), "kill-matrix")
