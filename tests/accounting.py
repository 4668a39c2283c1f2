"""An observer that verifies what each probe declares, and a counter of the connections of a process."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any, TypeVar
from unittest.mock import patch

from pytest_etcdtls.facts.probe import Context, Observation, Planned, Probe, SharedAttempts, probe_for
from pytest_etcdtls.observer import Observer
from pytest_etcdtls.registry import Check
from pytest_etcdtls.role import CLUSTER
from pytest_etcdtls.suite.plan import ADVERTISED, planned
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import Attempt, Request
from pytest_etcdtls.tls.hello import ClientHello, Connection, HelloExchange

T = TypeVar("T")


class AccountingObserver(Observer):
    """Makes observations, and notes what a probe does and does not declare.

    Attributes:
        undeclared: one sentence for each such thing, naming the file to edit.
        first_tries: connections by listener label, without retries.
    """

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.undeclared: dict[str, None] = {}
        self.first_tries: Counter[str] = Counter()

    def context(self, type_: type[Any], key: str | None, listener: Listener | None) -> Context:
        """Return a context that compares what the probe does with what it declares."""
        plain = super().context(type_, key, listener)
        return _Accounted(plain, probe_for(type_), Planned(self.target, listener, key), self)


class _Accounted:
    def __init__(
        self, context: Context, probe: Probe, planned: Planned, observer: AccountingObserver
    ) -> None:
        self._context, self._probe, self._planned, self._observer = context, probe, planned, observer
        self._made = self._made_elsewhere = 0

    @property
    def target(self) -> Target:
        return self._context.target

    @property
    def listener(self) -> Listener | None:
        return self._context.listener

    @property
    def timeout(self) -> float:
        return self._context.timeout

    @property
    def connections(self) -> Sequence[Connection]:
        return self._context.connections

    def get(self, type_: type[T], key: str | None = None, listener: Listener | None = None) -> T:
        other = listener is not None and self.listener is not None and listener.label != self.listener.label
        foreign = listener is not None and listener not in self.target.listeners
        if (type_, key) not in _wanted(self._probe, self._planned):
            self._note(f"asks for {type_.__name__} {key or ''}, which needs= does not lead to")
        if foreign and type_ not in self._probe.advertised:
            self._note(f"asks for {type_.__name__} of {listener}, which needs advertised=")
        elif other and not foreign and not self._probe.crosses(type_):
            self._note(f"asks for {type_.__name__} of another listener, which needs across=True")
        return self._context.get(type_, key, listener)

    def attempt(self, *requests: Request) -> list[tuple[Attempt, ...]]:
        self._count(len(requests))
        return self._context.attempt(*requests)

    def attempt_shared(self, *sequences: Sequence[Request]) -> list[SharedAttempts]:
        self._count(len(sequences))
        return self._context.attempt_shared(*sequences)

    def shared_requests(self) -> Mapping[Observation, Request]:
        return self._context.shared_requests()

    def send_hellos(self, *hellos: ClientHello) -> list[HelloExchange]:
        self._count(len(hellos))
        return self._context.send_hellos(*hellos)

    def keep_silent(self, purpose: str, seconds: float) -> HelloExchange:
        self._count(1)
        return self._context.keep_silent(purpose, seconds)

    def attempt_elsewhere(self, *requests: tuple[Listener, Request]) -> list[Attempt]:
        self._made_elsewhere += len(requests)
        self._observer.first_tries[CLUSTER] += len(requests)
        declared = self._probe.elsewhere(self.target) if self._probe.elsewhere else 0
        if self._made_elsewhere > declared:
            self._note(f"makes {self._made_elsewhere} connections elsewhere, elsewhere= says {declared}")
        return self._context.attempt_elsewhere(*requests)

    def is_abandoned(self) -> bool:
        return self._context.is_abandoned()

    def alone(self) -> AbstractContextManager[None]:
        return self._context.alone()

    def on_finish(self, work: Callable[[], object]) -> None:
        self._context.on_finish(work)

    def finish(self) -> None:
        self._context.finish()

    def _count(self, number: int) -> None:
        self._made += number
        self._observer.first_tries[self.listener.label if self.listener else CLUSTER] += number
        if self._made > (declared := self._probe.cost(self._planned)):
            self._note(f"makes {self._made} connections, cost= says {declared}")

    def _note(self, what: str) -> None:
        key = f" {self._planned.key!r}" if self._planned.key else ""
        self._observer.undeclared[
            f"{self._probe.module}: the probe of {self._probe.observation.__name__}{key} {what}"
        ] = None


def _wanted(probe: Probe, planned: Planned) -> set[tuple[type[Any], str | None]]:
    """Return what a probe needs, and what these observations need in turn."""
    found: set[tuple[type[Any], str | None]] = set()
    left = list(probe.needs(planned))
    while left:
        if (wanted := left.pop()) not in found:
            found.add(wanted)
            type_, key = wanted
            left += probe_for(type_).needs(replace(planned, key=key))
    return found


@contextmanager
def counted_connections() -> Iterator[Counter[tuple[str, int]]]:
    """Count the TCP connections that this process opens meanwhile, by address and port."""
    made: Counter[tuple[str, int]] = Counter()
    connect = socket.socket.connect

    def counting(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            made[address[0], address[1]] += 1
        connect(self, address)

    with patch.object(socket.socket, "connect", counting):
        yield made


def beyond_the_plan(made: Counter[tuple[str, int]], target: Target, checks: Sequence[Check]) -> list[str]:
    """Return what was contacted and is not in the plan, or more often than planned, one sentence each.

    Retries are not planned, so they count as connections beyond the plan here.

    Args:
        made: the connections of a run, by address and port.
        target: with listeners whose hosts are addresses.
        checks: of the run.
    """
    plan = planned(target, checks)
    by_label = {listener.label: listener.address for listener in target.listeners}
    allowed: Counter[tuple[str, int]] = Counter()
    for label, number in plan.items():
        if label in by_label:
            allowed[by_label[label]] += number
    others = {address: number for address, number in made.items() if address not in by_label.values()}
    advertised = plan.get(ADVERTISED, 0)
    found = [
        f"{host}:{port}: {number} connections, {allowed[host, port]} planned"
        for (host, port), number in made.items()
        if (host, port) in by_label.values() and number > allowed[host, port]
    ]
    if not advertised and sum(others.values()) > plan.get(CLUSTER, 0):
        found.append(f"{others}: addresses that the plan does not list")
    return found + [
        f"{host}:{port}: {number} connections, {advertised} planned for an advertised URL"
        for (host, port), number in others.items()
        if advertised and number > max(advertised, plan.get(CLUSTER, 0))
    ]
