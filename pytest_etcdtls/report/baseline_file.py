"""The baseline file of a run, which is committed: what later runs are compared with."""

from __future__ import annotations

from pytest_etcdtls.report.baseline import Snapshot, snapshots, written
from pytest_etcdtls.report.json import target_entry
from pytest_etcdtls.report.model import Report


def snapshots_of(report: Report) -> tuple[Snapshot, ...]:
    """Return what is compared of the targets of a run."""
    return snapshots((target_entry(report, seen) for seen in report.seen), report.results)


def render(report: Report, _lost: list[str]) -> str:
    """Return the text of the file."""
    return written(snapshots_of(report), partial=report.partial)
