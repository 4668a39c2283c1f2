"""Observations of one target, each made at most once, within the bounds that the user set.

The observer keeps each observation or the error that prevented it, and records every connection. It judges
nothing.
"""

from __future__ import annotations

import importlib
import pkgutil
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from queue import SimpleQueue
from typing import Any, TypeVar, cast

import pytest_etcdtls.facts
from pytest_etcdtls.errors import InconclusiveError, UnobservedError
from pytest_etcdtls.facts.discovery import Discovered, Discovery
from pytest_etcdtls.facts.probe import Context, probe_for
from pytest_etcdtls.lifecycle import experiment_table as _experiments
from pytest_etcdtls.role import CLUSTER
from pytest_etcdtls.target import Bounds, Listener, Target
from pytest_etcdtls.tls.attempt import Attempt, Ending, Request
from pytest_etcdtls.tls.connection import make_attempt
from pytest_etcdtls.tls.hello import ClientHello, Connection, HelloExchange, keep_silent, make_greeting

S = TypeVar("S")
T = TypeVar("T")
C = TypeVar("C", Attempt, HelloExchange)

for _module in pkgutil.iter_modules(pytest_etcdtls.facts.__path__):
    importlib.import_module(f"{pytest_etcdtls.facts.__name__}.{_module.name}")
_ = _experiments  # imported to register its probes


class Observer:
    """Makes and keeps the observations of a target.

    Args:
        target: the target to observe.
        bounds: limits that the user set.
    """

    RETRIES = 2

    def __init__(self, target: Target, bounds: Bounds | None = None) -> None:
        self.target = target
        self.bounds = bounds or Bounds()
        self.connections: list[Connection] = []
        self.used: Counter[str] = Counter()
        self._facts: dict[tuple[str | None, type[Any], str | None], Any] = {}
        self._lock = threading.Lock()

    def get(self, type_: type[T], key: str | None = None, listener: Listener | None = None) -> T:
        """Return the observation of that type; make it if it was not made before.

        Args:
            type_: the observation's class.
            key: which one of that class, if there are several.
            listener: the listener to observe, ``None`` for the whole target.

        Raises:
            UnobservedError: if it cannot be made, with the same reason each time.
            RegistrationError: if no probe is registered for that type.
        """
        place = (listener.label if listener else None, type_, key)
        if place not in self._facts:
            found = probe_for(type_)
            found.refuse(key)
            try:
                self._facts[place] = found.function(self.context(type_, key, listener), key)
            except UnobservedError as unobserved:
                self._facts[place] = unobserved
        fact = self._facts[place]
        if isinstance(fact, UnobservedError):
            raise type(fact)(fact.reason)
        return cast("T", fact)

    def context(self, type_: type[Any], key: str | None, listener: Listener | None) -> Context:
        """Return the context in which the probe makes that observation."""
        return _View(self, listener)

    def known(self, type_: type[T], key: str | None = None, listener: Listener | None = None) -> T | None:
        """Return the observation of that type if it was made, without making it; else ``None``."""
        fact = self._facts.get((listener.label if listener else None, type_, key))
        return None if isinstance(fact, UnobservedError) else cast("T | None", fact)

    def discover(self) -> None:
        """Ask the cluster for its members and observe their listeners too, if the target wants discovery.

        Observations of single listeners are kept; observations across all listeners are made again. The
        observation ``Discovery`` holds the result, also if no listener answered.
        """
        if not self.target.discover:
            return
        listeners = self.get(Discovered).listeners
        self.get(Discovery)
        self.target = replace(self.target, listeners=listeners)
        self._facts = {place: fact for place, fact in self._facts.items() if not probe_for(place[1]).across}

    @property
    def facts(self) -> list[tuple[str | None, str | None, Any]]:
        """The observations made so far: listener label, key, observation.

        Only observations that their probe declares as reported are included; others may hold keys.
        """
        return [
            (label, key, fact)
            for (label, type_, key), fact in self._facts.items()
            if not isinstance(fact, UnobservedError) and probe_for(type_).reported
        ]

    def attempt(self, listener: Listener, requests: Sequence[Request]) -> list[tuple[Attempt, ...]]:
        """Make the connections and return the tries of each, in the order of the requests."""
        return self._each(lambda request: self._attempts(listener, request), requests)

    def attempt_elsewhere(self, asked: Sequence[tuple[Listener, Request]]) -> list[Attempt]:
        """Connect once, without credentials, to addresses that are no listeners of the target.

        Raises:
            ValueError: if a request holds a credential.
            InconclusiveError: if their shared cap would be exceeded.
        """
        if any(request.identity.chain or request.headers or request.body for _, request in asked):
            raise ValueError("a credential is for listeners of the target alone")
        return self._each(lambda one: self._once(*one), asked)

    def greet(self, listener: Listener, hellos: Sequence[ClientHello]) -> list[HelloExchange]:
        """Send each ClientHello on a connection of its own and return the replies in order."""
        return self._each(lambda hello: self._greeting(listener, hello), hellos)

    def keep_silent(self, listener: Listener, purpose: str, patience: float) -> HelloExchange:
        """Connect, send nothing for ``patience`` seconds, and return whether the server closed."""
        self._claim(listener)
        return self._each(lambda silent: self._record(keep_silent(silent, purpose, patience)), [listener])[0]

    def _each(self, make: Callable[[S], T], asked: Sequence[S]) -> list[T]:
        return in_threads(make, asked, max(1, min(self.bounds.concurrency, len(asked))))

    def _attempts(self, listener: Listener, request: Request) -> tuple[Attempt, ...]:
        tries: list[Attempt] = []
        while len(tries) <= self.RETRIES:
            self._claim(listener)
            tries.append(self._record(make_attempt(listener, request, self.bounds.timeout)))
            if tries[-1].ending is not Ending.UNCLEAR or tries[-1].local:
                break
        return tuple(tries)

    def _once(self, there: Listener, request: Request) -> Attempt:
        self._claim(there, label=CLUSTER)
        return self._record(make_attempt(there, request, self.bounds.timeout))

    def _greeting(self, listener: Listener, hello: ClientHello) -> HelloExchange:
        for _ in range(self.RETRIES + 1):
            self._claim(listener)
            greeting = self._record(make_greeting(listener, hello, self.bounds.timeout))
            if greeting.answered:
                break
        return greeting

    def _record(self, connection: C) -> C:
        with self._lock:
            self.connections.append(connection)
        return connection

    def _claim(self, listener: Listener, *, label: str = "") -> None:
        label = label or listener.label
        if getattr(threading.current_thread(), "abandoned", False):
            raise InconclusiveError(f"{listener.url}: the run was interrupted")
        with self._lock:
            if self.used[label] >= self.bounds.max_connections:
                raise InconclusiveError(
                    f"{listener.url}: {self.bounds.max_connections} connections were made, the cap; "
                    "raise it with --etcd-max-connections or select fewer checks with --etcd-check"
                )
            first = not self.used[label]
            self.used[label] += 1
        if self.bounds.pause and not first:
            threading.Event().wait(self.bounds.pause)


class _Worker(threading.Thread):
    """One of the threads of a batch; ``abandoned`` says that nobody waits for it any more."""

    abandoned = False


def in_threads(make: Callable[[S], T], asked: Sequence[S], workers: int) -> list[T]:
    """Call a function for each item in threads, and return the results in order.

    An exception that interrupts the waiting (Ctrl-C, a time-out of a test) is raised at once. The threads may
    be in a connect or a resolver that ends late: they are daemons, and make no further connection.

    Args:
        make: the function. After the first exception it is not called for further items.
        asked: the items.
        workers: the number of threads.

    Raises:
        Exception: the first one, in the order of the items, that the function raised.
    """
    pending = iter(enumerate(asked))
    done: SimpleQueue[None] = SimpleQueue()
    lock = threading.Lock()
    results: dict[int, T] = {}
    errors: dict[int, Exception] = {}

    def work() -> None:
        try:
            while not errors:
                with lock:
                    number, one = next(pending, (-1, None))
                if number < 0:
                    break
                try:
                    results[number] = make(cast("S", one))
                except Exception as error:
                    errors[number] = error
        finally:
            done.put(None)

    threads = [_Worker(target=work, name=f"etcdtls_{number}", daemon=True) for number in range(workers)]
    try:
        for thread in threads:
            thread.start()
        for _ in threads:
            done.get()
    except BaseException:
        for thread in threads:
            thread.abandoned = True
        raise
    if errors:
        raise errors[min(errors)]
    return [results[number] for number in range(len(asked))]


class _View:
    """The context of a probe: an observer, bound to one listener."""

    def __init__(self, observer: Observer, listener: Listener | None) -> None:
        self._observer = observer
        self.listener = listener

    @property
    def target(self) -> Target:
        return self._observer.target

    @property
    def timeout(self) -> float:
        return self._observer.bounds.timeout

    @property
    def connections(self) -> Sequence[Connection]:
        return tuple(self._observer.connections)

    def get(self, type_: type[T], key: str | None = None, listener: Listener | None = None) -> T:
        return self._observer.get(type_, key, listener or self.listener)

    def attempt(self, *requests: Request) -> list[tuple[Attempt, ...]]:
        return self._observer.attempt(self._here(), requests)

    def greet(self, *hellos: ClientHello) -> list[HelloExchange]:
        return self._observer.greet(self._here(), hellos)

    def attempt_elsewhere(self, *asked: tuple[Listener, Request]) -> list[Attempt]:
        return self._observer.attempt_elsewhere(asked)

    def keep_silent(self, purpose: str, patience: float) -> HelloExchange:
        return self._observer.keep_silent(self._here(), purpose, patience)

    def _here(self) -> Listener:
        if self.listener is None:
            raise TypeError("an observation of the whole target makes no connections of its own")
        return self.listener
