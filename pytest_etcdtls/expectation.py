"""Judging an experiment: what should become of whom in which step, and whether it did.

Pure; shared by the checks of what an etcd does when its files or flags change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_etcdtls.observations.attempt import Way
from pytest_etcdtls.observations.experiment import Experiment, Step, Trial
from pytest_etcdtls.results import Finding, Outcome, Statement, Verdict

LET_IN = frozenset({Way.SERVED})
REFUSED = frozenset({Way.REFUSED})
"""By TLS, with a certificate alert."""
KEPT_OUT = frozenset({Way.REFUSED, Way.CLOSED})
"""By TLS, or by etcd itself, which closes the connection after the handshake."""
NO_HANDSHAKE = frozenset({Way.REFUSED, Way.OTHER})
"""With whatever alert: it is about no certificate of the client."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What should become of one identity in one step.

    Attributes:
        step: its name.
        who: the identity.
        ways: the ways in which its attempts may end.
        control: the rest is not judged, apart from who is let in wrongly, if this does not hold.
    """

    step: str
    who: str
    ways: frozenset[Way]
    control: bool = False


def judge_steps(
    experiment: Experiment, expectations: Sequence[Expected], reproduce: tuple[str, ...] = ()
) -> Iterator[Statement]:
    """Judge an experiment.

    Args:
        experiment: with a trial at least for every expectation.
        expectations: what should have happened.
        reproduce: shell lines for a finding.

    Raises:
        LookupError: if it has no trial for an expectation.
    """
    controlled = True
    for expected in (found for found in expectations if found.control):
        others = _others(experiment, expected)
        controlled = controlled and not others
        for trial in others:
            yield Verdict(Outcome.INCONCLUSIVE, f"{_done(experiment, expected)}; {trial.describe()}")
    for expected in (found for found in expectations if not found.control):
        yield from _judge(experiment, expected, reproduce, controlled=controlled)


def _judge(
    experiment: Experiment, expected: Expected, reproduce: tuple[str, ...], *, controlled: bool
) -> Iterator[Statement]:
    others = _others(experiment, expected)
    let_in = [trial for trial in others if trial.attempt.way is Way.SERVED]
    kept_out = [trial for trial in others if expected.ways == LET_IN and trial.attempt.way is not Way.UNCLEAR]
    wrong = let_in or (kept_out if controlled else [])
    for trial in others:
        if trial not in wrong:
            yield Verdict(Outcome.INCONCLUSIVE, f"{_done(experiment, expected)}; {trial.describe()}")
    if wrong:
        becomes = "let in" if let_in else "not let in"
        yield finding(
            experiment,
            experiment.step(expected.step),
            wrong,
            message=f"{expected.who}: {becomes} ({_done(experiment, expected)})",
            expected="not let in" if let_in else "let in",
            reproduce=reproduce,
        )


def finding(
    experiment: Experiment,
    step: Step,
    trials: Sequence[Trial],
    *,
    message: str,
    expected: str,
    reproduce: tuple[str, ...] = (),
) -> Finding:
    """Return a finding about some trials of a step."""
    return Finding(
        message=message,
        expected=expected,
        observed="; ".join(trial.describe() for trial in trials),
        evidence={
            "etcd": experiment.etcd_version,
            "started with": " ".join(experiment.flags) or "mutual TLS on both ports",
            "step": step.done,
        },
        reproduce=reproduce,
    )


def _others(experiment: Experiment, expected: Expected) -> list[Trial]:
    """Return the trials that ended otherwise than expected."""
    return [
        trial
        for trial in experiment.step(expected.step).of(expected.who)
        if trial.attempt.way not in expected.ways
    ]


def _done(experiment: Experiment, expected: Expected) -> str:
    return experiment.step(expected.step).done
