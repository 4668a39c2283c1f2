"""Observations of one target, each made at most once, within the bounds that the user set.

The observer keeps each observation, or the error that prevented it, in a recording, with every connection. It
may be asked by several threads: one of them makes an observation, and the others wait for it.
"""

from __future__ import annotations

import functools
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar, cast

from msgspec.structs import replace as with_values

from pytest_etcdtls.checks.registry import import_checks
from pytest_etcdtls.declared.declaration import is_loopback
from pytest_etcdtls.errors import InconclusiveError, Reason, RunEndedError, UnobservedError, missing
from pytest_etcdtls.facts.bad_identities import with_distinct_names
from pytest_etcdtls.facts.certificates import ServerProof
from pytest_etcdtls.facts.discovery import Discovered, Discovery, NamedMembers, has_unclear_members
from pytest_etcdtls.facts.experiments import is_of_experiment
from pytest_etcdtls.facts.fact import (
    Context,
    Fact,
    ListenerObservation,
    Need,
    Observation,
    Planned,
    Reading,
    fact_of,
)
from pytest_etcdtls.facts.listener import FirstContact, version_path
from pytest_etcdtls.facts.member_list import MemberListing
from pytest_etcdtls.facts.recording import Place, Recording
from pytest_etcdtls.role import CLUSTER, Protocol, Role
from pytest_etcdtls.run.timeouts import TimeoutBudget
from pytest_etcdtls.run.workers import (
    Pool,
    SharedLock,
    in_threads,
    is_abandoned,
    thread_would_help,
)
from pytest_etcdtls.target import Bounds, Listener, Target
from pytest_etcdtls.tls.attempt import Attempt, Ending, Request, StreamEnd
from pytest_etcdtls.tls.connection import make_attempt
from pytest_etcdtls.tls.hello import (
    ClientHello,
    Connection,
    HelloExchange,
    exchange_hello,
    keep_silent,
)

S = TypeVar("S")
T = TypeVar("T")
C = TypeVar("C", Attempt, HelloExchange)


def find_fact(type_: type[Any]) -> Fact:
    """Return the fact of a type.

    The facts of experiments are imported at their first use, since most runs start no cluster.

    Raises:
        RegistrationError: if it has none.
    """
    if is_of_experiment(type_):
        import_checks()  # the experiments are beside their checks
        import pytest_etcdtls.lifecycle.changes  # noqa: F401 - it registers the facts of experiments
    return fact_of(type_)


def _observed(type_: type[Any], listener: Listener | None) -> Listener | None:
    """Return whom a fact is of: the listener, or the whole target if it is the same for every listener."""
    return None if _is_of_target(find_fact(type_)) else listener


@functools.cache
def _is_of_target(fact: Fact) -> bool:
    """Return whether a fact reads nothing of its listener, so that it is the same for every listener."""
    return fact.reads_no_listener and all(
        need.reading is Reading.EACH or _is_of_target(find_fact(need.type)) for need in fact.needs
    )


def with_needs(target: Target, wanted: Iterable[ListenerObservation]) -> Iterator[ListenerObservation]:
    """Yield the observations and all others that they may need, each once."""
    known: set[Place] = set()
    of_each: set[Observation] = set()
    """Those of every listener, which is asked for once: the listeners of a target may be hundreds."""
    left = list(wanted)
    while left:
        listener, type_, key = left.pop()
        listener = _observed(type_, listener)
        place = (listener.label if listener else None, type_, key)
        if place in known:
            continue
        known.add(place)
        yield listener, type_, key
        for need, of in find_fact(type_).reads(Planned(target, listener, key)):
            if need.reading is Reading.ELSEWHERE:
                continue
            left.append((listener, need.type, of))
            read_of_each = need.reading is Reading.EACH or listener is None
            if read_of_each and (need.type, of) not in of_each:
                of_each.add((need.type, of))
                left += [(other, need.type, of) for other in target.listeners]


class Network:
    """Makes connections. In :mod:`pytest_etcdtls.run.conforming` a file answers instead."""

    def attempt(self, there: Listener, request: Request, timeout: float) -> Attempt:
        """Make a request on a connection of its own: :func:`~pytest_etcdtls.tls.connection.make_attempt`."""
        return make_attempt(there, request, timeout)

    def hello(self, there: Listener, hello: ClientHello, timeout: float) -> HelloExchange:
        """Send a ClientHello: :func:`~pytest_etcdtls.tls.hello.exchange_hello`."""
        return exchange_hello(there, hello, timeout)

    def silence(self, there: Listener, purpose: str, seconds: float) -> HelloExchange:
        """Connect and send nothing: :func:`~pytest_etcdtls.tls.hello.keep_silent`."""
        return keep_silent(there, purpose, seconds)


class _Maker:
    """The thread that makes an observation. It holds ``done`` meanwhile."""

    __slots__ = ("done", "thread")

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.done = threading.Lock()
        self.done.acquire()


class Observer:
    """Makes and keeps the observations of a target.

    Args:
        target: the target to observe.
        bounds: limits that the user set.
        network: makes the connections.
    """

    RETRIES = 2

    def __init__(self, target: Target, bounds: Bounds | None = None, network: Network | None = None) -> None:
        self.recording = Recording(with_distinct_names(target))
        self.bounds = bounds or Bounds()
        self._network = network or Network()
        self.used: Counter[str] = Counter()
        self.open: Counter[str] = Counter()
        """The number of open connections, by label of the listener."""
        self._makers: dict[Place, _Maker] = {}
        """Who makes an observation now."""
        self._slots: dict[str, threading.BoundedSemaphore] = {}
        self._asking_again: dict[str, threading.Lock] = {}
        self._first: dict[str, threading.Lock] = {}
        self._reached: dict[str, str] = {}
        """The address that is judged, by the label of a listener whose host is a name."""
        self._lock = threading.Lock()
        self._contacting = threading.Lock()
        self._accepted: set[str] = set()
        """Labels of the listeners that accepted a TCP connection."""
        self._closed: dict[str, datetime] = {}
        """By label, since when a listener refuses connections that accepted some before."""
        self.why_closed: dict[str, Reason] = {}
        """By label, why a listener that accepted connections has refused one."""
        self._budget = TimeoutBudget(self.bounds.timeout)
        self._answered: dict[str, Request] = {}
        """By label of a listener, a usual request that it answered."""
        self.ended = False
        """Facts are only computed from those that are recorded."""
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
            RunEndedError: after :meth:`end`, if it needs a connection, or another thread is making it.
            RegistrationError: if no function returns that type.
        """
        listener = _observed(type_, listener)
        place = (listener.label if listener else None, type_, key)
        if place not in self.recording:
            self._observe(place, listener)
        return cast("T", self.recording[place])

    def read(self, need: Need, listener: Listener | None) -> Any:  # noqa: ANN401 - of its type
        """Return the fact that a parameter of a check reads; ``None`` if an optional one cannot be obtained.

        Raises:
            UnobservedError: if it is needed and cannot be obtained.
        """
        context = _ObserverContext(self, listener, before_proof=False)
        return need.read(context, Planned(self.target, listener))

    def _observe(self, place: Place, listener: Listener | None) -> None:
        _, type_, key = place
        fact = find_fact(type_)
        fact.check_key(key)
        maker = self._become_maker(place, fact)
        if maker is None:
            return
        context = self.context(type_, key, listener)
        try:
            made: Any
            try:
                made = fact.function(**fact.arguments(context, key))
            except UnobservedError as unobserved:
                made = unobserved
            if is_abandoned():  # it lacks connections; a check that needs it later makes it
                raise InconclusiveError("the run was interrupted")
            self.recording.add(place, made, reported=fact.reported)
        finally:
            with self._lock:
                self._makers.pop(place, None)
            if maker.done.locked():
                maker.done.release()
            context.finish()
        if type_ is FirstContact and listener is not None and listener.discovered:
            self._contact_discovered()

    def _become_maker(self, place: Place, fact: Fact) -> _Maker | None:
        """Return a maker for this thread; ``None`` if another thread has made the observation."""
        while True:
            with self._lock:
                other = self._makers.get(place)
                if place in self.recording:
                    return None
                if self.ended and (other is not None or not fact.is_computed):
                    raise RunEndedError("the run was interrupted")
                if other is None:
                    maker = self._makers[place] = _Maker()
                    return maker
                if other.thread == threading.get_ident():
                    # It was interrupted before, or facts need each other, which ends in a RecursionError.
                    return other
            # Those who wait for an observation wake at its end alone, not at that of any other.
            with other.done:
                pass

    def end(self) -> None:
        """Make no further connection. Facts are only computed from recorded ones, without waiting."""
        self.ended = True

    @property
    def target(self) -> Target:
        """The target; after :meth:`discover`, with the listeners that were discovered."""
        return self.recording.target

    @property
    def connections(self) -> list[Connection]:
        """Every connection that was made to the target so far, for any purpose."""
        return self.recording.connections

    def context(self, type_: type[Any], key: str | None, listener: Listener | None) -> Context:
        """Return the context in which an observation of that type is made."""
        return _ObserverContext(self, listener, before_proof=find_fact(type_).before_proof)

    def discover(self) -> None:
        """Add the listeners of the members that the cluster lists, if the target is to be discovered.

        The observation ``Discovery`` holds the result, also if no listener answered.
        """
        if not self.target.discover:
            return
        listeners = self.get(Discovered).listeners
        self.get(Discovery)
        self._judge_instead(listeners)

    def name_members(self) -> None:
        """Give each listener the label of its member, where hosts do not tell the members apart.

        Nothing is done for a target that is to be discovered: discovery does it.
        """
        if not has_unclear_members(self.target):
            return
        asked = [listener for listener in self.target.listeners if listener.role is Role.CLIENT]
        # At once, since each may take as long as a request without a quorum.
        Pool("names", [partial(self._contact, MemberListing, one) for one in asked], MOST_AT_ONCE).finish()
        listeners = self.get(NamedMembers).listeners
        if listeners != self.target.listeners:
            self._judge_instead(listeners)

    def _judge_instead(self, listeners: tuple[Listener, ...]) -> None:
        """Keep observations of single listeners; others across all listeners are made again."""
        self.recording = self.recording.with_target(
            replace(self.target, listeners=listeners),
            kept=lambda type_: type_ in _FOUND or Reading.EACH not in find_fact(type_).readings,
        )

    def _contact(self, type_: type[Any], listener: Listener) -> tuple[()]:
        """Make the observation of a listener, if it can be made; an error is met again where it is read."""
        with suppress(Exception):
            self.get(type_, None, listener)
        return ()

    @property
    def facts(self) -> list[tuple[str | None, str | None, Any]]:
        """The observations made so far that reports may show: listener label, key, observation."""
        return self.recording.facts

    @property
    def given_up(self) -> Mapping[str, Reason]:
        """Labels of the listeners that stopped answering, each with why nothing more is sent to it."""
        return self._budget.given_up

    def _for_proved(self, listener: Listener, requests: Sequence[Request]) -> Sequence[Request]:
        """Return the requests, those that need it restricted to the server that proved who it is."""
        self._budget.check(listener)
        need = [_is_credential(one) and self._needs_proof(listener, one) for one in requests]
        if not listener.discovered and not any(need):
            return requests
        leaves = self.get(ServerProof, None, listener).leaves
        return [replace(one, proved=leaves) if it else one for one, it in zip(requests, need, strict=True)]

    def _needs_proof(self, listener: Listener, request: Request) -> bool:
        """Return whether a server must prove who it is before a credential is presented to it.

        A process is presented what is in its own files without a proof.
        """
        here = self.target.running.get(listener.member)
        if listener.discovered or here is None:
            return listener.discovered or self.target.searched
        if (file := request.identity.certificate_file) is None:  # made in memory, as by a CA of the user
            return self.target.searched and self.target.credentials(listener.role).signing_key is not None
        owner = self.target.process_of(file)
        if owner is None:
            return self.target.searched
        return owner is not here and not here.shares_files_with(owner)

    def _contact_discovered(self) -> None:
        """Contact all discovered listeners at once, after one of them did not answer in time.

        One after the other, the silent ones would use up the seconds that discovered listeners may cost.
        """
        rest = [
            listener
            for listener in self.target.listeners
            if listener.discovered and (listener.label, FirstContact, None) not in self.recording
        ]
        if not rest or not self._budget.lost_on_discovered or not self._contacting.acquire(blocking=False):
            return

        try:
            in_threads(partial(self._contact, FirstContact), rest, min(MOST_AT_ONCE, len(rest)))
        finally:
            self._contacting.release()

    def _each(
        self,
        make: Callable[[S], T],
        items: Sequence[S],
        *,
        workers: int | None = None,
    ) -> list[T]:
        results, pending = [], deque(items)
        while pending and not thread_would_help():
            results.append(make(pending.popleft()))
        number = max(1, min(workers or self.bounds.concurrency, len(pending)))
        return [*results, *in_threads(make, tuple(pending), number)]

    def _attempts(self, listener: Listener, request: Request, before_proof: bool) -> tuple[Attempt, ...]:
        tries: tuple[Attempt, ...] = ()
        # Plain HTTP at an address that only a member list names is sent once.
        most = 1 if listener.discovered and request.plaintext else self.RETRIES + 1
        while len(tries) < most:
            if before_proof and self._budget.is_unreached(listener):
                break
            if tries and (self._budget.why(listener) or self._budget.is_spent(listener)):
                break
            if not before_proof:
                self._budget.check(listener)
            with self._slot(listener) as there:
                self._claim(listener)
                tries = (*tries, self._request(listener, there, request))
            self._note(listener, tries[-1], request)
            if tries[-1].ending is not Ending.UNCLEAR or tries[-1].local:
                break
            if request.may_end and tries[-1].stream_end is StreamEnd.EOF:
                break
        return tries

    def _request(self, listener: Listener, there: Listener, request: Request) -> Attempt:
        return self._record(self._network.attempt(there, request, self.bounds.timeout), listener)

    def _once(self, address: Listener, request: Request, *, label: str = CLUSTER) -> Attempt:
        self._claim(address, label=label)
        return self._record(self._network.attempt(address, request, self.bounds.timeout))

    def _exchange(self, listener: Listener, hello: ClientHello) -> HelloExchange:
        self._budget.check(listener)
        for number in range(self.RETRIES + 1):
            if number and (self._budget.why(listener) or self._budget.is_spent(listener)):
                break
            with self._slot(listener) as there:
                self._claim(listener)
                exchange = self._record(self._network.hello(there, hello, self.bounds.timeout), listener)
            # Some servers are silent about one offer. Its repetition does not show that the listener is down.
            self._note(listener, exchange, again=number > 0 or hello.once)
            if exchange.answered or hello.once:
                break
        return exchange

    def _note(
        self,
        listener: Listener,
        connection: Connection,
        request: Request | None = None,
        *,
        again: bool = False,
    ) -> None:
        """Record how a connection ended; give up the listener if it does not answer any more.

        Some requests may hang while others are answered: etcd without a quorum answers no linearizable read.
        So what was answered before is requested again before the listener is given up.
        """
        silent = self._budget.note(listener, connection, again=again)
        if isinstance(connection, Attempt) and request is not None and _is_usual(request, listener):
            before = self._answered.get(listener.label)
            if connection.ending is Ending.SERVED or (before is None and connection.ending is Ending.REFUSED):
                self._answered[listener.label] = replace(
                    request, keep=None, resume=None, purpose=_STILL_THERE
                )
        if silent:
            self._ask_again(listener)

    def _ask_again(self, listener: Listener) -> None:
        """Give a listener up unless it answers what it answered before."""
        with self._lock:
            asking = self._asking_again.setdefault(listener.label, threading.Lock())
        with asking:  # connections that end side by side ask once
            if self._budget.why(listener):
                return
            if request := self._answered.get(listener.label):
                with self._slot(listener) as there:
                    self._claim(listener)
                    attempt = self._request(listener, there, request)
                self._budget.note(listener, attempt)
                if attempt.ending is not Ending.UNCLEAR:
                    return
            self._budget.give_up(listener)

    def _record(self, connection: C, listener: Listener | None = None) -> C:
        with self._lock:
            if listener is not None and (why := self._why_closed(listener, connection)):
                connection = with_values(connection, detail=f"{connection.detail}; {why}")
            self.recording.connections.append(connection)
            if listener and connection.server_address and not listener.has_one_address:
                self._reached.setdefault(listener.label, connection.server_address)
        return connection

    def _why_closed(self, listener: Listener, connection: Connection) -> Reason | None:
        """Return why a listener that accepted connections refused this one; ``None`` if it did not."""
        if isinstance(connection, Attempt):
            refused = connection.stream_end is StreamEnd.CONNECTION_REFUSED
        else:
            refused = connection.refused
        label, began = listener.label, connection.started_at
        if connection.server_address:
            self._accepted.add(label)
            if self._closed.get(label, began) < began:
                del self._closed[label]
        if not refused or label not in self._accepted:
            return None
        self._closed.setdefault(label, began)
        return self.why_closed.setdefault(label, _explain_close(listener))

    @contextmanager
    def _slot(self, listener: Listener) -> Iterator[Listener]:
        """Wait until another connection is within ``--etcd-concurrency``, and yield where to connect.

        A name may have several addresses, with a server behind each. Every connection goes to the address of
        the first one that was made, so all results are about one server.
        """
        label, port = listener.label, listener.address[1]
        with self._lock:
            slot = self._slots.setdefault(label, threading.BoundedSemaphore(self.bounds.concurrency))
            first = self._first.setdefault(label, threading.Lock())
        with slot, nullcontext() if listener.has_one_address or label in self._reached else first:
            address = self._reached.get(label)
            self._count(label, 1)
            try:
                yield listener if address is None else replace(listener, connect_to=(address, port))
            finally:
                self._count(label, -1)

    def _count(self, label: str, number: int) -> None:
        with self._lock:
            self.open[label] += number

    def _claim(self, listener: Listener, *, label: str = "") -> None:
        label = label or listener.label
        if is_abandoned():
            raise InconclusiveError(f"{listener.url}: the run was interrupted")
        with self._lock:
            if self.used[label] >= self.bounds.max_connections:
                if label in self._closed:  # a higher cap would not help
                    raise InconclusiveError(_explain_close(listener))
                cap = "the cap"
                if self.bounds.processes > 1:
                    cap = f"the share of one of {self.bounds.processes} processes in the cap"
                options = ("--etcd-max-connections", "--etcd-check")
                text = f"{listener.url}: {self.bounds.max_connections} connections were made, {cap}"
                ending = "; raise it with {} or select fewer checks with {}".format(*options)
                raise InconclusiveError(missing(text, *options, ending=ending))
            first = not self.used[label]
            self.used[label] += 1
        if self.bounds.pause and not first:
            threading.Event().wait(self.bounds.pause)


CLOSED_DURING_RUN: Final = Reason(
    "etcd is stopping or restarting, run again: the listener closed during the run"
)
CLOSED_ON_LOOPBACK: Final = missing(
    "the listener closed during the run",
    "--etcd-via",
    ending=": a kubectl port-forward ends at the first client that the server refuses (use --etcd-via or ssh "
    "-L), and an etcd that is stopping closes its ports (run again)",
)


def _explain_close(listener: Listener) -> Reason:
    return CLOSED_ON_LOOPBACK if is_loopback(listener.address[0]) else CLOSED_DURING_RUN


MOST_AT_ONCE = 40
"""Maximum number of addresses of different hosts that are contacted at once."""


_FOUND: Final = frozenset({Discovered, NamedMembers})
"""The observations that say which listeners there are, and of which members."""

_STILL_THERE: Final = "what was answered before, again"


def _is_usual(request: Request, listener: Listener) -> bool:
    """Return whether every etcd answers the request at once, also one that has no leader."""
    usual = request.protocol is Protocol.HTTP1 and request.path == version_path(listener.role)
    return usual and not (request.headers or request.body or request.renegotiate or request.resume)


def _is_credential(request: Request) -> bool:
    """Return whether a request presents a certificate, a token or a password."""
    return bool(request.identity.chain or request.headers or request.body)


class _ObserverContext:
    """An observer, bound to one listener, gets facts."""

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
    def recording(self) -> Recording:
        return self._observer.recording

    def get(self, type_: type[T], key: str | None = None, listener: Listener | None = None) -> T:
        return self._observer.get(type_, key, listener or self.listener)

    def attempt(self, *requests: Request) -> list[tuple[Attempt, ...]]:
        observer, here, before_proof = self._observer, self._here(), self._before_proof
        wanted: Sequence[Request] = requests
        if not before_proof:
            wanted = observer._for_proved(here, requests)
        elif any(_is_credential(request) for request in requests):
            raise ValueError("a credential is presented only to a server that has proved who it is")
        else:
            observer._budget.check(here)
        return observer._each(lambda request: observer._attempts(here, request, before_proof), wanted)

    def send_hellos(self, *hellos: ClientHello) -> list[HelloExchange]:
        observer, here = self._observer, self._here()
        if not self._before_proof:
            observer._for_proved(here, ())
        return observer._each(lambda hello: observer._exchange(here, hello), hellos)

    def attempt_elsewhere(self, *requests: tuple[Listener, Request]) -> list[Attempt]:
        if any(_is_credential(request) for _, request in requests):
            raise ValueError("a credential is for listeners of the target alone")
        observer = self._observer
        # A firewall may drop the packets to some of the hosts, so that each takes the whole timeout.
        return observer._each(lambda request: observer._once(*request), requests, workers=MOST_AT_ONCE)

    def attempt_at(self, *requests: tuple[str, Request]) -> list[Attempt]:
        observer, here = self._observer, self._here()
        if any(_is_credential(request) for _, request in requests):
            raise ValueError("a credential is for the address that is judged alone")

        def once(request_at: tuple[str, Request]) -> Attempt:
            address, request = request_at
            there = replace(here, connect_to=(address, here.address[1]))
            return observer._once(there, request, label=here.label)

        return observer._each(once, requests)

    def keep_silent(self, purpose: str, seconds: float) -> HelloExchange:
        observer, here = self._observer, self._here()
        observer._for_proved(here, ())
        with observer._slot(here) as there:
            observer._claim(here)
            [exchange] = observer._each(
                lambda silent: observer._network.silence(silent, purpose, seconds), [there]
            )
            return observer._record(exchange, here)

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
