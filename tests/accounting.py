"""Counting connections: those of this process, and those of each fact beside the number that it says."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from pytest_etcdtls.facts.fact import Context, Planned
from pytest_etcdtls.role import CLUSTER
from pytest_etcdtls.run.observer import Observer, find_fact
from pytest_etcdtls.run.plan import ADVERTISED, DISCOVERED, FURTHER_HOST
from pytest_etcdtls.target import Listener, Target


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


class AccountingObserver(Observer):
    """Makes observations, and notes which facts connect more often than they say.

    Attributes:
        beyond: one sentence for each such fact, naming the file to edit.
        first_tries: connections by listener label, without retries.
    """

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.beyond: dict[str, None] = {}
        self.first_tries: Counter[str] = Counter()

    def context(self, type_: type[Any], key: str | None, listener: Listener | None) -> Context:
        """Return a context that counts the connections of the fact."""
        context = super().context(type_, key, listener)
        fact, planned = find_fact(type_), Planned(self.target, listener, key)
        label = listener.label if listener else CLUSTER
        here, elsewhere = fact.connections(planned), fact.elsewhere(self.target) if fact.elsewhere else 0
        name = f"{fact.module}: {fact.type.__name__}{f' {key!r}' if key else ''}"
        made: Counter[str] = Counter()

        def counting(method: str, parameter: str, at: str, most: int) -> None:
            connect = getattr(context, method)

            def counted(*given: Any) -> Any:
                number = 1 if method == "keep_silent" else len(given)
                made[parameter] += number
                self.first_tries[at] += number
                if made[parameter] > most:
                    self.beyond[f"{name} makes {made[parameter]} connections, {parameter}= says {most}"] = (
                        None
                    )
                return connect(*given)

            setattr(context, method, counted)

        for method in ("attempt", "send_hellos", "keep_silent", "attempt_at"):
            counting(method, "connections", label, here)
        counting("attempt_elsewhere", "elsewhere", CLUSTER, elsewhere)
        return context


def beyond_the_plan(
    made: Counter[tuple[str, int]], plan: Mapping[str, int], listeners: Iterable[Listener]
) -> list[str]:
    """Return what was contacted and is not in the plan, or more often than planned, one sentence each.

    Retries are not planned, so they count as connections beyond the plan here.

    Args:
        made: the connections of a run, by address and port.
        plan: from :func:`planned`, before the run.
        listeners: that the run judged, each on a port of its own. A listener whose host has several addresses
            may be contacted at each.
    """
    allowed: Counter[int] = Counter()
    for listener in listeners:
        label = listener.label if listener.label in plan else DISCOVERED[listener.role]
        allowed[listener.address[1]] += plan[label]
    by_port: Counter[int] = Counter()
    for (_, port), number in made.items():
        by_port[port] += number
    beyond = [
        f"port {port}: {number} connections, {allowed[port]} planned"
        for port, number in by_port.items()
        if port in allowed and number > allowed[port]
    ]
    others = {port: number for port, number in by_port.items() if port not in allowed}
    hosts = len({listener.host for listener in listeners if listener.discovered})
    elsewhere = plan.get(CLUSTER, 0) + hosts * plan.get(FURTHER_HOST, 0)
    advertised = plan.get(ADVERTISED, 0)
    if not advertised and sum(others.values()) > elsewhere:
        beyond.append(f"{others}: ports that the plan does not list")
    return beyond + [
        f"port {port}: {number} connections, {advertised} planned for an advertised URL"
        for port, number in others.items()
        if advertised and number > max(advertised, elsewhere)
    ]
