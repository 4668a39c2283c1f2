"""The end of a run: what fails it besides results, and the report that is made of it.

Decides and gathers; shows nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime

import pytest

from pytest_etcdtls.catalog import catalogue
from pytest_etcdtls.conformance.ledger import FAILING, Ledger
from pytest_etcdtls.errors import UnobservedError
from pytest_etcdtls.observations.chain import ServedChain
from pytest_etcdtls.observations.etcd_log import EtcdLogs
from pytest_etcdtls.observations.listener import Answer
from pytest_etcdtls.options.invocation import Invocation, is_dry
from pytest_etcdtls.registry import CLUSTER
from pytest_etcdtls.report.model import Report, Seen
from pytest_etcdtls.run import Run, TargetRun

DISCOVERY = "cluster.discovered"
"""The check that says whether every member was found."""

_ENDED_WELL = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)
_SELECTIVE = ("lf", "stepwise", "stepwise_skip")


def problems(session: pytest.Session, invocation: Invocation, ledger: Ledger) -> list[str]:
    """Return what fails the run besides results, one sentence each."""
    if is_dry(session.config) or session.exitstatus not in _ENDED_WELL:
        return []
    return [
        *_nothing_ran(session, invocation, ledger),
        *_undiscovered(ledger),
        *_unverified(ledger),
        *_stale(ledger),
    ]


def exit_status(status: int, ledger: Ledger, found: list[str]) -> int:
    """Return pytest's exit status put right: ours count as collected, and a problem fails the run."""
    if status == pytest.ExitCode.NO_TESTS_COLLECTED and ledger.judged:
        status = pytest.ExitCode.TESTS_FAILED if ledger.failed else pytest.ExitCode.OK
    if found and status in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        status = pytest.ExitCode.TESTS_FAILED
    return status


def gather(run: Run, ledger: Ledger, status: int) -> Report:
    """Return the report of the run."""
    return Report(
        started_at=run.started_at,
        seconds=(datetime.now(UTC) - run.started_at).total_seconds(),
        partial=not ledger.complete or status not in _ENDED_WELL,
        seen=tuple(_seen(target) for target in run.targets),
        results=tuple(ledger.results),
    )


def _seen(target: TargetRun) -> Seen:
    observer = target.seen
    if observer is None:
        return Seen(target=target.outline)
    for listener in observer.target.listeners:
        if any(label == listener.label and isinstance(fact, Answer) for label, _, fact in observer.facts):
            with suppress(UnobservedError):
                observer.get(ServedChain, listener=listener)  # out of the answer, without a connection
    if observer.connections:
        with suppress(UnobservedError):
            observer.get(EtcdLogs)  # at the end, when every connection of ours is known
    return Seen(target=observer.target, facts=tuple(observer.facts), connections=tuple(observer.connections))


def _nothing_ran(session: pytest.Session, invocation: Invocation, ledger: Ledger) -> Iterator[str]:
    stopped = session.shouldfail or session.shouldstop
    selective = any(session.config.getoption(name, False) for name in _SELECTIVE)
    if invocation.asked and not ledger.judged and not stopped and not selective:
        yield (
            "The suite was asked for on the command line and none of its checks ran: they were deselected "
            "(-k, -m, --deselect, an ini file). --no-etcd-conformance says that this is meant."
        )


def _undiscovered(ledger: Ledger) -> Iterator[str]:
    """Say which members are not judged, where the check that says so is not among the results."""
    if any(result.check == DISCOVERY for result in ledger.results):
        return
    for target in ledger.run.targets:
        if target.asks and target.seen is not None:
            result = ledger.run.result(target, catalogue()[DISCOVERY], CLUSTER)
            if result.outcome in FAILING:
                said = result.findings[0].message if result.findings else result.reason
                yield f"--etcd-discover: {said} ({DISCOVERY}, which was not selected, has it in full)."


def _unverified(ledger: Ledger) -> Iterator[str]:
    if ledger.run.settings.allow_unverified:
        return
    for listener in ledger.unverified():
        yield (
            f"{listener.url} of {listener.target}: {listener.what} came to a verdict; "
            "--etcd-allow-unverified accepts that."
        )


def _stale(ledger: Ledger) -> Iterator[str]:
    number = len(ledger.review_waivers().stale)
    if number:
        yield f"{number} stale waiver{'s' if number > 1 else ''} (see the summary): remove or renew them."
