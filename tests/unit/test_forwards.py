"""Which refused connections are attempted again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pytest_etcdtls.forwards import Forwards
from pytest_etcdtls.role import Protocol, Role
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Attempt, Ending, Phase, StreamEnd

CLIENT = Listener(role=Role.CLIENT, scheme="https", host="127.0.0.1", port=2379, member="m0", label="client")
METRICS = replace(CLIENT, role=Role.METRICS, port=2381, label="metrics")
ELSEWHERE = replace(CLIENT, host="192.0.2.1")
CARRIED = replace(CLIENT, via="nc {host} {port}")
IN_VAIN = 0.01


def _attempt(ending: Ending, stream_end: StreamEnd) -> Attempt:
    return Attempt(
        url=CLIENT.url,
        purpose="",
        identity="none",
        protocol=Protocol.HTTP1,
        ending=ending,
        phase=Phase.READ,
        started_at=datetime.now(UTC),
        stream_end=stream_end,
    )


SERVED = _attempt(Ending.SERVED, StreamEnd.OPEN)
REFUSED = _attempt(Ending.UNCLEAR, StreamEnd.CONNECTION_REFUSED)
CUT = _attempt(Ending.UNCLEAR, StreamEnd.RESET)
CUT_IN_RESPONSE = _attempt(Ending.SERVED, StreamEnd.EOF)


class Made:
    """Ends connections as listed; the last one stands for all that follow."""

    def __init__(self) -> None:
        self.lost: list[object] = []
        self.forwards = Forwards(self.lost.append)
        self.number = 0

    def connect(self, listener: Listener, *ends: Attempt, timeout: float = 60) -> Attempt:
        made = 0

        def make() -> Attempt:
            nonlocal made
            made = self.number = made + 1
            return ends[min(made, len(ends)) - 1]

        return self.forwards.connect(listener, timeout, make)


@pytest.fixture
def made() -> Made:
    return Made()


def test_one_that_answered_is_waited_for(made: Made) -> None:
    made.connect(CLIENT, SERVED)
    assert made.connect(CLIENT, REFUSED, REFUSED, SERVED) is SERVED
    assert made.lost == []


def test_one_that_never_answered_is_not(made: Made) -> None:
    assert made.connect(CLIENT, REFUSED, SERVED) is REFUSED
    assert made.number == 1
    made.connect(METRICS, SERVED)
    assert made.connect(CLIENT, REFUSED, REFUSED, SERVED) is REFUSED
    assert made.lost == [SERVED]
    assert made.connect(CLIENT, REFUSED, SERVED) is REFUSED
    assert made.number == 1


@pytest.mark.parametrize(
    ("of_answered", "of_first"),
    [((SERVED, REFUSED), (REFUSED, REFUSED, SERVED)), ((SERVED,), (REFUSED, SERVED))],
    ids=["still ended", "already started again"],
)
def test_one_that_never_answered_is_waited_for_if_another_one_ended(
    of_answered: tuple[Attempt, ...], of_first: tuple[Attempt, ...]
) -> None:
    lost: list[object] = []
    forwards = Forwards(lost.append)
    answered, first = iter(of_answered), iter(of_first)
    forwards.connect(CLIENT, 60, lambda: next(answered, of_answered[-1]))
    assert forwards.connect(METRICS, 60, lambda: next(first)) is SERVED
    assert lost == [of_answered[-1]]


@pytest.mark.parametrize("listener", [ELSEWHERE, CARRIED], ids=["elsewhere", "carried"])
def test_what_is_no_forward_is_not_waited_for(listener: Listener, made: Made) -> None:
    made.connect(listener, SERVED)
    assert made.connect(listener, REFUSED, SERVED) is REFUSED


def test_other_ports_of_a_forward_that_ended_are_waited_for(made: Made) -> None:
    made.connect(CLIENT, SERVED)
    made.connect(CLIENT, REFUSED, SERVED)
    assert made.connect(METRICS, REFUSED, SERVED) is SERVED


def test_after_one_that_answered_does_not_return_nothing_is_waited_for(made: Made) -> None:
    made.connect(CLIENT, SERVED)
    assert made.connect(CLIENT, REFUSED, timeout=IN_VAIN) is REFUSED
    for listener in (CLIENT, METRICS):
        assert made.connect(listener, REFUSED) is REFUSED
        assert made.number == 1


def test_one_that_never_answered_is_waited_for_once(made: Made) -> None:
    made.connect(CLIENT, SERVED)
    made.connect(CLIENT, REFUSED, SERVED)
    assert made.connect(METRICS, REFUSED, timeout=IN_VAIN) is REFUSED
    assert made.connect(METRICS, REFUSED) is REFUSED
    assert made.number == 1
    assert made.connect(CLIENT, REFUSED, SERVED) is SERVED


@pytest.mark.parametrize("cut", [CUT, CUT_IN_RESPONSE], ids=["before the response", "in the response"])
def test_a_cut_connection_is_made_again_after_a_forward_ended(made: Made, cut: Attempt) -> None:
    made.connect(CLIENT, SERVED)
    assert made.connect(CLIENT, cut, SERVED) is cut
    made.connect(CLIENT, REFUSED, SERVED)
    assert made.connect(CLIENT, cut, cut, REFUSED, SERVED) is SERVED
    assert made.lost == [cut, cut]
    assert made.connect(CLIENT, cut) is cut
    assert made.number == 4
