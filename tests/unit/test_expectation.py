"""The judgement of an experiment: expected endings, observed endings, and the control."""

from __future__ import annotations

import pytest
from unrecorded import experiment_of

from pytest_etcdtls.checks.expectations import (
    ACCEPTED,
    NO_HANDSHAKE,
    REFUSED,
    REFUSED_OR_CLOSED,
    Expected,
    judge_steps,
)
from pytest_etcdtls.checks.results import CannotJudge, Finding
from pytest_etcdtls.facts.experiments import Experiment
from pytest_etcdtls.tls.attempt import Ending


def _made(good: str, subject: str) -> Experiment:
    return experiment_of("sample", {"start": {"good": good, "subject": subject}})


def _outcomes(made: Experiment, expected: frozenset[Ending]) -> list[str]:
    statements = judge_steps(
        made, [Expected("start", "good", ACCEPTED, control=True), Expected("start", "subject", expected)]
    )
    return [
        "finding" if isinstance(said, Finding) else str(said.outcome)
        for said in statements
        if isinstance(said, Finding | CannotJudge)
    ]


@pytest.mark.parametrize(
    ("expected", "subject", "outcomes"),
    [
        *((expected, "unclear", ["inconclusive"]) for expected in (ACCEPTED, REFUSED)),
        *((ACCEPTED, subject, ["finding"]) for subject in ("refused", "closed", "no handshake")),
        *((expected, "accepted", ["finding"]) for expected in (REFUSED, REFUSED_OR_CLOSED, NO_HANDSHAKE)),
        *((REFUSED, subject, ["inconclusive"]) for subject in ("closed", "no handshake")),
        (ACCEPTED, "accepted", []),
        (REFUSED, "refused", []),
        (REFUSED_OR_CLOSED, "closed", []),
        (NO_HANDSHAKE, "no handshake", []),
        (NO_HANDSHAKE, "refused", []),
        (NO_HANDSHAKE, "closed", ["inconclusive"]),
    ],
)
def test_every_way_against_every_expectation(
    expected: frozenset[Ending], subject: str, outcomes: list[str]
) -> None:
    assert _outcomes(_made("accepted", subject), expected) == outcomes


@pytest.mark.parametrize("good", ["refused", "closed", "no handshake", "unclear"])
def test_without_a_control_only_a_wrong_acceptance_is_found(good: str) -> None:
    assert _outcomes(_made(good, "accepted"), REFUSED) == ["inconclusive", "finding"]
    assert _outcomes(_made(good, "refused"), ACCEPTED) == ["inconclusive", "inconclusive"]
    assert _outcomes(_made(good, "refused"), REFUSED) == ["inconclusive"]


def test_a_finding_has_message_expectation_evidence_and_command() -> None:
    made = _made("accepted", "accepted")
    (finding,) = judge_steps(made, [Expected("start", "subject", REFUSED)], ("curl",))
    assert isinstance(finding, Finding)
    assert finding.message == "subject: accepted (start was done)"
    assert finding.expected == "not accepted"
    assert "served: HTTP 200" in finding.observed
    assert finding.evidence["step"] == "start was done"
    assert finding.reproduce == ("curl",)


@pytest.mark.parametrize(
    "expected", [Expected("end", "good", ACCEPTED), Expected("start", "nobody", ACCEPTED)]
)
def test_an_expectation_about_nothing_is_a_fault(expected: Expected) -> None:
    with pytest.raises(LookupError, match=r"end|nobody"):
        list(judge_steps(_made("accepted", "accepted"), [expected]))
