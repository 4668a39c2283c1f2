"""The report as a baseline file, which is committed: what later runs are compared with, and nothing else."""

from __future__ import annotations

from pytest_etcdtls.report.baseline import written
from pytest_etcdtls.report.behaviour import snapshot
from pytest_etcdtls.report.model import Report


def render(report: Report, _lost: list[str]) -> str:
    """Return the snapshots of the targets as the text of a file."""
    return written((snapshot(seen, report.results) for seen in report.seen), partial=report.partial)
