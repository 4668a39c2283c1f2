"""What fails a run besides its results: what no item shows.

A TLS listener on which no check about mutual TLS has a verdict, a stale waiver, a suite that was requested
and of which nothing ran. A run that verified nothing must not look like one that found nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from pytest_etcdtls.checks.registry import GATES, catalogue, family_of
from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.facts.access import AcceptedClient
from pytest_etcdtls.facts.rehearsal import Rehearsals
from pytest_etcdtls.options import Invocation
from pytest_etcdtls.profiles.profiles import FAILED
from pytest_etcdtls.report.overview import RESTART, undecided
from pytest_etcdtls.role import CLUSTER, Role
from pytest_etcdtls.run.judge import checks_of
from pytest_etcdtls.run.runner import ENDED_WELL, Run, TargetRun
from pytest_etcdtls.target import Listener, Target

VERDICTS = frozenset({Outcome.CONFORMS, Outcome.VIOLATES, Outcome.WARNS, Outcome.WAIVED})
"""Outcomes that are a verdict about a listener."""
_DECIDED = FAILED | {Outcome.WAIVED}
"""Outcomes that fail the run, or that the user accepts."""
_TRUSTED = "mtls.trusted-client"
"""The check that reports whether a good client is accepted."""
_WITHOUT_CLIENTS = frozenset({*GATES, "cert.valid-now", "config.dials-with-valid-certificates"})
"""Checks that say why no client is accepted: of those that are known, the others may be etcd's own pairs."""
DISCOVERY = "cluster.discovered"
"""The check that reports whether every member was discovered."""


def problems_of(run: Run, session: pytest.Session, invocation: Invocation) -> Iterator[str]:
    """Yield the problems that fail the run in addition to results, one sentence each."""
    if session.exitstatus in ENDED_WELL:
        yield from _nothing_ran(run, session, invocation)
        yield from _ended(run)
        yield from shortcomings(run)
        yield from run.reviewed.problems.values()


def _unverified(run: Run) -> Iterator[str]:
    """Yield which listeners lack the required verdict, one sentence each.

    A TLS listener requires a verdict about mutual TLS, if such checks were selected, and one good client
    that it accepts, if some were tried. Any other listener requires any verdict, unless no selected check
    applies.
    """
    by_listener: dict[tuple[str, str], list[CheckResult]] = {}
    for result in run.results:
        by_listener.setdefault((result.target, result.listener), []).append(result)
    for target in run.targets:
        label = target.outline.label
        actual = target.seen.target if target.seen else target.outline
        if not actual.runs:
            continue  # its start is a violation, with the reason
        if actual.unjudged:
            yield f"{actual.unjudged}."
            continue
        judged = [one for (where, _), results in by_listener.items() if where == label for one in results]
        yield from _not_rehearsed(target, judged)
        yield from _no_client_listener(actual, judged)
        if all(result.listener == CLUSTER for result in judged) and not _has_verdict(judged):
            yield f"the whole cluster of {label}: no check has a verdict."
        for listener in actual.listeners:
            results = by_listener.get((label, listener.label), [])
            if any(result.outcome is Outcome.NOT_RUN for result in results):
                continue
            of_all = by_listener.get((label, CLUSTER), [])
            if any(one.check in _WITHOUT_CLIENTS and one.outcome in FAILED for one in (*results, *of_all)):
                continue  # this fails the run, with the reason
            about_tls = [result for result in results if result.check.startswith("mtls.")]
            applicable = [result for result in results if result.outcome is not Outcome.NOT_APPLICABLE]
            wanted = about_tls if about_tls and listener.scheme == "https" else applicable
            if not _has_verdict(wanted):
                missing = "no check about mutual TLS" if wanted is about_tls else "no check"
                why = undecided(result for result in wanted if result.outcome is Outcome.NOT_VERIFIED)
                because = f": {why[0].reason}" if why else ""
                yield f"{listener.url} of {label}: {missing} has a verdict{because}."
            elif missing := _who_is_refused(target, listener, results):
                yield f"{listener.url} of {label}: {missing}."


def _not_rehearsed(target: TargetRun, judged: Iterable[CheckResult]) -> Iterator[str]:
    """Yield why the next restart was not rehearsed, if it was to be."""
    if not target.outline.rehearses or target.seen is None:
        return
    rehearsals = target.seen.recording.known(Rehearsals)
    reasons = dict.fromkeys(rehearsals.refused if rehearsals else ())
    if rehearsals is None:
        reasons = {one.why: None for one in judged if family_of(one.check) == RESTART and one.reason}
    yield from (f"{reason}." for reason in reasons)


def _no_client_listener(target: Target, judged: Iterable[CheckResult]) -> Iterator[str]:
    """Yield which client listener is declared and not judged, if none is and listeners are judged."""
    if any(one.role is not Role.PEER and one.role is not Role.METRICS for one in target.listeners):
        return
    unreached = [other for other in target.unreached if other.role is Role.CLIENT]
    if unreached and any(result.listener != CLUSTER for result in judged):
        yield f"{unreached[0].url} of {target.label}: no client listener is judged: {unreached[0].reason}."


def _who_is_refused(target: TargetRun, listener: Listener, results: Iterable[CheckResult]) -> str:
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


def is_selective(config: pytest.Config) -> bool:
    """Return whether an option of pytest's may deselect everything on purpose."""
    return any(config.getoption(name, False) for name in ("lf", "stepwise", "stepwise_skip"))


def _ended(run: Run) -> Iterator[str]:
    for target in run.targets:
        if why := target.ended():
            yield f"{target.outline.label} did not run to the end: {why}."


def shortcomings(run: Run) -> list[str]:
    """Return which members and listeners have no verdict, one sentence each."""
    unverified = () if run.settings.allow_unverified else _unverified(run)
    return [*_undiscovered(run), *unverified]


def _nothing_ran(run: Run, session: pytest.Session, invocation: Invocation) -> Iterator[str]:
    stopped = session.shouldfail or session.shouldstop
    if invocation.requested and not run.judged and not stopped and not is_selective(session.config):
        collected = any(
            checks for target in run.targets for _, checks in checks_of(target.outline, run.checks)
        )
        deselected = "they were deselected (-k, -m, --deselect, an ini file)"
        why = deselected if collected else "; ".join(run.left_out)
        if run.selected:
            why = "a hook of a conftest.py or plugin failed before them"
        yield (
            f"The suite was asked for on the command line and none of its checks ran: {why}. "
            "--no-etcd-conformance confirms that this is intended."
        )


def _undiscovered(run: Run) -> Iterator[str]:
    """Yield which members are not judged, unless :data:`DISCOVERY` was selected."""
    if any(result.check == DISCOVERY for result in run.results):
        return
    for target in run.targets:
        if target.discovers and target.seen is not None:
            result = target.result(catalogue()[DISCOVERY], CLUSTER)
            if result.outcome in FAILED:
                text = result.findings[0].message if result.findings else result.reason
                yield f"--etcd-discover: {text} ({DISCOVERY}, which was not selected, has it in full)."
