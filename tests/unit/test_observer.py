"""Each observation once, every connection counted and capped."""

from __future__ import annotations

import dataclasses
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from servers import Handler, Server

from pytest_etcdtls.errors import InconclusiveError, NotVerifiedError, RegistrationError
from pytest_etcdtls.facts import probe as registry
from pytest_etcdtls.facts.probe import _PROBES as PROBES
from pytest_etcdtls.facts.probe import Context, probe
from pytest_etcdtls.observer import Observer
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Bounds, Listener, Target
from pytest_etcdtls.tls.attempt import Attempt, Request
from pytest_etcdtls.tls.connection import make_attempt

LISTENER = Listener(
    role=Role.CLIENT, scheme="https", host="127.0.0.1", port=1, member="m0", label="client-m0"
)
TARGET = Target(label="t", origin="live", listeners=(LISTENER,))


@dataclass(frozen=True)
class Weather:
    """A fact of no meaning."""

    text: str


@pytest.fixture(autouse=True)
def _own_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_PROBES", dict(registry._PROBES))


def test_an_observation_is_made_once_per_listener_and_key() -> None:
    asked: list[tuple[str | None, str | None]] = []

    @probe(Weather, cost=0)
    def _weather(context: Context, key: str | None) -> Weather:
        asked.append((context.listener.label if context.listener else None, key))
        return Weather(f"fine {key}")

    observer = Observer(TARGET)
    for _ in range(2):
        assert observer.get(Weather, "a", LISTENER) == Weather("fine a")
        assert observer.get(Weather, "b", LISTENER) == Weather("fine b")
        assert observer.get(Weather, "a") == Weather("fine a")
    assert asked == [("client-m0", "a"), ("client-m0", "b"), (None, "a")]


def test_a_failed_observation_is_kept_with_its_reason() -> None:
    asked: list[str | None] = []

    @probe(Weather, cost=0)
    def _weather(context: Context, key: str | None) -> Weather:
        asked.append(key)
        raise NotVerifiedError("pass an umbrella")

    observer = Observer(TARGET)
    for _ in range(3):
        with pytest.raises(NotVerifiedError, match="pass an umbrella"):
            observer.get(Weather, None, LISTENER)
    assert asked == [None]
    assert observer.facts == []


def test_a_type_without_a_probe_is_an_error_of_the_check() -> None:
    with pytest.raises(RegistrationError, match="no probe gets observations of type Weather"):
        Observer(TARGET).get(Weather, None, LISTENER)


def _observe_connections(server: Server, requests: int, bounds: Bounds) -> Observer:
    @probe(Weather, cost=requests)
    def _weather(context: Context) -> Weather:
        made = context.attempt(*(Request(purpose=f"attempt {n}") for n in range(requests)))
        return Weather(" ".join(str(len(tries)) for tries in made))

    listener = server.listener()
    observer = Observer(Target(label="t", origin="live", listeners=(listener,)), bounds)
    observer.get(Weather, None, listener)
    return observer


def _alert(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(b"\x15\x03\x03\x00\x02\x02\x28")
    connection.recv(4096)


def _hang_up(connection: socket.socket) -> None:
    connection.recv(10)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_attempts_come_back_in_order_and_are_recorded(
    serve: Callable[[Handler], Server], concurrency: int
) -> None:
    server = serve(_alert)
    observer = _observe_connections(server, 8, Bounds(concurrency=concurrency))
    assert len(observer.connections) == observer.used["client-m0"] == server.accepted == 8
    assert {attempt.purpose for attempt in observer.connections} == {f"attempt {n}" for n in range(8)}


class _Reluctant:
    """Answers with an alert, but says nothing to the first so many clients."""

    def __init__(self, silent: int) -> None:
        self.silent = silent

    def __call__(self, connection: socket.socket) -> None:
        self.silent -= 1
        if self.silent < 0:
            _alert(connection)
        else:
            connection.recv(4096)
            connection.recv(4096)


@pytest.mark.parametrize(
    ("silent", "near", "here"),
    [(0, 1e9, True), (0, 0.0, False), (1, 1e9, False)],
    ids=["near", "far", "late"],
)
def test_a_listener_that_is_near_and_answers_needs_no_threads(
    serve: Callable[[Handler], Server], monkeypatch: pytest.MonkeyPatch, silent: int, near: float, here: bool
) -> None:
    monkeypatch.setattr("pytest_etcdtls.observer.NEAR_MILLISECONDS", near)
    made_by: list[bool] = []

    def made(*given: Any) -> Attempt:
        made_by.append(threading.current_thread() is threading.main_thread())
        return make_attempt(*given)

    monkeypatch.setattr("pytest_etcdtls.observer.make_attempt", made)
    listener = serve(_Reluctant(silent)).listener()
    observer = Observer(Target(label="t", origin="live", listeners=(listener,)), Bounds(timeout=0.5))
    observer.attempt(listener, [Request(purpose="first")])
    assert set(made_by) == {False}
    made_by.clear()
    observer.attempt(listener, [Request(purpose="second"), Request(purpose="third")])
    assert made_by == [here] * 2
    assert {one.purpose for one in observer.connections} == {"first", "second", "third"}


def test_an_unclear_attempt_is_made_again_at_most_twice(serve: Callable[[Handler], Server]) -> None:
    server = serve(_hang_up)
    observer = _observe_connections(server, 1, Bounds())
    assert server.accepted == observer.used["client-m0"] == 3


def test_the_cap_includes_retries(serve: Callable[[Handler], Server]) -> None:
    server = serve(_hang_up)
    with pytest.raises(InconclusiveError, match=r"5 connections were made, the cap.*--etcd-max-connections"):
        _observe_connections(server, 10, Bounds(max_connections=5))
    assert server.accepted == 5


def test_unreported_observations_are_not_in_the_report() -> None:
    @probe(Weather, cost=0, reported=False)
    def _weather(context: Context) -> Weather:
        return Weather("secret")

    observer = Observer(TARGET)
    observer.get(Weather, None, LISTENER)
    assert observer.facts == []


_SECRET = re.compile(r"\b(Identity|PrivateKey|SigningKey|SessionSlot|KeptSessions|PortCredentials)\b")


def _annotations(type_: type[Any], seen: set[type[Any]]) -> Iterator[str]:
    """Yield the annotations of a dataclass, and of the dataclasses that its fields hold."""
    if type_ in seen or not dataclasses.is_dataclass(type_):
        return
    seen.add(type_)
    names = vars(sys.modules[type_.__module__])
    for field in dataclasses.fields(type_):
        yield f"{type_.__name__}.{field.name}: {field.type}"
        for name in re.findall(r"\w+", str(field.type)):
            if isinstance(found := names.get(name), type):
                yield from _annotations(found, seen)


@pytest.mark.parametrize("type_", [type_ for type_, found in PROBES.items() if found.reported])
def test_reported_observations_hold_no_keys(type_: type[Any]) -> None:
    assert [text for text in _annotations(type_, set()) if _SECRET.search(text.partition(": ")[2])] == []
