"""The baseline file of a run, which is committed: what later runs are compared with."""

from __future__ import annotations

from pytest_etcdtls.report.baseline import snapshots, written
from pytest_etcdtls.report.json import target_entry
from pytest_etcdtls.report.model import Report


def render(report: Report, _lost: list[str]) -> str:
    """Return the text of the file."""
    targets = (target_entry(report, seen) for seen in report.seen)
    return written(snapshots(targets, report.results), partial=report.partial)
