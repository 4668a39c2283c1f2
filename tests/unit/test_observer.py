"""What the annotations of a fact mean; each observation once, every connection counted and capped."""

from __future__ import annotations

import gc
import inspect
import re
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Annotated, Any

import pytest
from servers import Handler, Server

from pytest_etcdtls.errors import (
    InconclusiveError,
    NotVerifiedError,
    RegistrationError,
    RunEndedError,
    UnobservedError,
)
from pytest_etcdtls.facts import fact as registry
from pytest_etcdtls.facts.api import ClientExchange
from pytest_etcdtls.facts.fact import (
    Each,
    Elsewhere,
    Need,
    Planned,
    Reading,
    Wire,
    fact,
    facts,
    need_of,
    same_key,
)
from pytest_etcdtls.facts.listener import FirstContact
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.observer import Observer, find_fact
from pytest_etcdtls.run.workers import Worker
from pytest_etcdtls.target import Bounds, Listener, Target
from pytest_etcdtls.tls.attempt import Request

LISTENER = Listener(
    role=Role.CLIENT, scheme="https", host="127.0.0.1", port=1, member="m0", label="client-m0"
)
TARGET = Target(label="t", origin="live", listeners=(LISTENER,))


@dataclass(frozen=True)
class Weather:
    """A fact of no meaning."""

    text: str


@pytest.fixture(autouse=True)
def _own_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_FACTS", dict(registry._FACTS))


def test_an_observation_is_made_once_per_listener_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str | None, str | None]] = []

    @fact
    def weather(here: Listener | None, key: str | None) -> Weather:
        asked.append((here.label if here else None, key))
        if key == "rain":
            raise NotVerifiedError("pass an umbrella", "log: rain")
        return Weather(f"fine {key}")

    observer = Observer(TARGET)
    for _ in range(2):
        assert observer.get(Weather, "a", LISTENER) == Weather("fine a")
        assert observer.get(Weather, "b", LISTENER) == Weather("fine b")
        assert observer.get(Weather, "a") == Weather("fine a")
        with pytest.raises(NotVerifiedError, match=r"^pass an umbrella\nlog: rain$"):
            observer.get(Weather, "rain", LISTENER)
        monkeypatch.delattr(
            "pytest_etcdtls.errors.message_line", raising=False
        )  # it is printable from the first time on
    assert asked == [("client-m0", "a"), ("client-m0", "b"), (None, "a"), ("client-m0", "rain")]
    assert len(observer.facts) == 3


@dataclass(frozen=True)
class Forecast:
    """A fact that is computed from another one."""

    text: str


def _forecast(reading: Any) -> None:
    def weather(wire: Wire) -> Weather:
        return Weather("fine")

    def forecast(weather: Weather | None) -> Forecast:
        return Forecast(weather.text if weather else "not known")

    forecast.__annotations__["weather"] = reading
    fact(connections=1)(weather)
    fact(forecast)


@pytest.mark.parametrize("reading", [Weather, Weather | None])
def test_after_the_end_a_fact_is_computed_only_from_the_recording(reading: Any) -> None:
    _forecast(reading)
    observed, unobserved = Observer(TARGET), Observer(TARGET)
    observed.get(Weather, None, LISTENER)
    for observer in (observed, unobserved):
        observer.end()
    assert observed.get(Forecast, None, LISTENER) == Forecast("fine")
    with pytest.raises(RunEndedError):
        unobserved.get(Forecast, None, LISTENER)
    assert unobserved.facts == []


def test_what_an_abandoned_thread_gets_is_not_recorded() -> None:
    _forecast(Weather | None)
    observer = Observer(TARGET)
    raised: list[UnobservedError] = []

    def work() -> None:
        try:
            observer.get(Forecast, None, LISTENER)
        except UnobservedError as error:
            raised.append(error)

    thread = Worker(work, "abandoned")
    thread.abandoned = True
    thread.start()
    thread.join()
    assert [str(error) for error in raised] == ["the run was interrupted"]
    assert observer.facts == []


def _observe_connections(server: Server, requests: int, bounds: Bounds) -> Observer:
    @fact(connections=requests)
    def weather(wire: Wire) -> Weather:
        made = wire.attempt(*(Request(purpose=f"attempt {n}") for n in range(requests)))
        return Weather(" ".join(str(len(tries)) for tries in made))

    listener = server.listener()
    observer = Observer(Target(label="t", origin="live", listeners=(listener,)), bounds)
    observer.get(Weather, None, listener)
    return observer


def _hang_up(connection: socket.socket) -> None:
    connection.recv(10)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_attempts_come_back_in_order_and_are_recorded(
    serve: Callable[[Handler], Server], concurrency: int
) -> None:
    """Each is unclear, and made again twice."""
    server = serve(_hang_up)
    observer = _observe_connections(server, 8, Bounds(concurrency=concurrency))
    assert len(observer.connections) == observer.used["client-m0"] == server.accepted == 24
    assert {attempt.purpose for attempt in observer.connections} == {f"attempt {n}" for n in range(8)}


def test_the_cap_includes_retries(serve: Callable[[Handler], Server]) -> None:
    server = serve(_hang_up)
    with pytest.raises(InconclusiveError, match=r"5 connections were made, the cap.*--etcd-max-connections"):
        _observe_connections(server, 10, Bounds(max_connections=5))
    assert server.accepted == 5


@pytest.mark.parametrize(
    ("annotation", "need"),
    [
        (FirstContact, Need(FirstContact)),
        (FirstContact | None, Need(FirstContact, None, Reading.OPTIONAL)),
        (
            Annotated[ClientExchange, "/health"] | None,
            Need(ClientExchange, "/health", Reading.OPTIONAL),
        ),
        (Annotated[ClientExchange, same_key], Need(ClientExchange, same_key)),
        (Each[Annotated[ClientExchange, "/health"]], Need(ClientExchange, "/health", Reading.EACH)),
        (Elsewhere[FirstContact], Need(FirstContact, None, Reading.ELSEWHERE)),
    ],
)
def test_an_annotation_says_what_is_read_and_how(annotation: object, need: Need) -> None:
    assert need_of(annotation) == need


@pytest.mark.parametrize("annotation", [FirstContact | ClientExchange | None, list[FirstContact], "x", None])
def test_another_annotation_is_refused(annotation: object) -> None:
    with pytest.raises(RegistrationError, match="is no type of fact"):
        need_of(annotation)


@pytest.mark.parametrize("annotations", [{}, {"return": None}, {"return": "Nowhere"}])
def test_a_fact_without_its_type_is_refused(annotations: dict[str, object]) -> None:
    def make() -> object:
        return None

    make.__annotations__ = annotations
    with pytest.raises(
        RegistrationError, match=r"test_observer\..*make: a function that makes a fact is annotated"
    ):
        fact(make)


def test_the_parameters_of_every_fact_are_known_facts() -> None:
    """A fact that nobody makes, or a Wire without connections=, would show only where the fact is used."""
    for each in facts().values():
        for key in (None, "none", "revoked", "/version"):
            for need, _ in each.reads(Planned(TARGET, LISTENER, key)):
                assert find_fact(need.type).type is need.type, f"{each.module} reads it"


_SECRET = re.compile(r"\b(Identity|PrivateKey|SigningKey|SessionSlot|KeptSessions|PortCredentials)\b")


def _annotations(type_: type[Any], seen: set[type[Any]]) -> Iterator[str]:
    """Yield the annotations of a value, of its bases, and of the values that its fields hold."""
    if type_ in seen or not type_.__module__.startswith("pytest_etcdtls."):
        return
    seen.add(type_)
    names = vars(sys.modules[type_.__module__])
    for field, annotation in inspect.get_annotations(type_).items():
        yield f"{type_.__name__}.{field}: {annotation}"
        for name in re.findall(r"\w+", annotation):
            if isinstance(found := names.get(name), type):
                yield from _annotations(found, seen)
    for base in type_.__bases__:
        yield from _annotations(base, seen)


@pytest.mark.parametrize("type_", [type_ for type_, found in facts().items() if found.reported])
def test_reported_observations_hold_no_keys(type_: type[Any]) -> None:
    assert [text for text in _annotations(type_, set()) if _SECRET.search(text.partition(": ")[2])] == []


MANY = 5000


def test_observer_are_added_while_others_are_read() -> None:
    """The collection of garbage runs code in the middle of a loop in C, as other threads then do."""
    recording = Recording(Target(label="live", origin="live", listeners=()))
    for number in range(MANY):
        recording.add((None, int, str(number)), number)
    numbers = count()

    class Adding:
        """Garbage that adds a fact when it is collected, and leaves more such garbage."""

        itself: Any

        def __del__(self) -> None:
            number = next(numbers)
            recording.add((None, str, str(number)), str(number))
            if number < MANY:
                again = self.__class__()
                again.itself = again

    garbage = Adding()
    garbage.itself = garbage
    del garbage
    thresholds = gc.get_threshold()
    gc.set_threshold(1, 1000, 1000)
    try:
        read = len(recording.facts)
        kept = recording.until_now()
    finally:
        gc.set_threshold(*thresholds)
    assert MANY <= read <= len(recording.facts)
    assert len(kept.facts) >= read
