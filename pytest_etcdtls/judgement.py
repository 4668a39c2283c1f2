"""Judgements that several checks share: identities that must be refused, and experiments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.facts.access import AccessCase, AccessMatrix
from pytest_etcdtls.facts.experiments import Experiment, ExperimentAttempt, Step
from pytest_etcdtls.refusal import CLOSED_BY_ETCD, ControlState, rule
from pytest_etcdtls.reproduce import curl
from pytest_etcdtls.results import CannotJudge, Finding, Note, Outcome, Statement
from pytest_etcdtls.tls.attempt import Ending


def judge(admission: AccessMatrix, who: str) -> Iterator[Statement]:
    """Judge an identity that must be refused by the refusal table, case by case.

    Args:
        admission: the attempts of the identity.
        who: the identity in words.
    """
    served: list[AccessCase] = []
    for cell in admission.cells:
        control = cell.control.attempt
        state = ControlState(control.ending) if control else ControlState.NONE_KNOWN
        ruling = rule(cell.attempt.ending, state, etcd_closes=admission.identity in CLOSED_BY_ETCD)
        place = f"{cell.version} {cell.protocol}"
        match ruling.outcome:
            case Outcome.VIOLATES:
                served.append(cell)
            case Outcome.CONFORMS:
                if ruling.note:
                    yield Note(ruling.note)
            case _:
                reason = f"{place}: {cell.attempt.describe()}"
                if control is not None:
                    reason += f"; control {cell.control.identity}: {control.describe()}"
                yield CannotJudge(
                    ruling.outcome, ruling.note if ruling.outcome is Outcome.NOT_VERIFIED else reason
                )
    if served:
        yield _wrongly_accepted(admission, served, who)


def observed_in(cells: Iterable[AccessCase]) -> str:
    """Return in words how the attempts of an identity ended, by TLS version and protocol."""
    return "; ".join(f"{cell.version} {cell.protocol}: {cell.attempt.describe()}" for cell in cells)


def reproduce_in(admission: AccessMatrix, cells: Iterable[AccessCase]) -> tuple[str, ...]:
    """Return shell lines that create such an identity and try it in these TLS versions and protocols."""
    lines = (
        curl(
            admission.url,
            role=admission.role,
            files=admission.files,
            version=cell.version,
            protocol=cell.protocol,
        )
        for cell in cells
    )
    return admission.recipe + tuple(dict.fromkeys(lines))


_NOBODY_ASKED = (
    "this port requests no certificate and accepts every client, see mtls.no-certificate: set "
    "--{peer}client-cert-auth=true together with --{peer}trusted-ca-file, and give --{peer}cert-file "
    "explicitly (auto-tls drops both)"
)


_UNTRUSTED_IDENTITIES = {
    "none": "a client without a certificate",
    "self-signed": "a self-signed certificate",
    "foreign-ca": "a certificate of a foreign CA",
}


def _wrongly_accepted(admission: AccessMatrix, served: list[AccessCase], who: str) -> Finding:
    if admission.instead_of:
        untrusted = _UNTRUSTED_IDENTITIES.get(admission.identity, admission.identity)
        message = f"{who} is not refused: {untrusted} is accepted"
    else:
        message = f"{who} is accepted"
    asked = any(cell.attempt.certificate_requested for cell in served)
    return Finding(
        message=message,
        expected="a certificate alert in every TLS version and protocol",
        observed=observed_in(served),
        evidence={"identity": admission.identity}
        | ({"certificate": admission.certificate} if admission.certificate else {}),
        reproduce=reproduce_in(admission, served),
        remediation="" if asked or admission.identity == "none" else _NOBODY_ASKED,
    )


ACCEPTED = frozenset({Ending.SERVED})
REFUSED = frozenset({Ending.REFUSED})
"""Refused by TLS, with a certificate alert."""
REFUSED_OR_CLOSED = frozenset({Ending.REFUSED, Ending.CLOSED})
"""Refused by TLS, or by etcd itself, which closes the connection after the handshake."""
NO_HANDSHAKE = frozenset({Ending.REFUSED, Ending.OTHER})
"""Refused with any alert: the client's certificate is not the cause."""


@dataclass(frozen=True, slots=True)
class Expected:
    """How the attempts of one identity in one step must end.

    Attributes:
        step: name of the step.
        who: the identity.
        ways: how its attempts may end.
        control: if this expectation fails, only identities that are wrongly accepted are judged.
    """

    step: str
    who: str
    ways: frozenset[Ending]
    control: bool = False


def judge_steps(
    experiment: Experiment, expectations: Sequence[Expected], reproduce: tuple[str, ...] = ()
) -> Iterator[Statement]:
    """Judge an experiment.

    Args:
        experiment: with at least one attempt for every expectation.
        expectations: how the attempts must end.
        reproduce: shell lines for a finding.

    Raises:
        LookupError: if it has no attempt for an expectation.
    """
    controlled = True
    for expected in (found for found in expectations if found.control):
        others = _others(experiment, expected)
        controlled = controlled and not others
        for trial in others:
            yield CannotJudge(Outcome.INCONCLUSIVE, f"{_done(experiment, expected)}; {trial.describe()}")
    for expected in (found for found in expectations if not found.control):
        yield from _judge(experiment, expected, reproduce, controlled=controlled)


def _judge(
    experiment: Experiment, expected: Expected, reproduce: tuple[str, ...], *, controlled: bool
) -> Iterator[Statement]:
    others = _others(experiment, expected)
    accepted = [trial for trial in others if trial.attempt.ending is Ending.SERVED]
    not_accepted = [
        trial for trial in others if expected.ways == ACCEPTED and trial.attempt.ending is not Ending.UNCLEAR
    ]
    wrong = accepted or (not_accepted if controlled else [])
    for trial in others:
        if trial not in wrong:
            yield CannotJudge(Outcome.INCONCLUSIVE, f"{_done(experiment, expected)}; {trial.describe()}")
    if wrong:
        becomes = "accepted" if accepted else "not accepted"
        yield finding(
            experiment,
            experiment.step(expected.step),
            wrong,
            message=f"{expected.who}: {becomes} ({_done(experiment, expected)})",
            expected="not accepted" if accepted else "accepted",
            reproduce=reproduce,
        )


def finding(
    experiment: Experiment,
    step: Step,
    trials: Sequence[ExperimentAttempt],
    *,
    message: str,
    expected: str,
    reproduce: tuple[str, ...] = (),
) -> Finding:
    """Return a finding about some attempts of a step."""
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


def _others(experiment: Experiment, expected: Expected) -> list[ExperimentAttempt]:
    """Return the attempts that did not end as expected."""
    return [
        trial
        for trial in experiment.step(expected.step).of(expected.who)
        if trial.attempt.ending not in expected.ways
    ]


def _done(experiment: Experiment, expected: Expected) -> str:
    return experiment.step(expected.step).done
