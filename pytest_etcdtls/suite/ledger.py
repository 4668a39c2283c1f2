"""The ledger of a run: the selected checks, their results, and the exit code that follows from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from pytest_etcdtls.baseline import Baseline, Snapshot
from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.errors import UnobservedError
from pytest_etcdtls.facts.certificates import ServedChain
from pytest_etcdtls.facts.etcd_log import EtcdLogs
from pytest_etcdtls.facts.listener import FirstContact
from pytest_etcdtls.observer import Observer
from pytest_etcdtls.options import Invocation, is_dry
from pytest_etcdtls.profiles import FAILED
from pytest_etcdtls.registry import catalogue
from pytest_etcdtls.report.behaviour import snapshot
from pytest_etcdtls.report.differences import ComparedTargets, comparisons
from pytest_etcdtls.report.model import Report, Seen
from pytest_etcdtls.report.overview import plural
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.role import CLUSTER
from pytest_etcdtls.runner import Run, TargetRun, left_out_of
from pytest_etcdtls.untrusted import error_text
from pytest_etcdtls.waivers import Review, review

if TYPE_CHECKING:
    from pytest_etcdtls.suite.items import CheckItem


VERDICTS = frozenset({Outcome.CONFORMS, Outcome.VIOLATES, Outcome.WARNS, Outcome.WAIVED})
"""Outcomes that are a verdict about a listener."""


@dataclass(frozen=True, slots=True)
class Unverified:
    """A listener without a verdict; ``what`` is about the checks that have none."""

    target: str
    url: str
    what: str


class Ledger:
    """Stores the selection and the results of a run.

    Args:
        run: the run.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._selected: dict[str, CheckItem] = {}
        self._results: dict[str, CheckResult] = {}

    def select(self, items: Iterable[CheckItem]) -> None:
        """Record the selected items."""
        self._selected = {item.nodeid: item for item in items}

    def record(self, nodeid: str, result: CheckResult) -> None:
        """Record the result of an item. The first result is kept."""
        self._results.setdefault(nodeid, result)

    def result(self, nodeid: str) -> CheckResult | None:
        """Return the recorded result of an item, ``None`` if there is none."""
        return self._results.get(nodeid)

    @property
    def results(self) -> list[CheckResult]:
        """One result per selected item, in order of selection, including items that were not run."""
        known = dict(self._results)
        for nodeid, item in self._selected.items():
            if nodeid not in known:
                reason = "the run ended before it"
                known[nodeid] = item.target.unjudged(item.check, item.label, Outcome.NOT_RUN, reason)
        return [known.pop(nodeid) for nodeid in self._selected] + list(known.values())

    @property
    def selected(self) -> int:
        """The number of items that were to be run."""
        return len(self._selected)

    @property
    def judged(self) -> int:
        """The number of results that arrived."""
        return len(self._results)

    @property
    def complete(self) -> bool:
        """Whether every selected item has a result."""
        return all(nodeid in self._results for nodeid in self._selected)

    @property
    def failed(self) -> bool:
        """Whether a result fails the run."""
        return any(result.outcome in FAILED for result in self._results.values())

    def review_waivers(self) -> Review:
        """Return which waivers were used and which are stale."""
        today = self.run.started_at.date()
        return review(self.run.settings.waivers, self._results.values(), catalogue().keys(), today)

    def unverified(self) -> list[Unverified]:
        """Return the listeners whose checks all ended without the required verdict.

        A TLS listener requires a verdict about mutual TLS, if such checks were selected. Any other listener
        requires any verdict, unless no selected check applies.
        """
        found = []
        by_listener: dict[tuple[str, str], list[CheckResult]] = {}
        for result in self.results:
            by_listener.setdefault((result.target, result.listener), []).append(result)
        for target in self.run.targets:
            label = target.outline.label
            actual = target.seen.target if target.seen else target.outline
            whole = by_listener.get((label, CLUSTER), [])
            if not actual.runs and any(result.check == "config.starts" for result in whole):
                continue  # that result is a violation, with the reason
            for listener in actual.listeners:
                results = by_listener.get((label, listener.label), [])
                if any(result.outcome is Outcome.NOT_RUN for result in results):
                    continue
                about_tls = [result for result in results if result.check.startswith("mtls.")]
                applicable = [result for result in results if result.outcome is not Outcome.NOT_APPLICABLE]
                wanted = about_tls if about_tls and listener.scheme == "https" else applicable
                if wanted and not any(result.outcome in VERDICTS for result in wanted):
                    what = "no check about mutual TLS" if wanted is about_tls else "no check"
                    found.append(Unverified(label, listener.url, what))
        return found


DISCOVERY = "cluster.discovered"
"""The check that reports whether every member was discovered."""

ENDED_WELL = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)
"""pytest's exit codes of a run that was not cut short."""


def is_selective(config: pytest.Config) -> bool:
    """Return whether an option of pytest's may deselect everything on purpose."""
    return any(config.getoption(name, False) for name in ("lf", "stepwise", "stepwise_skip"))


def problems(session: pytest.Session, invocation: Invocation, ledger: Ledger) -> list[str]:
    """Return the problems that fail the run in addition to results, one sentence each."""
    if is_dry(session.config) or session.exitstatus not in ENDED_WELL:
        return []
    return [
        *_nothing_ran(session, invocation, ledger),
        *shortcomings(ledger),
        *stale_waivers(ledger.review_waivers()),
    ]


def shortcomings(ledger: Ledger) -> list[str]:
    """Return which members and listeners have no verdict, one sentence each."""
    return [*_undiscovered(ledger), *_unverified(ledger)]


def exit_status(status: int, ledger: Ledger, found: list[str]) -> int:
    """Return pytest's exit status, corrected: our items count as collected, and a problem fails the run."""
    if status == pytest.ExitCode.NO_TESTS_COLLECTED and ledger.judged:
        status = pytest.ExitCode.TESTS_FAILED if ledger.failed else pytest.ExitCode.OK
    if found and status in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        status = pytest.ExitCode.TESTS_FAILED
    return status


def gather(run: Run, ledger: Ledger, status: int, problems: list[str]) -> Report:
    """Return the report of the run; what could not be added to it at the end is appended to the problems."""
    seen = tuple(_seen(target, problems) for target in run.targets)
    snapshots = tuple(_snapshots(seen, ledger, problems))
    compared = _compared(snapshots, run.settings.baseline, problems)
    not_as_before = list(_not_as_before(run, compared)) if status in ENDED_WELL else []
    problems += not_as_before
    return Report(
        started_at=run.started_at,
        seconds=(datetime.now(UTC) - run.started_at).total_seconds(),
        partial=not ledger.complete or status not in ENDED_WELL,
        seen=seen,
        results=tuple(ledger.results),
        profiles=run.settings.profiles,
        left_out=_left_out(run),
        problems=tuple(problems),
        status=exit_status(status, ledger, problems),
        snapshots=snapshots,
        comparisons=compared,
        not_as_before=tuple(not_as_before),
        metadata=run.settings.metadata,
    )


def _snapshots(seen: Iterable[Seen], ledger: Ledger, problems: list[str]) -> Iterator[Snapshot]:
    for one in seen:
        try:
            yield snapshot(one, ledger.results)
        except Exception as error:  # costs the comparison of this target
            problems.append(f"{one.target.label} could not be compared: {error_text(error)}.")


def _compared(
    snapshots: Sequence[Snapshot], baseline: Baseline | None, problems: list[str]
) -> tuple[ComparedTargets, ...]:
    try:
        return comparisons(snapshots, baseline)
    except Exception as error:  # costs the comparison, and no report
        problems.append(f"The targets could not be compared: {error_text(error)}.")
        return ()


def _not_as_before(run: Run, compared: Iterable[ComparedTargets]) -> Iterator[str]:
    """Yield the reasons why differences fail the run. A violation fails it anyway."""
    for one in compared:
        count = sum(not difference.follows for difference in one.differences)
        if one.baseline and one.worse:
            more = f" and {len(one.worse) - 1} more" if len(one.worse) > 1 else ""
            yield f"Worse than the baseline: {one.worse[0].sentence}{more} ({one.labels[1]})."
        elif run.settings.fail_on_difference and count:
            between = f"between {one.labels[0]} and {one.labels[1]}"
            yield f"--etcd-fail-on-difference: {plural(count, 'difference')} {between}."


def _left_out(run: Run) -> Counter[str]:
    return sum((left_out_of(run.checks, target.outline) for target in run.targets), Counter())


def _seen(target: TargetRun, problems: list[str]) -> Seen:
    observer = target.reported
    if observer is None:
        return Seen(target=target.outline)
    try:
        _complete(observer)
    except Exception as error:  # costs no other target its report
        label = observer.target.label
        problems.append(f"Observations of {label} are missing in the report: {error_text(error)}.")
    return Seen(target=observer.target, facts=tuple(observer.facts), connections=tuple(observer.connections))


def _complete(observer: Observer) -> None:
    """Make the observations that a report shows and no check may have needed."""
    for listener in observer.target.listeners:
        if observer.known(FirstContact, listener=listener) is not None:
            with suppress(UnobservedError):
                observer.get(ServedChain, listener=listener)  # from the first contact, without a connection
    if observer.connections:
        with suppress(UnobservedError):
            observer.get(EtcdLogs)  # at the end, when all our connections are known


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
            "--no-etcd-conformance says that this is meant."
        )


def _undiscovered(ledger: Ledger) -> Iterator[str]:
    """Yield which members are not judged, unless :data:`DISCOVERY` was selected."""
    if any(result.check == DISCOVERY for result in ledger.results):
        return
    for target in ledger.run.targets:
        if target.discovers and target.seen is not None:
            result = ledger.run.result(target, catalogue()[DISCOVERY], CLUSTER)
            if result.outcome in FAILED:
                text = result.findings[0].message if result.findings else result.reason
                yield f"--etcd-discover: {text} ({DISCOVERY}, which was not selected, has it in full)."


def _unverified(ledger: Ledger) -> Iterator[str]:
    if ledger.run.settings.allow_unverified:
        return
    for listener in ledger.unverified():
        yield (
            f"{listener.url} of {listener.target}: {listener.what} came to a verdict; "
            "--etcd-allow-unverified accepts that."
        )


def stale_waivers(found: Review) -> Iterator[str]:
    """Yield the number of stale waivers, if there are some."""
    if number := len(found.stale):
        those = "it" if number == 1 else "them"
        yield f"{plural(number, 'stale waiver')} (see the summary): remove or renew {those}."
