"""The report of a run: what its targets were observed to be, the results, and how they differ from others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from msgspec.structs import replace

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.report.baseline import Baseline, snapshots
from pytest_etcdtls.report.differences import ComparedTargets, comparisons
from pytest_etcdtls.report.document import TargetEntry
from pytest_etcdtls.report.model import Report
from pytest_etcdtls.run.judge import checks_of
from pytest_etcdtls.run.runner import ENDED_WELL, Run, TargetRun
from pytest_etcdtls.untrusted.printable import error_text, plural


def report_of(run: Run, status: int, problems: list[str], baseline: Baseline | None = None) -> Report:
    """Return the report of the results that the targets of a run have.

    Args:
        run: the run.
        status: pytest's exit code.
        problems: what fails the run besides results; what is found here is appended.
        baseline: the earlier run to compare with.
    """
    settings = run.settings
    report = Report(
        started_at=settings.started_at,
        seconds=(datetime.now(UTC) - settings.started_at).total_seconds(),
        partial=status not in ENDED_WELL or any(one.outcome is Outcome.NOT_RUN for one in run.results),
        seen=tuple(_completed(target, problems) for target in run.targets),
        results=run.results,
        profiles=settings.profiles,
        reviewed=run.reviewed,
        left_out=run.left_out,
        deselected=_deselected(run),
        strict=settings.strict,
        metadata=settings.metadata,
        not_read=settings.not_read,
        keeps=settings.owned.keep,
    )
    targets, compared = _compared(report, baseline, problems)
    worse = _not_as_before(compared, fails=settings.fail_on_difference)
    not_as_before = tuple(worse) if status in ENDED_WELL else ()
    problems += not_as_before
    return replace(
        report,
        problems=tuple(problems),
        status=run.exit_status(status, problems),
        targets=targets,
        comparisons=compared,
        not_as_before=not_as_before,
    )


def _deselected(run: Run) -> frozenset[str]:
    """Return the checks that could judge a listener and were not selected for it."""
    judged = {(target, label, check.id) for target, check, label in run.selected}
    return frozenset(
        check.id
        for target in run.targets
        for label, checks in checks_of(target.outline, select())
        for check in checks
        if (target, label, check.id) not in judged
    )


def _completed(target: TargetRun, problems: list[str]) -> Recording:
    try:
        target.complete()
    except Exception as error:  # costs no other target its report
        said = f"Observations of {target.outline.label} are missing in the report"
        problems.append(f"{said}: {error_text(error)}.")
    return target.recording


def _compared(
    report: Report, baseline: Baseline | None, problems: list[str]
) -> tuple[tuple[TargetEntry, ...], tuple[ComparedTargets, ...]]:
    """Return the entries of the targets and how they differ, if there is something to compare them with."""
    if baseline is None and len(report.seen) < 2:
        return (), ()
    from pytest_etcdtls.report.json import target_entry  # a run that compares nothing makes no document

    try:
        targets = tuple(target_entry(report, seen) for seen in report.seen)
        judged = [target for target in targets if target.listeners]
        return targets, comparisons(snapshots(judged, report.results), baseline)
    except Exception as error:  # costs the comparison, and no report
        problems.append(f"The targets could not be compared: {error_text(error)}.")
        return (), ()


def _not_as_before(compared: Iterable[ComparedTargets], *, fails: bool) -> Iterator[str]:
    """Yield why differences fail the run: one sentence for each two targets that are compared."""
    for targets in compared:
        count = sum(not difference.follows for difference in targets.differences)
        if targets.baseline and targets.worse:
            others = f" and {len(targets.worse) - 1} more" if len(targets.worse) > 1 else ""
            yield f"Worse than the baseline: {targets.worse[0].sentence}{others} ({targets.labels[1]})."
        elif fails and count:
            between = f"between {targets.labels[0]} and {targets.labels[1]}"
            yield f"--etcd-fail-on-difference: {plural(count, 'difference')} {between}."
