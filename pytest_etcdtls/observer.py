"""Observations of one target, each made at most once, within the bounds that the user set.

The observer keeps each observation or the error that prevented it, and records every connection.

:class:`Prefetch` makes observations ahead of the checks that need them. Checks run one after the other, and
each waits for its connections, which takes most of a run over a slow network or a tunnel. There, threads make
the observations of the selected checks, in the order of the checks and within the bounds of each listener.
:class:`Experiments` runs experiments in parallel: each has its own cluster, and mostly waits for its start.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar, cast

import pytest_etcdtls.facts
from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.errors import InconclusiveError, NotVerifiedError, UnobservedError
from pytest_etcdtls.facts.certificates import ServerProof
from pytest_etcdtls.facts.discovery import Discovered, Discovery
from pytest_etcdtls.facts.experiments import is_of_experiment
from pytest_etcdtls.facts.listener import FirstContact
from pytest_etcdtls.facts.probe import Context, Observation, Planned, Probe, SharedAttempts, probe_for
from pytest_etcdtls.registry import Check
from pytest_etcdtls.role import CLUSTER
from pytest_etcdtls.target import Bounds, Listener, Target
from pytest_etcdtls.tls.attempt import Attempt, Ending, Request, StreamEnd
from pytest_etcdtls.tls.connection import make_attempt, make_attempts
from pytest_etcdtls.tls.hello import (
    ClientHello,
    Connection,
    HelloExchange,
    Reply,
    exchange_hello,
    keep_silent,
)

_FactKey = tuple[str | None, type[Any], str | None]
"""Label of a listener, ``None`` for the whole target; the type of the observation; its key."""

S = TypeVar("S")
T = TypeVar("T")
C = TypeVar("C", Attempt, HelloExchange)

for _module in pkgutil.iter_modules(pytest_etcdtls.facts.__path__):
    importlib.import_module(f"{pytest_etcdtls.facts.__name__}.{_module.name}")


def find_probe(type_: type[Any]) -> Probe:
    """Return the probe of an observation type.

    The probes of experiments are imported at their first use, since most runs start no cluster.

    Raises:
        RegistrationError: if it has none.
    """
    if is_of_experiment(type_):
        importlib.import_module("pytest_etcdtls.lifecycle.experiment_table")
    return probe_for(type_)


ListenerObservation = tuple[Listener | None, type[Any], str | None]
"""A listener, ``None`` for the whole target; the type of an observation of it; its key."""


def with_needs(target: Target, wanted: Iterable[ListenerObservation]) -> Iterator[ListenerObservation]:
    """Yield the observations and all others that they may need, each once."""
    known: set[ListenerObservation] = set()
    left = list(wanted)
    while left:
        observation = left.pop()
        if observation in known:
            continue
        known.add(observation)
        yield observation
        listener, type_, key = observation
        probe = find_probe(type_)
        for needed, of in probe.needs(Planned(target, listener, key)):
            everywhere = target.listeners if probe.crosses(needed) or listener is None else ()
            left += [(other, needed, of) for other in (*everywhere, listener)]


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
        self._facts: dict[_FactKey, Any] = {}
        self._makers: dict[_FactKey, int] = {}
        """The thread that makes an observation now."""
        self._made = threading.Condition()
        self._slots: dict[str, threading.BoundedSemaphore] = {}
        self._lock = threading.Lock()
        self._contacting = threading.Lock()
        self._budget = TimeoutBudget(self.bounds.timeout)
        self._expected: Callable[[], Iterable[ListenerObservation]] = tuple
        self._shared: tuple[Target, dict[str, dict[Observation, Request]]] | None = None
        self.work_lock = SharedLock()
        """Held exclusively by an experiment that depends on timing."""

    def get(self, type_: type[T], key: str | None = None, listener: Listener | None = None) -> T:
        """Return the observation of that type; make it if it was not made before.

        An observation that another thread is making is waited for.

        Args:
            type_: the observation's class.
            key: which one of that class, if there are several.
            listener: the listener to observe, ``None`` for the whole target.

        Raises:
            UnobservedError: if it cannot be made, with the same reason each time.
            RegistrationError: if no probe is registered for that type.
        """
        fact_key = (listener.label if listener else None, type_, key)
        if fact_key not in self._facts:
            self._observe(fact_key, listener)
        fact = self._facts[fact_key]
        if isinstance(fact, UnobservedError):
            raise type(fact)(fact.reason)
        return cast("T", fact)

    def _observe(self, fact_key: _FactKey, listener: Listener | None) -> None:
        _, type_, key = fact_key
        probe = find_probe(type_)
        probe.check_key(key)
        this_thread = threading.get_ident()
        with self._made:
            self._made.wait_for(lambda: self._makers.get(fact_key, this_thread) == this_thread)
            if fact_key in self._facts:
                return
            self._makers[fact_key] = this_thread
        context = self.context(type_, key, listener)
        try:
            try:
                self._facts[fact_key] = probe.function(context, key)
            except UnobservedError as unobserved:
                # Not the error itself: its traceback would keep every frame, with connections in them.
                self._facts[fact_key] = type(unobserved)(unobserved.reason)
        finally:
            with self._made:
                self._makers.pop(fact_key, None)
                self._made.notify_all()
            context.finish()
        if type_ is FirstContact and listener is not None and listener.discovered:
            self._contact_discovered()

    def context(self, type_: type[Any], key: str | None, listener: Listener | None) -> Context:
        """Return the context in which the probe makes that observation."""
        return _ObserverContext(self, listener, before_proof=find_probe(type_).before_proof)

    def known(self, type_: type[T], key: str | None = None, listener: Listener | None = None) -> T | None:
        """Return the observation of that type if it was made, without making it; else ``None``."""
        fact = self._facts.get((listener.label if listener else None, type_, key))
        return None if isinstance(fact, UnobservedError) else cast("T | None", fact)

    def discover(self) -> None:
        """Add the listeners of the members that the cluster lists, if the target is to be discovered.

        Observations of single listeners are kept; observations across all listeners are made again. The
        observation ``Discovery`` holds the result, also if no listener answered.
        """
        if not self.target.discover:
            return
        listeners = self.get(Discovered).listeners
        self.get(Discovery)
        self.target = replace(self.target, listeners=listeners)
        self._facts = {key: fact for key, fact in self._facts.items() if not find_probe(key[1]).across}

    @property
    def facts(self) -> list[tuple[str | None, str | None, Any]]:
        """The observations made so far: listener label, key, observation.

        Only observations that their probe declares as reported are included; others may hold keys.
        """
        return [
            (label, key, fact)
            # A copy, since an abandoned thread may add one at the same time.
            for (label, type_, key), fact in tuple(self._facts.items())
            if not isinstance(fact, UnobservedError) and find_probe(type_).reported
        ]

    @property
    def given_up(self) -> frozenset[str]:
        """Labels of the listeners that stopped answering, to which nothing more is sent."""
        return frozenset(self._budget.given_up)

    def why_given_up(self, label: str) -> str:
        """Return why nothing more is sent to the listener of that label, empty if it is not given up."""
        return self._budget.given_up.get(label, "")

    def attempt(
        self, listener: Listener, requests: Sequence[Request], *, before_proof: bool = False
    ) -> list[tuple[Attempt, ...]]:
        """Make the connections, as :meth:`Context.attempt`.

        Raises:
            ValueError: if a request holds a credential, and the server need not have proved who it is.
        """
        if not before_proof:
            requests = self._for_proved(listener, requests)
        elif any(_is_credential(request) for request in requests):
            raise ValueError("a credential is presented only to a server that has proved who it is")
        else:
            self._budget.check(listener)
        return self._each(lambda request: self._attempts(listener, request, before_proof), requests, listener)

    def attempt_shared(
        self, listener: Listener, sequences: Sequence[Sequence[Request]]
    ) -> list[SharedAttempts]:
        """Make a connection for each sequence of requests, as :meth:`Context.attempt_shared`.

        The first request of each is made again if it ends unclear. Those after it present the same client.
        """
        firsts = self._for_proved(listener, [requests[0] for requests in sequences])
        sequences = [(first, *requests[1:]) for first, requests in zip(firsts, sequences, strict=True)]
        # In threads also where the listener is near: each waits at its end for a server that closes late.
        return self._each(lambda requests: self._attempt_on_one(listener, requests), sequences)

    def shared_requests(self, listener: Listener) -> dict[Observation, Request]:
        """Return the requests that can share a connection, as :meth:`Context.shared_requests`."""
        if self._shared is None or self._shared[0] is not self.target:
            found: dict[str, dict[Observation, Request]] = {}
            for other, type_, key in with_needs(self.target, self._expected()):
                if other is None:
                    continue
                request = find_probe(type_).shared_request(Planned(self.target, other, key))
                if request is not None:
                    found.setdefault(other.label, {})[type_, key] = request
            # Requests that only read come first.
            self._shared = (
                self.target,
                {
                    label: dict(sorted(of.items(), key=lambda one: (one[1].body is not None, one[1].purpose)))
                    for label, of in found.items()
                },
            )
        return self._shared[1].get(listener.label, {})

    def expect(self, expected: Callable[[], Iterable[ListenerObservation]]) -> None:
        """Set the function that returns the observations that the checks of the run need."""
        self._expected, self._shared = expected, None

    def attempt_elsewhere(self, requests: Sequence[tuple[Listener, Request]]) -> list[Attempt]:
        """Connect once to each address, as :meth:`Context.attempt_elsewhere`.

        Raises:
            ValueError: if a request holds a credential.
        """
        if any(_is_credential(request) for _, request in requests):
            raise ValueError("a credential is for listeners of the target alone")
        # A firewall may drop the packets to some of the hosts, so that each takes the whole timeout.
        return self._each(lambda one: self._once(*one), requests, workers=MOST_AT_ONCE)

    def send_hellos(self, listener: Listener, hellos: Sequence[ClientHello]) -> list[HelloExchange]:
        """Send each ClientHello, as :meth:`Context.send_hellos`."""
        self._for_proved(listener, ())
        return self._each(lambda hello: self._exchange(listener, hello), hellos, listener)

    def keep_silent(self, listener: Listener, purpose: str, seconds: float) -> HelloExchange:
        """Connect and send nothing, as :meth:`Context.keep_silent`."""
        self._for_proved(listener, ())
        with self._slot(listener):
            self._claim(listener)
            [exchange] = self._each(
                lambda silent: self._record(keep_silent(silent, purpose, seconds)), [listener]
            )
            return exchange

    def _for_proved(self, listener: Listener, requests: Sequence[Request]) -> Sequence[Request]:
        """Return the requests; at a discovered address, restricted to the server that proved who it is."""
        self._budget.check(listener)
        if not listener.discovered:
            return requests
        leaves = self.get(ServerProof, None, listener).leaves
        return [replace(one, proved=leaves) if _is_credential(one) else one for one in requests]

    def _contact_discovered(self) -> None:
        """Contact all discovered listeners at once, after one of them did not answer in time.

        One after the other, the silent ones would use up the seconds that discovered listeners may cost.
        """
        rest = [
            one
            for one in self.target.listeners
            if one.discovered and (one.label, FirstContact, None) not in self._facts
        ]
        if not rest or not self._budget.lost_on_discovered or not self._contacting.acquire(blocking=False):
            return

        def contact(listener: Listener) -> None:
            with suppress(UnobservedError):
                self.get(FirstContact, None, listener)

        try:
            in_threads(contact, rest, min(MOST_AT_ONCE, len(rest)))
        finally:
            self._contacting.release()

    def _each(
        self,
        make: Callable[[S], T],
        items: Sequence[S],
        listener: Listener | None = None,
        *,
        workers: int | None = None,
    ) -> list[T]:
        if listener is not None and self._budget.is_near(listener):
            # A thread takes longer to start than the connection that it would make.
            return [make(one) for one in items]
        return in_threads(make, items, max(1, min(workers or self.bounds.concurrency, len(items))))

    def _attempt_on_one(self, listener: Listener, requests: Sequence[Request]) -> SharedAttempts:
        request = requests[0]
        if len(requests) == 1:
            return SharedAttempts(self._attempts(listener, request, before_proof=False))
        self._budget.check(listener)
        with self._slot(listener):
            self._claim(listener)
            made = make_attempts(listener, requests, self.bounds.timeout, lambda: not is_abandoned())
            for one in (made.first, *made.more):
                self._record(one)
        first = made.first
        self._budget.note(listener, first)
        if made.trusted:
            return SharedAttempts((first,), made.more)
        if made.more and request.keep is not None:
            request.keep.forget()
        unclear = first.ending is Ending.UNCLEAR and not first.local
        if unclear or (first.response is None and first.is_http):
            # Alone on a connection, the request asks the server to close it.
            return SharedAttempts(self._attempts(listener, request, before_proof=False, tries=(first,)))
        return SharedAttempts((first,))

    def _attempts(
        self, listener: Listener, request: Request, before_proof: bool, tries: tuple[Attempt, ...] = ()
    ) -> tuple[Attempt, ...]:
        # Plain HTTP at an address that only a member list names is sent once.
        most = 1 if listener.discovered and request.plaintext else self.RETRIES + 1
        while len(tries) < most:
            if tries and self._budget.why(listener):
                break
            if not before_proof:
                self._budget.check(listener)
            with self._slot(listener):
                self._claim(listener)
                tries = (*tries, self._record(make_attempt(listener, request, self.bounds.timeout)))
            self._budget.note(listener, tries[-1])
            if tries[-1].ending is not Ending.UNCLEAR or tries[-1].local:
                break
            if request.may_end and tries[-1].stream_end is StreamEnd.EOF:
                break
        return tries

    def _once(self, address: Listener, request: Request) -> Attempt:
        self._claim(address, label=CLUSTER)
        return self._record(make_attempt(address, request, self.bounds.timeout))

    def _exchange(self, listener: Listener, hello: ClientHello) -> HelloExchange:
        self._budget.check(listener)
        for number in range(self.RETRIES + 1):
            if number and self._budget.why(listener):
                break
            with self._slot(listener):
                self._claim(listener)
                exchange = self._record(exchange_hello(listener, hello, self.bounds.timeout))
            # Some servers are silent about one offer. Its repetition does not show that the listener is down.
            self._budget.note(listener, exchange, again=number > 0 or hello.once)
            if exchange.answered or hello.once:
                break
        return exchange

    def _record(self, connection: C) -> C:
        with self._lock:
            self.connections.append(connection)
        return connection

    @contextmanager
    def _slot(self, listener: Listener) -> Iterator[None]:
        """Wait until another connection to the listener is within ``--etcd-concurrency``."""
        with self._lock:
            slot = self._slots.setdefault(listener.label, threading.BoundedSemaphore(self.bounds.concurrency))
        with slot:
            yield

    def _claim(self, listener: Listener, *, label: str = "") -> None:
        label = label or listener.label
        if is_abandoned():
            raise InconclusiveError(f"{listener.url}: the run was interrupted")
        with self._lock:
            if self.used[label] >= self.bounds.max_connections:
                cap = "the cap"
                if self.bounds.processes > 1:
                    cap = f"the share of one of {self.bounds.processes} processes in the cap"
                raise InconclusiveError(
                    f"{listener.url}: {self.bounds.max_connections} connections were made, {cap}; "
                    "raise it with --etcd-max-connections or select fewer checks with --etcd-check"
                )
            first = not self.used[label]
            self.used[label] += 1
        if self.bounds.pause and not first:
            threading.Event().wait(self.bounds.pause)


class Worker(threading.Thread):
    """A daemon thread that makes connections, since connecting and resolving may end late.

    Attributes:
        abandoned: nobody waits for it any more, so it makes no further connection.
    """

    def __init__(self, work: Callable[[], None], name: str) -> None:
        super().__init__(target=work, name=f"etcdtls_{name}", daemon=True)
        self.abandoned = False
        self._parent = threading.current_thread()

    @property
    def is_abandoned(self) -> bool:
        """Whether it, or the thread that started it, is abandoned."""
        return self.abandoned or (isinstance(self._parent, Worker) and self._parent.is_abandoned)


def is_abandoned() -> bool:
    """Return whether this thread is a worker that nobody waits for any more."""
    thread = threading.current_thread()
    return isinstance(thread, Worker) and thread.is_abandoned


def in_threads(make: Callable[[S], T], items: Sequence[S], workers: int) -> list[T]:
    """Call a function for each item in threads, and return the results in order.

    An exception that interrupts the waiting (Ctrl-C, a time-out of a test) is raised at once, and the threads
    are abandoned.

    Args:
        make: the function. After the first exception it is not called for further items.
        items: the arguments.
        workers: the number of threads.

    Raises:
        Exception: the first one, in the order of the items, that the function raised.
    """
    pending = iter(enumerate(items))
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

    threads = [Worker(work, str(number)) for number in range(workers)]
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
    return [results[number] for number in range(len(items))]


MOST_AT_ONCE = 40
"""Maximum number of addresses of different hosts that are contacted at once."""


def _is_credential(request: Request) -> bool:
    """Return whether a request presents a certificate, a token or a password."""
    return bool(request.identity.chain or request.headers or request.body)


class SharedLock:
    """A lock that several threads hold shared, or one thread exclusively."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._threads: set[int] = set()
        """Those that hold it shared."""
        self._exclusive = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold the lock together with others."""
        this_thread = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: not self._exclusive)
            self._threads.add(this_thread)
        try:
            yield
        finally:
            with self._changed:
                self._threads.discard(this_thread)
                self._changed.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the lock when no other thread does; this thread may hold it shared already."""
        mine = {threading.get_ident()}
        with self._changed:
            while self._exclusive or self._threads - mine:
                if is_abandoned():
                    raise InconclusiveError("the run was interrupted")
                self._changed.wait(_POLL_SECONDS)
            self._exclusive = True
        try:
            yield
        finally:
            with self._changed:
                self._exclusive = False
                self._changed.notify_all()


_POLL_SECONDS = 0.2


NEAR_MILLISECONDS = 8.0
"""Longest duration of the quickest connection in a local network, where a round trip takes less than 2 ms."""


class TimeoutBudget:
    """Decides when a listener that does not answer is given up.

    Args:
        timeout: seconds that one attempt may take.

    Attributes:
        given_up: why, by label of the listener.
    """

    IN_A_ROW = 3
    """Attempts in a row that get no answer in time."""
    TIMEOUTS = 5
    """Time-outs that may be lost on one listener, and on all discovered listeners together."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._in_a_row: Counter[str] = Counter()
        self._answered: set[str] = set()
        self._quickest: dict[str, float] = {}
        self._lost: dict[str, _LostTime] = {}
        self._on_discovered = _LostTime()
        self._lock = threading.Lock()
        self.given_up: dict[str, str] = {}

    @property
    def lost_on_discovered(self) -> bool:
        """Whether a discovered listener did not answer in time."""
        return self._on_discovered.seconds > 0

    def is_near(self, listener: Listener) -> bool:
        """Return whether a listener has answered within :data:`NEAR_MILLISECONDS`, and always in time."""
        label = listener.label
        return self._quickest.get(label, math.inf) < NEAR_MILLISECONDS and label not in self._lost

    def why(self, listener: Listener) -> str:
        """Return why nothing more is sent to a listener, empty if it is not given up."""
        with self._lock:
            if listener.discovered and listener.label not in self.given_up:
                spent = self._on_discovered.seconds >= self.TIMEOUTS * self._timeout
                if spent and (self._in_a_row[listener.label] or listener.label not in self._answered):
                    self.given_up[listener.label] = (
                        f"{listener.url} was given up: {self._on_discovered.seconds:.0f} s were lost on "
                        "discovered listeners that do not answer; name it to have it judged"
                    )
            return self.given_up.get(listener.label, "")

    def check(self, listener: Listener) -> None:
        """Check that a listener is not given up.

        Raises:
            NotVerifiedError: if it is.
        """
        if why := self.why(listener):
            raise NotVerifiedError(why)

    def note(self, listener: Listener, connection: Connection, *, again: bool = False) -> None:
        """Record how a connection ended.

        Only a connection without an answer, or without a complete one, within the timeout has lost time.

        Args:
            listener: of the connection.
            connection: one that expected an answer.
            again: the same was sent before.
        """
        if isinstance(connection, Attempt):
            late = connection.stream_end is StreamEnd.TIMEOUT
            answered = connection.ending is not Ending.UNCLEAR
        else:
            late, answered = connection.reply is Reply.SILENCE, connection.answered
        label = listener.label
        with self._lock:
            if answered:
                self._answered.add(label)
                took = connection.milliseconds
                self._quickest[label] = min(took, self._quickest.get(label, took))
                self._in_a_row[label] = 0
            if not late:
                return
            lost = self._lost.setdefault(label, _LostTime())
            for one in (lost, self._on_discovered) if listener.discovered else (lost,):
                one.add(connection.milliseconds / 1000)
            self._in_a_row[label] += not (answered or again)
            if self._in_a_row[label] >= self.IN_A_ROW:
                why = f"{self.IN_A_ROW} attempts in a row got no answer within {self._timeout:g} s"
            elif lost.seconds >= self.TIMEOUTS * self._timeout:
                why = f"{lost.seconds:.0f} s were lost in attempts without an answer"
            else:
                return
            self.given_up.setdefault(
                label,
                f"{listener.url} stopped answering and was given up: {why}; look at the member and the "
                "network, or raise --etcd-timeout",
            )


class _LostTime:
    """Seconds during which at least one connection waited for an answer that did not come."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._until = 0.0

    def add(self, seconds: float) -> None:
        """Add a wait that ends now; time that another wait covers does not count twice."""
        now = time.monotonic()
        self.seconds += max(0.0, now - max(self._until, now - seconds))
        self._until = now


class _ObserverContext:
    """The context of a probe: an observer, bound to one listener."""

    def __init__(self, observer: Observer, listener: Listener | None, *, before_proof: bool) -> None:
        self._observer = observer
        self._on_finish: list[Callable[[], object]] = []
        self._before_proof = before_proof
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
        return self._observer.attempt(self._here(), requests, before_proof=self._before_proof)

    def attempt_shared(self, *sequences: Sequence[Request]) -> list[SharedAttempts]:
        return self._observer.attempt_shared(self._here(), sequences)

    def shared_requests(self) -> Mapping[Observation, Request]:
        return self._observer.shared_requests(self._here())

    def send_hellos(self, *hellos: ClientHello) -> list[HelloExchange]:
        return self._observer.send_hellos(self._here(), hellos)

    def attempt_elsewhere(self, *requests: tuple[Listener, Request]) -> list[Attempt]:
        return self._observer.attempt_elsewhere(requests)

    def keep_silent(self, purpose: str, seconds: float) -> HelloExchange:
        return self._observer.keep_silent(self._here(), purpose, seconds)

    def is_abandoned(self) -> bool:
        return is_abandoned()

    def alone(self) -> AbstractContextManager[None]:
        return self._observer.work_lock.exclusive()

    def on_finish(self, work: Callable[[], object]) -> None:
        self._on_finish.append(work)

    def finish(self) -> None:
        for work in self._on_finish:
            work()

    def _here(self) -> Listener:
        if self.listener is None:
            raise TypeError("an observation of the whole target makes no connections of its own")
        return self.listener


_MOST_THREADS: Final = 32

AT_ONCE: Final = 4
"""Maximum number of clusters for experiments that run at a time."""

_END_SECONDS: Final = 20.0
"""Longest wait for abandoned experiments to remove their clusters. The watchdog removes the others."""


@dataclass(frozen=True, slots=True)
class _Task:
    """The observations of one check on one listener, or those of the gates if there is no check."""

    listener: Listener
    check: Check | None = None


class Prefetch:
    """Makes observations of a target in threads.

    Args:
        observer: makes and keeps the observations.
        passes: returns whether a listener passes its gates, which it judges. It is called in threads.
        wanted: the listeners in order, with the checks that judge each.
    """

    def __init__(
        self,
        observer: Observer,
        passes: Callable[[Listener], bool],
        wanted: Sequence[tuple[Listener, Sequence[Check]]],
    ) -> None:
        self._observer = observer
        self._passes = passes
        self._wanted = {listener.label: checks for listener, checks in wanted}
        self._tasks = deque(_Task(listener) for listener, _ in wanted)
        self._open = len(wanted)
        """Number of tasks that are waiting or running."""
        self._changed = threading.Condition()
        bounds = observer.bounds
        number = min(_MOST_THREADS, (bounds.concurrency + 2) * len(wanted))
        self._threads = [Worker(self._work, f"ahead_{one}") for one in range(number)]
        for thread in self._threads:
            thread.start()

    def abandon(self) -> None:
        """Make no further connection."""
        for thread in self._threads:
            thread.abandoned = True

    def wait(self) -> None:
        """Wait until every observation is made."""
        with self._changed:
            self._changed.wait_for(lambda: not self._open)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._tasks or not self._open)
                if not self._tasks:
                    return
                task = self._tasks.popleft()
            more: list[_Task] = []
            try:
                more = self._run(task)
            finally:
                with self._changed:
                    self._tasks.extend(more)
                    self._open += len(more) - 1
                    self._changed.notify_all()

    def _run(self, task: _Task) -> list[_Task]:
        """Run a task and return those that follow it."""
        if is_abandoned():
            return []
        # An error occurs again when the check is judged, and is its result then.
        with suppress(Exception):
            if task.check is None:
                passes = self._passes(task.listener)
                return [_Task(task.listener, one) for one in self._wanted[task.listener.label] if passes]
            for need in task.check.needs.values():
                self._observer.get(need.type, need.key, task.listener)
        return []


class Experiments:
    """Makes the experiments of a target in threads, each on a cluster of its own.

    Args:
        observer: keeps the results.
        settings: names of the clusters to start, in this order.
    """

    def __init__(self, observer: Observer, settings: Sequence[str]) -> None:
        # Imported here, since most runs start no cluster.
        from pytest_etcdtls.lifecycle.lab import ExperimentResults

        self._observer, self._results = observer, ExperimentResults
        self._settings: SimpleQueue[str] = SimpleQueue()
        for name in settings:
            self._settings.put(name)
        number = min(AT_ONCE, len(settings))
        self._threads = [Worker(self._work, f"experiments_{one}") for one in range(number)]
        for thread in self._threads:
            thread.start()

    def abandon(self) -> None:
        """Start no further cluster; experiments that run go on to their end."""
        for thread in self._threads:
            thread.abandoned = True

    def end(self) -> None:
        """Abandon the experiments, and wait until every cluster is removed."""
        self.abandon()
        deadline = time.monotonic() + _END_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        with suppress(Empty):
            while not is_abandoned():
                name = self._settings.get_nowait()
                # An error occurs again when the check is judged, and is its result then.
                with suppress(Exception), self._observer.work_lock.shared():
                    self._observer.get(self._results, name)
