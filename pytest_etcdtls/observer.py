"""Observations of one target, each made at most once, within the bounds that the user set.

The observer keeps each observation or the error that prevented it, and records every connection. It judges
nothing.

:class:`Ahead` makes observations ahead of the checks that need them. Checks run one after the other, and
each waits for its connections. Over a slow network, a tunnel or a port forwarding, a run does little but
wait. There, threads make the observations of the selected checks, in the order of the checks and within the
bounds of each listener. A check finds its observations made, or waits for the thread that makes them. They
are the same observations as without threads, and are judged in the same way. Experiments have clusters of
their own, and mostly wait for them to start. They run side by side, and beside the judging of everything
else.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar, cast

import pytest_etcdtls.facts
from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.errors import InconclusiveError, NotVerifiedError, UnobservedError
from pytest_etcdtls.facts import experiments
from pytest_etcdtls.facts.certificates import ServerProof
from pytest_etcdtls.facts.discovery import Discovered, Discovery
from pytest_etcdtls.facts.listener import FirstContact
from pytest_etcdtls.facts.probe import Context, Conversed, Observation, Planned, Probe, probe_for
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

_Place = tuple[str | None, type[Any], str | None]
"""Label of a listener, ``None`` for the whole target; the type of the observation; its key."""

S = TypeVar("S")
T = TypeVar("T")
C = TypeVar("C", Attempt, HelloExchange)

for _module in pkgutil.iter_modules(pytest_etcdtls.facts.__path__):
    importlib.import_module(f"{pytest_etcdtls.facts.__name__}.{_module.name}")


def find_probe(type_: type[Any]) -> Probe:
    """Return the probe of an observation type.

    The probes of experiments are imported when the first is asked for: they start clusters, and most runs
    judge none of our own.

    Raises:
        RegistrationError: if it has none.
    """
    if type_.__module__ == experiments.__name__:
        importlib.import_module("pytest_etcdtls.lifecycle.experiment_table")
    return probe_for(type_)


Place = tuple[Listener | None, type[Any], str | None]
"""An observation of a listener, ``None`` for the whole target; its type; its key."""


def led_to(target: Target, wanted: Iterable[Place]) -> Iterator[Place]:
    """Yield the observations and all others that they may need, each once."""
    known: set[Place] = set()
    left = list(wanted)
    while left:
        place = left.pop()
        if place in known:
            continue
        known.add(place)
        yield place
        listener, type_, key = place
        probe = find_probe(type_)
        for needed, of in probe.needs(Planned(target, listener, key)):
            everywhere = target.listeners if probe.crosses(needed) or listener is None else ()
            left += [(there, needed, of) for there in (*everywhere, listener)]


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
        self._facts: dict[_Place, Any] = {}
        self._makers: dict[_Place, int] = {}
        """The thread that makes an observation now."""
        self._made = threading.Condition()
        self._slots: dict[str, threading.BoundedSemaphore] = {}
        self._lock = threading.Lock()
        self._meeting = threading.Lock()
        self._patience = Patience(self.bounds.timeout)
        self._foreseen: Callable[[], Iterable[Place]] = tuple
        self._riders: tuple[Target, dict[str, dict[Observation, Request]]] | None = None
        self.quiet = Quiet()
        """Lets an experiment that depends on timing run while no other thread works."""

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
        place = (listener.label if listener else None, type_, key)
        if place not in self._facts:
            self._observe(place, listener)
        fact = self._facts[place]
        if isinstance(fact, UnobservedError):
            raise type(fact)(fact.reason)
        return cast("T", fact)

    def _observe(self, place: _Place, listener: Listener | None) -> None:
        _, type_, key = place
        found = find_probe(type_)
        found.refuse(key)
        this_thread = threading.get_ident()
        with self._made:
            while self._makers.get(place, this_thread) != this_thread:
                self._made.wait()
            if place in self._facts:
                return
            self._makers[place] = this_thread
        context = self.context(type_, key, listener)
        try:
            try:
                self._facts[place] = found.function(context, key)
            except UnobservedError as unobserved:
                # Not the error itself: its traceback would keep every frame, with connections in them.
                self._facts[place] = type(unobserved)(unobserved.reason)
        finally:
            with self._made:
                self._makers.pop(place, None)
                self._made.notify_all()
            context.finish()
        if type_ is FirstContact and listener is not None and listener.discovered:
            self._meet_the_rest()

    def context(self, type_: type[Any], key: str | None, listener: Listener | None) -> Context:
        """Return the context in which the probe makes that observation."""
        return _View(self, listener, before_proof=find_probe(type_).before_proof)

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
        self._facts = {place: fact for place, fact in self._facts.items() if not find_probe(place[1]).across}

    @property
    def facts(self) -> list[tuple[str | None, str | None, Any]]:
        """The observations made so far: listener label, key, observation.

        Only observations that their probe declares as reported are included; others may hold keys.
        """
        return [
            (label, key, fact)
            # A copy, since a thread that nobody waits for any more may be making one.
            for (label, type_, key), fact in tuple(self._facts.items())
            if not isinstance(fact, UnobservedError) and find_probe(type_).reported
        ]

    @property
    def given_up(self) -> frozenset[str]:
        """Labels of the listeners that stopped answering, to which nothing more is sent."""
        return frozenset(self._patience.given_up)

    def why_given_up(self, label: str) -> str:
        """Return why nothing more is sent to the listener of that label, empty if it is not given up."""
        return self._patience.given_up.get(label, "")

    def attempt(
        self, listener: Listener, requests: Sequence[Request], *, before_proof: bool = False
    ) -> list[tuple[Attempt, ...]]:
        """Make the connections and return the tries of each, in the order of the requests.

        Args:
            listener: where to.
            requests: what to do.
            before_proof: the server at a discovered address need not have proved who it is.

        Raises:
            ValueError: if a request with a credential is made before that.
            NotVerifiedError: if the server has not proved it, or the listener stopped answering.
            InconclusiveError: if the cap on connections would be exceeded.
        """
        if not before_proof:
            requests = self._for_proved(listener, requests)
        elif any(_is_credential(request) for request in requests):
            raise ValueError("a credential is presented only to a server that has proved who it is")
        else:
            self._patience.check(listener)
        return self._each(lambda request: self._attempts(listener, request, before_proof), requests, listener)

    def converse(self, listener: Listener, conversations: Sequence[Sequence[Request]]) -> list[Conversed]:
        """Make a connection for each sequence of requests and return what came of each.

        The first request of each is an attempt like any other, and is made again if it ends unclear. Those
        after it present the same client and are sent on the same connection.

        Raises:
            NotVerifiedError, InconclusiveError: as :meth:`attempt`.
        """
        firsts = self._for_proved(listener, [requests[0] for requests in conversations])
        asked = [(first, *requests[1:]) for first, requests in zip(firsts, conversations, strict=True)]
        # In threads also where the listener is near: each waits at its end for a server that closes late.
        return self._each(lambda requests: self._conversed(listener, requests), asked)

    def riders(self, listener: Listener) -> dict[Observation, Request]:
        """Return the requests of foreseen observations that can share a connection, by observation."""
        if self._riders is None or self._riders[0] is not self.target:
            found: dict[str, dict[Observation, Request]] = {}
            for there, type_, key in led_to(self.target, self._foreseen()):
                if there is None:
                    continue
                request = find_probe(type_).rides(Planned(self.target, there, key))
                if request is not None:
                    found.setdefault(there.label, {})[type_, key] = request
            # What reads before what does not.
            self._riders = (
                self.target,
                {
                    label: dict(sorted(of.items(), key=lambda one: (one[1].body is not None, one[1].purpose)))
                    for label, of in found.items()
                },
            )
        return self._riders[1].get(listener.label, {})

    def foresee(self, foreseen: Callable[[], Iterable[Place]]) -> None:
        """Set what returns the observations that are going to be asked for."""
        self._foreseen, self._riders = foreseen, None

    def attempt_elsewhere(self, asked: Sequence[tuple[Listener, Request]]) -> list[Attempt]:
        """Connect once, without credentials, to addresses that are no listeners of the target.

        Raises:
            ValueError: if a request holds a credential.
            InconclusiveError: if their shared cap would be exceeded.
        """
        if any(request.identity.chain or request.headers or request.body for _, request in asked):
            raise ValueError("a credential is for listeners of the target alone")
        # They are different hosts, of which those behind a firewall keep silent.
        return self._each(lambda one: self._once(*one), asked, workers=MOST_AT_ONCE)

    def greet(self, listener: Listener, hellos: Sequence[ClientHello]) -> list[HelloExchange]:
        """Send each ClientHello on a connection of its own and return the replies in order.

        Raises:
            NotVerifiedError, InconclusiveError: as :meth:`attempt`.
        """
        self._for_proved(listener, ())
        return self._each(lambda hello: self._exchange(listener, hello), hellos, listener)

    def keep_silent(self, listener: Listener, purpose: str, patience: float) -> HelloExchange:
        """Connect, send nothing for ``patience`` seconds, and return whether the server closed.

        Raises:
            NotVerifiedError, InconclusiveError: as :meth:`attempt`.
        """
        self._for_proved(listener, ())
        with self._slot(listener):
            self._claim(listener)
            return self._each(
                lambda silent: self._record(keep_silent(silent, purpose, patience)), [listener]
            )[0]

    def _for_proved(self, listener: Listener, requests: Sequence[Request]) -> Sequence[Request]:
        """Return the requests, restricted to the server that has proved who it is at a discovered address."""
        self._patience.check(listener)
        if not listener.discovered:
            return requests
        leaves = self.get(ServerProof, None, listener).leaves
        return [replace(one, proved=leaves) if _is_credential(one) else one for one in requests]

    def _meet_the_rest(self) -> None:
        """Contact all discovered listeners at once, after one of them did not answer in time.

        Contacted one after the other, those that are silent would use up the time of those that are not.
        """
        rest = [
            one
            for one in self.target.listeners
            if one.discovered and (one.label, FirstContact, None) not in self._facts
        ]
        if not rest or not self._patience.lost_on_discovered or not self._meeting.acquire(blocking=False):
            return

        def meet(listener: Listener) -> None:
            with suppress(UnobservedError):
                self.get(FirstContact, None, listener)

        try:
            in_threads(meet, rest, min(MOST_AT_ONCE, len(rest)))
        finally:
            self._meeting.release()

    def _each(
        self,
        make: Callable[[S], T],
        asked: Sequence[S],
        listener: Listener | None = None,
        *,
        workers: int | None = None,
    ) -> list[T]:
        if listener is not None and self._patience.is_near(listener):
            # A thread takes longer to start than the connection that it would make.
            return [make(one) for one in asked]
        return in_threads(make, asked, max(1, min(workers or self.bounds.concurrency, len(asked))))

    def _conversed(self, listener: Listener, requests: Sequence[Request]) -> Conversed:
        request = requests[0]
        if len(requests) == 1:
            return Conversed(self._attempts(listener, request, before_proof=False))
        self._patience.check(listener)
        with self._slot(listener):
            self._claim(listener)
            made = make_attempts(listener, requests, self.bounds.timeout, lambda: not is_abandoned())
            for one in (made.first, *made.more):
                self._record(one)
        first = made.first
        self._patience.note(listener, first)
        if made.trusted:
            return Conversed((first,), made.more)
        if made.more and request.keep is not None:
            request.keep.forget()
        unclear = first.ending is Ending.UNCLEAR and not first.local
        if unclear or (first.response is None and first.is_http):
            # As without the others: with a server that is asked to close the connection.
            return Conversed(self._attempts(listener, request, before_proof=False, tries=(first,)))
        return Conversed((first,))

    def _attempts(
        self, listener: Listener, request: Request, before_proof: bool, tries: tuple[Attempt, ...] = ()
    ) -> tuple[Attempt, ...]:
        # Plain HTTP that a member list asks for is sent once.
        most = 1 if listener.discovered and request.plaintext else self.RETRIES + 1
        while len(tries) < most:
            if tries and self._patience.why(listener):
                break
            if not before_proof:
                self._patience.check(listener)
            with self._slot(listener):
                self._claim(listener)
                tries = (*tries, self._record(make_attempt(listener, request, self.bounds.timeout)))
            self._patience.note(listener, tries[-1])
            if tries[-1].ending is not Ending.UNCLEAR or tries[-1].local:
                break
            if request.may_end and tries[-1].stream_end is StreamEnd.EOF:
                break
        return tries

    def _once(self, there: Listener, request: Request) -> Attempt:
        self._claim(there, label=CLUSTER)
        return self._record(make_attempt(there, request, self.bounds.timeout))

    def _exchange(self, listener: Listener, hello: ClientHello) -> HelloExchange:
        self._patience.check(listener)
        for number in range(self.RETRIES + 1):
            if number and self._patience.why(listener):
                break
            with self._slot(listener):
                self._claim(listener)
                exchange = self._record(exchange_hello(listener, hello, self.bounds.timeout))
            # Some servers answer one offer with silence: the same offer again says nothing more of them.
            self._patience.note(listener, exchange, again=number > 0 or hello.once)
            if exchange.answered or hello.once:
                break
        return exchange

    def _record(self, connection: C) -> C:
        with self._lock:
            self.connections.append(connection)
        return connection

    @contextmanager
    def _slot(self, listener: Listener) -> Iterator[None]:
        """Wait until the listener may be connected to: threads may make several observations of it."""
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
    """A thread that makes connections, as a daemon: it may be in a connect or a resolver that ends late.

    Attributes:
        abandoned: nobody waits for it any more, so that it makes no further connection.
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
    """Return whether nobody waits for what this thread does."""
    thread = threading.current_thread()
    return isinstance(thread, Worker) and thread.is_abandoned


def in_threads(make: Callable[[S], T], asked: Sequence[S], workers: int) -> list[T]:
    """Call a function for each item in threads, and return the results in order.

    An exception that interrupts the waiting (Ctrl-C, a time-out of a test) is raised at once, and the threads
    are abandoned.

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
    return [results[number] for number in range(len(asked))]


MOST_AT_ONCE = 40
"""Maximum number of addresses of different hosts that are contacted at once."""


def _is_credential(request: Request) -> bool:
    """Return whether a request presents a certificate, a token or a password."""
    return bool(request.identity.chain or request.headers or request.body)


class Quiet:
    """Lets one thread work while no other does."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._threads: set[int] = set()
        """Those that work now."""
        self._alone = False

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Work beside others, but beside none that works alone."""
        this_thread = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._threads.add(this_thread)
        try:
            yield
        finally:
            with self._changed:
                self._threads.discard(this_thread)
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Work when no other thread does."""
        mine = {threading.get_ident()}
        with self._changed:
            while self._alone or self._threads - mine:
                if is_abandoned():
                    raise InconclusiveError("the run was interrupted")
                self._changed.wait(_GLANCE_SECONDS)
            self._alone = True
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()


_GLANCE_SECONDS = 0.2


NEAR_MILLISECONDS = 8.0
"""What the quickest connection takes on loopback and in a local network, where a round trip is below 2 ms."""


class Patience:
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

        A connection that ended early, however that was, has cost no time. Only one that got no answer in time
        counts; an answer that did not come to its end in time has cost the time as well.

        Args:
            listener: where it was made to.
            connection: it did not expect silence.
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
            for where in (lost, self._on_discovered) if listener.discovered else (lost,):
                where.add(connection.milliseconds / 1000)
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
    """Seconds during which at least one connection waited in vain."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._until = 0.0

    def add(self, seconds: float) -> None:
        """Add a wait that ends now; what is covered already by another wait does not count twice."""
        now = time.monotonic()
        self.seconds += max(0.0, now - max(self._until, now - seconds))
        self._until = now


class _View:
    """The context of a probe: an observer, bound to one listener."""

    def __init__(self, observer: Observer, listener: Listener | None, *, before_proof: bool) -> None:
        self._observer = observer
        self._afterwards: list[Callable[[], object]] = []
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

    def converse(self, *conversations: Sequence[Request]) -> list[Conversed]:
        return self._observer.converse(self._here(), conversations)

    def riders(self) -> Mapping[Observation, Request]:
        return self._observer.riders(self._here())

    def greet(self, *hellos: ClientHello) -> list[HelloExchange]:
        return self._observer.greet(self._here(), hellos)

    def attempt_elsewhere(self, *asked: tuple[Listener, Request]) -> list[Attempt]:
        return self._observer.attempt_elsewhere(asked)

    def keep_silent(self, purpose: str, patience: float) -> HelloExchange:
        return self._observer.keep_silent(self._here(), purpose, patience)

    def is_abandoned(self) -> bool:
        return is_abandoned()

    def alone(self) -> AbstractContextManager[None]:
        return self._observer.quiet.alone()

    def afterwards(self, work: Callable[[], object]) -> None:
        self._afterwards.append(work)

    def finish(self) -> None:
        for work in self._afterwards:
            work()

    def _here(self) -> Listener:
        if self.listener is None:
            raise TypeError("an observation of the whole target makes no connections of its own")
        return self.listener


_MOST_THREADS: Final = 32

AT_ONCE: Final = 4
"""Maximum number of clusters for experiments that run at a time."""

_END_SECONDS: Final = 20.0
"""The longest wait for abandoned experiments to remove their clusters; the watchdog removes what is left."""


@dataclass(frozen=True, slots=True)
class _Task:
    """The observations of one check on one listener; of the gates if there is no check."""

    listener: Listener
    check: Check | None = None


class Ahead:
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
        self._tasks: SimpleQueue[_Task] = SimpleQueue()
        self._open = len(wanted)
        self._changed = threading.Condition()
        for listener, _ in wanted:
            self._tasks.put(_Task(listener))
        bounds = observer.bounds
        number = min(_MOST_THREADS, (bounds.concurrency + 2) * len(wanted))
        self._threads = [Worker(self._work, f"ahead_{place}") for place in range(number)]
        for thread in self._threads:
            thread.start()

    def abandon(self) -> None:
        """Make no further connection."""
        for thread in self._threads:
            thread.abandoned = True

    def wait(self) -> None:
        """Wait until every observation is made."""
        with self._changed:
            while self._open:
                self._changed.wait()

    def _work(self) -> None:
        while True:
            with self._changed:
                while (task := self._next()) is None:
                    if not self._open:
                        return
                    self._changed.wait()
            more: list[_Task] = []
            try:
                more = self._carried_out(task)
            finally:
                for one in more:
                    self._tasks.put(one)
                with self._changed:
                    self._open += len(more) - 1
                    self._changed.notify_all()

    def _next(self) -> _Task | None:
        with suppress(Empty):
            return self._tasks.get_nowait()
        return None

    def _carried_out(self, task: _Task) -> list[_Task]:
        """Carry a task out and return those that it leads to."""
        if is_abandoned():
            return []
        # What goes wrong here goes wrong again when it is the check's turn, and is its result then.
        with suppress(Exception):
            if task.check is not None:
                self._observe(task.check, task.listener)
            elif self._passes(task.listener):
                return [_Task(task.listener, check) for check in self._wanted[task.listener.label]]
        return []

    def _observe(self, check: Check, listener: Listener) -> None:
        """Make the observations of a check, up to the first that cannot be made, as judging does."""
        for need in check.needs.values():
            self._observer.get(need.type, need.key, listener)


class Experiments:
    """Makes the experiments of a target in threads, each on a cluster of its own.

    Args:
        observer: keeps the results.
        settings: names of the clusters to start, in this order.
    """

    def __init__(self, observer: Observer, settings: Sequence[str]) -> None:
        # It starts clusters, which a run over a slow network does not.
        from pytest_etcdtls.lifecycle.lab import ExperimentResults

        self._observer, self._results = observer, ExperimentResults
        self._settings: SimpleQueue[str] = SimpleQueue()
        for name in settings:
            self._settings.put(name)
        number = min(AT_ONCE, len(settings))
        self._threads = [Worker(self._work, f"experiments_{place}") for place in range(number)]
        for thread in self._threads:
            thread.start()

    def abandon(self) -> None:
        """Start no further cluster, and let what runs come to its end."""
        for thread in self._threads:
            thread.abandoned = True

    def end(self) -> None:
        """Abandon what is left, and wait until every cluster is removed."""
        self.abandon()
        deadline = time.monotonic() + _END_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        with suppress(Empty):
            while not is_abandoned():
                name = self._settings.get_nowait()
                # What goes wrong here goes wrong again when it is the check's turn, and is its result then.
                with suppress(Exception), self._observer.quiet.beside():
                    self._observer.get(self._results, name)
