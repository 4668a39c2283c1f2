"""The ledger of a run: the selected checks, what their results come to, and the exit code.

pytest's exit code says what happened to items. It is corrected by what no item shows: a TLS listener on which
no check about mutual TLS has a verdict, a stale waiver, a report that was not written, a suite that was
requested and of which nothing ran. A run that verified nothing must not look like one that found nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

import pytest
from msgspec.structs import replace

from pytest_etcdtls.checks.registry import GATES, Check, catalogue, select
from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.facts.access import AcceptedClient
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.options import Invocation
from pytest_etcdtls.profiles.profiles import FAILED
from pytest_etcdtls.profiles.waivers import Review, review
from pytest_etcdtls.report.baseline import Baseline
from pytest_etcdtls.report.differences import ComparedTargets, comparisons
from pytest_etcdtls.report.model import Report
from pytest_etcdtls.report.overview import plural, undecided
from pytest_etcdtls.role import CLUSTER
from pytest_etcdtls.run.judge import STARTS, Place, left_out_of
from pytest_etcdtls.run.runner import Run, TargetRun
from pytest_etcdtls.target import Listener
from pytest_etcdtls.untrusted.printable import error_text

VERDICTS = frozenset({Outcome.CONFORMS, Outcome.VIOLATES, Outcome.WARNS, Outcome.WAIVED})
"""Outcomes that are a verdict about a listener."""
_DECIDED = FAILED | {Outcome.WAIVED}
"""Outcomes that fail the run, or that the user accepts."""


_SECONDS_AT_END: Final = 10.0
"""Longest time for judging after an interruption, since somebody waits for it."""


Subject = tuple[TargetRun, Check, str]
"""What an item judges: a check, on the listener of that label."""


class Ledger:
    """Stores the selection of a run. Each target has its results."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._selected: Sequence[Subject] = ()

    def select(self, subjects: Iterable[Subject]) -> None:
        """Record what the selected items judge. A violation follows only from one of these."""
        self._selected = tuple(subjects)
        selected = {(target, check.id, label) for target, check, label in self._selected}
        for target in {target for target, _, _ in self._selected}:
            target.selected |= {
                (check.id, label): check
                for label, checks in target.subjects(self.run.checks)
                for check in checks
                if (target, check.id, label) in selected
            }

    def judge(self, subjects: Iterable[Subject]) -> None:
        """Judge without items of pytest."""
        self.select(subjects)
        for target, check, label in self._selected:
            target.report(check, label)

    def judge_failed_starts(self) -> None:
        """Judge each start of an etcd that failed, also if no item was selected for it, or none was run."""
        for target in self.run.targets:
            if target.seen is not None and not target.seen.target.runs:
                target.report(catalogue()[STARTS], CLUSTER)

    def judge_recorded(self) -> None:
        """Judge what was selected and not run, where the facts are recorded, without a connection.

        Checks of the user are left out: the signal may have come because one of them does not end.
        """
        self.run.end()
        deadline = time.monotonic() + _SECONDS_AT_END
        for target, check, label in self._selected:
            if check.is_ours and time.monotonic() < deadline:
                target.report(check, label)

    @property
    def results(self) -> list[CheckResult]:
        """One result per selected item, in order of selection, including items that were not run."""
        results = {
            (target, check.id, label): target.results.get((check.id, label)) or target.not_run(check, label)
            for target, check, label in self._selected
        }
        return [*(results | {(target, *place): result for target, place, result in self._judged()}).values()]

    @property
    def selected(self) -> int:
        """The number of items that were to be run."""
        return len(self._selected)

    @property
    def judged(self) -> int:
        """The number of results that arrived."""
        return len([*self._judged()])

    @property
    def complete(self) -> bool:
        """Whether every selected item has a result."""
        return all((check.id, label) in target.results for target, check, label in self._selected)

    @property
    def failed(self) -> bool:
        """Whether a result fails the run."""
        return any(result.outcome in FAILED for _, _, result in self._judged())

    def review_waivers(self) -> Review:
        """Return which waivers were used and which are stale."""
        today = self.run.settings.started_at.date()
        results = [result for _, _, result in self._judged()]
        return review(self.run.settings.waivers, results, today)

    def _judged(self) -> Iterator[tuple[TargetRun, Place, CheckResult]]:
        for target in self.run.known_targets:  # the targets of a run without an etcd cannot be asked for
            for place, result in target.results.items():
                yield target, place, result

    def problems(self, session: pytest.Session, invocation: Invocation) -> Iterator[str]:
        """Yield the problems that fail the run in addition to results, one sentence each."""
        if session.exitstatus in ENDED_WELL:
            yield from _nothing_ran(session, invocation, self)
            yield from _ended(self)
            yield from shortcomings(self)
            yield from stale_waivers(self.review_waivers())

    def exit_status(self, status: int, problems: list[str]) -> int:
        """Return pytest's exit status, corrected: our items are collected, and a problem fails the run."""
        if status == pytest.ExitCode.NO_TESTS_COLLECTED and self.judged:
            status = pytest.ExitCode.TESTS_FAILED if self.failed else pytest.ExitCode.OK
        if problems and status in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            status = pytest.ExitCode.TESTS_FAILED
        return int(status)

    def report(self, status: int, problems: list[str]) -> Report:
        """Return the report; what could not be added to it at the end is appended to the problems."""
        run = self.run
        seen = tuple(_seen(target, problems) for target in run.targets)
        report = Report(
            started_at=run.settings.started_at,
            seconds=(datetime.now(UTC) - run.settings.started_at).total_seconds(),
            partial=not self.complete or status not in ENDED_WELL,
            seen=seen,
            results=tuple(self.results),
            profiles=run.settings.profiles,
            left_out=_left_out(run),
            deselected=self._deselected(),
            strict=run.settings.strict,
            metadata=run.settings.metadata,
            not_read=run.settings.not_read,
        )
        compared = _compared(report, run.settings.baseline, problems)
        not_as_before = tuple(_not_as_before(run, compared)) if status in ENDED_WELL else ()
        problems += not_as_before
        return replace(
            report,
            problems=tuple(problems),
            status=self.exit_status(status, problems),
            comparisons=compared,
            not_as_before=not_as_before,
        )

    def _deselected(self) -> frozenset[str]:
        """Return the checks that could judge a listener and were not selected for it."""
        judged = {(target, label, check.id) for target, check, label in self._selected}
        every = select()
        return frozenset(
            check.id
            for target in self.run.targets
            for label, checks in target.subjects(every)
            for check in checks
            if (target, label, check.id) not in judged
        )

    def unverified(self) -> Iterator[str]:
        """Yield which listeners lack the required verdict, one sentence each.

        A TLS listener requires a verdict about mutual TLS, if such checks were selected, and one good client
        that it accepts, if some were tried. Any other listener requires any verdict, unless no selected check
        applies.
        """
        by_listener: dict[tuple[str, str], list[CheckResult]] = {}
        for result in self.results:
            by_listener.setdefault((result.target, result.listener), []).append(result)
        for target in self.run.targets:
            label = target.outline.label
            actual = target.seen.target if target.seen else target.outline
            if not actual.runs:
                continue  # its start is a violation, with the reason
            judged = [one for (where, _), results in by_listener.items() if where == label for one in results]
            if all(result.listener == CLUSTER for result in judged) and not _has_verdict(judged):
                yield f"the whole cluster of {label}: no check has a verdict."
            for listener in actual.listeners:
                results = by_listener.get((label, listener.label), [])
                if any(result.outcome is Outcome.NOT_RUN for result in results):
                    continue
                if any(result.check in GATES and result.outcome in FAILED for result in results):
                    continue  # this fails the run, with the reason
                about_tls = [result for result in results if result.check.startswith("mtls.")]
                applicable = [result for result in results if result.outcome is not Outcome.NOT_APPLICABLE]
                wanted = about_tls if about_tls and listener.scheme == "https" else applicable
                if not _has_verdict(wanted):
                    missing = "no check about mutual TLS" if wanted is about_tls else "no check"
                    why = undecided(result for result in wanted if result.outcome is Outcome.NOT_VERIFIED)
                    because = f": {why[0].reason}" if why else ""
                    yield f"{listener.url} of {label}: {missing} has a verdict{because}."
                elif missing := self._who_is_refused(target, listener, results):
                    yield f"{listener.url} of {label}: {missing}."

    def _who_is_refused(self, target: TargetRun, listener: Listener, results: Iterable[CheckResult]) -> str:
        """Return why no good client is accepted, or not the user's; empty if a result says so."""
        seen = target.seen.recording if target.seen else None
        client = seen.known(AcceptedClient, label=listener.label) if seen else None
        judged = next((result for result in results if result.check == _TRUSTED), None)
        if client is None or not client.candidates or (judged and judged.outcome in _DECIDED):
            return ""
        if client.accepted is None:
            return (judged or target.result(catalogue()[_TRUSTED], listener.label)).message
        # The SAN rule says nothing about the listener; a declared rule about names excludes it for good.
        named = (found for found in client.candidates if found.named and found.excluded and not found.served)
        return next((f"the client {found.identity} is refused" for found in named), "")


def _has_verdict(results: Iterable[CheckResult]) -> bool:
    """Return whether a result is a verdict, or none could be: not selected, not run or not applicable."""
    outcomes = {result.outcome for result in results}
    return bool(outcomes & VERDICTS) or not outcomes - {Outcome.NOT_APPLICABLE, Outcome.NOT_RUN}


_TRUSTED = "mtls.trusted-client"
"""The check that reports whether a good client is accepted."""

DISCOVERY = "cluster.discovered"
"""The check that reports whether every member was discovered."""

ENDED_WELL = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)
"""pytest's exit codes of a run that was not cut short."""


def is_selective(config: pytest.Config) -> bool:
    """Return whether an option of pytest's may deselect everything on purpose."""
    return any(config.getoption(name, False) for name in ("lf", "stepwise", "stepwise_skip"))


def _ended(ledger: Ledger) -> Iterator[str]:
    for target in ledger.run.targets:
        if why := target.ended():
            yield f"{target.outline.label} did not run to the end: {why}."


def shortcomings(ledger: Ledger) -> list[str]:
    """Return which members and listeners have no verdict, one sentence each."""
    unverified = () if ledger.run.settings.allow_unverified else ledger.unverified()
    return [*_undiscovered(ledger), *unverified]


def _compared(report: Report, baseline: Baseline | None, problems: list[str]) -> tuple[ComparedTargets, ...]:
    if baseline is None and len(report.seen) < 2:
        return ()
    from pytest_etcdtls.report.baseline_file import (
        snapshots_of,  # a run that compares nothing makes no document
    )

    try:
        return comparisons(snapshots_of(report), baseline)
    except Exception as error:  # costs the comparison, and no report
        problems.append(f"The targets could not be compared: {error_text(error)}.")
        return ()


def _not_as_before(run: Run, compared: Iterable[ComparedTargets]) -> Iterator[str]:
    """Yield the reasons why differences fail the run. A violation fails it anyway."""
    for targets in compared:
        count = sum(not difference.follows for difference in targets.differences)
        if targets.baseline and targets.worse:
            others = f" and {len(targets.worse) - 1} more" if len(targets.worse) > 1 else ""
            yield f"Worse than the baseline: {targets.worse[0].sentence}{others} ({targets.labels[1]})."
        elif run.settings.fail_on_difference and count:
            between = f"between {targets.labels[0]} and {targets.labels[1]}"
            yield f"--etcd-fail-on-difference: {plural(count, 'difference')} {between}."


def _left_out(run: Run) -> Counter[str]:
    return sum((left_out_of(run.checks, target.outline) for target in run.targets), Counter())


def _seen(target: TargetRun, problems: list[str]) -> Recording:
    try:
        target.complete()
    except Exception as error:  # costs no other target its report
        label = target.outline.label
        problems.append(f"Observations of {label} are missing in the report: {error_text(error)}.")
    return target.recording


def _nothing_ran(session: pytest.Session, invocation: Invocation, ledger: Ledger) -> Iterator[str]:
    stopped = session.shouldfail or session.shouldstop
    if invocation.requested and not ledger.judged and not stopped and not is_selective(session.config):
        run = ledger.run
        collected = any(checks for target in run.targets for _, checks in target.subjects(run.checks))
        deselected = "they were deselected (-k, -m, --deselect, an ini file)"
        why = deselected if collected else "; ".join(_left_out(run))
        if ledger.selected:
            why = "a hook of a conftest.py or plugin failed before them"
        yield (
            f"The suite was asked for on the command line and none of its checks ran: {why}. "
            "--no-etcd-conformance confirms that this is intended."
        )


def _undiscovered(ledger: Ledger) -> Iterator[str]:
    """Yield which members are not judged, unless :data:`DISCOVERY` was selected."""
    if any(result.check == DISCOVERY for result in ledger.results):
        return
    for target in ledger.run.targets:
        if target.discovers and target.seen is not None:
            result = target.result(catalogue()[DISCOVERY], CLUSTER)
            if result.outcome in FAILED:
                text = result.findings[0].message if result.findings else result.reason
                yield f"--etcd-discover: {text} ({DISCOVERY}, which was not selected, has it in full)."


def stale_waivers(reviewed: Review) -> Iterator[str]:
    """Yield the number of stale waivers, if there are some."""
    if number := len(reviewed.stale):
        those = "it" if number == 1 else "them"
        yield f"{plural(number, 'stale waiver')} (see the summary): remove or renew {those}."
