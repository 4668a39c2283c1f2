"""Experiments and what is expected of them.

An experiment with one check is one function: its docstring is that of the check, and its body yields the
steps. Others are registered with :func:`~pytest_etcdtls.lifecycle.settings.runs`, and their checks judge with
:func:`judge_steps`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Struct
from msgspec.structs import replace

from pytest_etcdtls.checks.judgement import SERVED
from pytest_etcdtls.checks.registry import Counterexample, check
from pytest_etcdtls.checks.results import Finding, Statement, inconclusive
from pytest_etcdtls.facts.experiments import Experiment, ExperimentAttempt
from pytest_etcdtls.lifecycle.settings import runs
from pytest_etcdtls.tls.attempt import Ending
from pytest_etcdtls.tls.command import Command

if TYPE_CHECKING:
    from pytest_etcdtls.lifecycle.settings import Procedure

ACCEPTED = frozenset({Ending.SERVED})
REFUSED = frozenset({Ending.REFUSED})
"""Refused by TLS, with a certificate alert."""
REFUSED_OR_CLOSED = frozenset({Ending.REFUSED, Ending.CLOSED})
"""Refused by TLS, or by etcd itself, which closes the connection after the handshake."""
NO_HANDSHAKE = frozenset({Ending.REFUSED, Ending.OTHER})
"""Refused with any alert: the client's certificate is not the cause."""


def attempts_changed(step: str, who: str, **changes: Any) -> Counterexample:  # noqa: ANN401
    """Return a counterexample that changes one client's attempts in one step of an experiment."""

    def changed(made: ExperimentAttempt) -> ExperimentAttempt:
        return replace(made, attempt=replace(made.attempt, **changes)) if made.who == who else made

    def counterexample(experiment: Experiment) -> Mapping[str, Any]:
        steps = tuple(
            replace(found, attempts=tuple(map(changed, found.attempts))) if found.name == step else found
            for found in experiment.steps
        )
        return {"experiment": replace(experiment, steps=steps)}

    return counterexample


class Expected(Struct, frozen=True):
    """How the attempts of one identity in one step must end.

    Attributes:
        step: name of the step.
        who: the identity.
        endings: how its attempts may end.
        control: if this expectation fails, only identities that are wrongly accepted are judged.
    """

    step: str
    who: str
    endings: frozenset[Ending]
    control: bool = False


EXPECTED: dict[str, tuple[Expected, ...]] = {}
"""What is expected of the experiments of which every attempt has an expectation, by name."""


def experiment_check(
    name: str,
    *expectations: Expected,
    reproduce: tuple[Command | str, ...] = (),
    also: Callable[[Experiment], Iterable[Statement]] = lambda _: (),
    counterexample: Counterexample | None = None,
) -> Callable[[Procedure], Procedure]:
    """Register an experiment and its check, ``lifecycle.NAME``, which its docstring describes.

    Args:
        name: its name.
        expectations: how its attempts must end.
        reproduce: commands for a finding.
        also: judges what no expectation says.
        counterexample: of the check (default: the first client that must be refused is accepted).
    """

    def judge(experiment: Experiment) -> Iterator[Statement]:
        yield from judge_steps(experiment, expectations, reproduce)
        yield from also(experiment)

    if counterexample is None:
        refused = next(expected for expected in expectations if expected.endings != ACCEPTED)
        counterexample = attempts_changed(refused.step, refused.who, **SERVED)

    def register(procedure: Procedure) -> Procedure:
        judge.__doc__, judge.__name__ = procedure.__doc__, procedure.__name__
        judge.__module__, judge.__qualname__ = procedure.__module__, procedure.__qualname__
        judge.__annotations__["experiment"] = Annotated[Experiment, name]
        EXPECTED[name] = expectations
        check(f"lifecycle.{name}", on=set(), counterexample=counterexample)(judge)
        return runs(name)(procedure)

    return register


def judge_steps(
    experiment: Experiment, expectations: Sequence[Expected], reproduce: tuple[Command | str, ...] = ()
) -> Iterator[Statement]:
    """Judge an experiment by expectations; ``reproduce`` are commands for a finding.

    Raises:
        LookupError: if it has no attempt for an expectation.
    """
    controlled = True
    for expected in (found for found in expectations if found.control):
        others = _others(experiment, expected)
        controlled = controlled and not others
        for made in others:
            yield inconclusive(f"{_done(experiment, expected)}; {made.describe()}")
    for expected in (found for found in expectations if not found.control):
        yield from _judge(experiment, expected, reproduce, controlled=controlled)


def _judge(
    experiment: Experiment, expected: Expected, reproduce: tuple[Command | str, ...], *, controlled: bool
) -> Iterator[Statement]:
    others = _others(experiment, expected)
    accepted = [made for made in others if made.attempt.ending is Ending.SERVED]
    not_accepted = [
        made for made in others if expected.endings == ACCEPTED and made.attempt.ending is not Ending.UNCLEAR
    ]
    wrong = accepted or (not_accepted if controlled else [])
    for made in others:
        if made not in wrong:
            yield inconclusive(f"{_done(experiment, expected)}; {made.describe()}")
    stale = [
        made
        for made in experiment.step(expected.step).of(expected.who)
        if made.on_disk is not None
        and made.attempt.ending is Ending.SERVED
        and made.attempt.chain[:1] != (made.on_disk,)
    ]
    if stale and expected.endings == ACCEPTED:
        yield finding(
            experiment,
            expected.step,
            stale,
            message=f"another certificate is served ({_done(experiment, expected)})",
            expected="the certificate that is on disk",
            reproduce=reproduce,
        )
    if wrong:
        becomes = "accepted" if accepted else "not accepted"
        yield finding(
            experiment,
            expected.step,
            wrong,
            message=f"{expected.who}: {becomes} ({_done(experiment, expected)})",
            expected="not accepted" if accepted else "accepted",
            reproduce=reproduce,
        )


def finding(
    experiment: Experiment,
    step: str,
    attempts: Sequence[ExperimentAttempt],
    *,
    message: str,
    expected: str,
    reproduce: tuple[Command | str, ...] = (),
) -> Finding:
    """Return a finding about some attempts of a step."""
    return Finding(
        message=message,
        expected=expected,
        observed="; ".join(made.describe() for made in attempts),
        evidence={
            "etcd": experiment.etcd_version,
            "started with": " ".join(experiment.flags) or "mutual TLS on both ports",
            "step": experiment.step(step).done,
        },
        reproduce=reproduce,
    )


def _others(experiment: Experiment, expected: Expected) -> list[ExperimentAttempt]:
    """Return the attempts that did not end as expected."""
    return [
        made
        for made in experiment.step(expected.step).of(expected.who)
        if made.attempt.ending not in expected.endings
    ]


def _done(experiment: Experiment, expected: Expected) -> str:
    return experiment.step(expected.step).done
