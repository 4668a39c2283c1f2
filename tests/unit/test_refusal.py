"""Every cell of the refusal table has the outcome of docs/what-a-refusal-is.md."""

from __future__ import annotations

import pytest

from pytest_etcdtls.refusal import TABLE, ControlState, rule
from pytest_etcdtls.results import Outcome
from pytest_etcdtls.tls.attempt import Ending

CONTROLS = ("served", "none known", "closed", "refused", "other", "unclear")
EXPECTED = {
    "served": ("violates", "violates", "violates", "violates", "violates", "violates"),
    "refused": ("conforms", "conforms", "conforms", "not-verified", "not-verified", "inconclusive"),
    "closed": (
        "inconclusive",
        "inconclusive",
        "not-verified",
        "not-verified",
        "not-verified",
        "inconclusive",
    ),
    "other": (
        "inconclusive",
        "inconclusive",
        "inconclusive",
        "not-verified",
        "not-verified",
        "inconclusive",
    ),
    "unclear": ("inconclusive",) * 6,
}
CELLS = [
    pytest.param(ending, control, outcome, id=f"{ending}-{control}".replace(" ", "-"))
    for ending, row in EXPECTED.items()
    for control, outcome in zip(CONTROLS, row, strict=True)
]


@pytest.mark.parametrize(("ending", "control", "outcome"), CELLS)
def test_cell(ending: str, control: str, outcome: str) -> None:
    assert rule(Ending(ending), ControlState(control)).outcome is Outcome(outcome)


def test_the_table_is_complete() -> None:
    assert set(TABLE) == {(ending, control) for ending in Ending for control in ControlState}


def test_a_control_state_is_an_ending_or_none_known() -> None:
    assert {state.value for state in ControlState} == {ending.value for ending in Ending} | {"none known"}


@pytest.mark.parametrize("control", list(ControlState))
def test_an_identity_that_etcd_closes_conforms_only_with_a_served_control(control: ControlState) -> None:
    outcome = rule(Ending.CLOSED, control, etcd_closes=True).outcome
    if control is ControlState.SERVED:
        assert outcome is Outcome.CONFORMS
    else:
        assert outcome is TABLE[Ending.CLOSED, control].outcome


@pytest.mark.parametrize(
    ("control", "words"),
    [
        (ControlState.NONE_KNOWN, "without control"),
        (ControlState.CLOSED, "TLS accepted the good client, then etcd closed the connection"),
        (ControlState.REFUSED, "the good client is refused as well"),
    ],
)
def test_a_refusal_names_the_state_of_its_control(control: ControlState, words: str) -> None:
    assert rule(Ending.REFUSED, control).note == words
