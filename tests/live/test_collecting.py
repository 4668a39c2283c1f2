"""Threads collect the observations of a run: near or far, the verdicts and the connections are the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest
from hostile.delaying_proxy import DelayingProxy
from starting import start_process

from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd_log.matching import ended_at
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import checks_of, run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.run.runner import Run
from pytest_etcdtls.settings.read import Settings
from pytest_etcdtls.target import Bounds, Target

Results = dict[tuple[str, str], CheckResult]


class SlowNetwork(DelayingProxy):
    """A slow network to one listener; once it is silent, nothing is passed on."""

    def __init__(self, port: int) -> None:
        self.silent = False
        super().__init__(port, 0.03, swallows=lambda _: self.silent)


@pytest.fixture(scope="module")
def etcd(newest_etcd: Path) -> Iterator[Target]:
    """A conforming etcd."""
    with start_process(ClusterConfig(), newest_etcd) as started:
        yield replace(started.target(), origin="live", logs={})


@pytest.fixture
def proxies(etcd: Target) -> Iterator[list[SlowNetwork]]:
    """A slow network to each of its listeners."""
    with ExitStack() as stack:
        yield [stack.enter_context(closing(SlowNetwork(listener.port))) for listener in etcd.listeners]


def _slow(target: Target, proxies: Sequence[SlowNetwork]) -> Target:
    listeners = zip(target.listeners, proxies, strict=True)
    through = (replace(one, connect_to=("127.0.0.1", proxy.port)) for one, proxy in listeners)
    return replace(target, listeners=tuple(through))


def _selected(target: Target, bounds: Bounds) -> Run:
    """Return a run in which every check is selected."""
    run = Run(Settings(live=(target,), bounds=bounds))
    [judged] = run.targets
    checks = {check.id: check for check in run.checks}
    judged.selected |= {(id_, label): checks[id_] for label, id_ in _places(run)}
    return run


def _places(run: Run) -> list[tuple[str, str]]:
    [target] = run.targets
    return [(label, check.id) for label, checks in checks_of(target.outline, run.checks) for check in checks]


def _results(run: Run) -> Results:
    [target] = run.targets
    checks = {check.id: check for check in run.checks}
    return {(id_, label): target.result(checks[id_], label) for label, id_ in _places(run)}


def _requests(observer: Observer) -> Counter[tuple[str, str]]:
    return Counter((connection.url, connection.purpose) for connection in observer.connections)


def _most_at_once(observer: Observer, url: str) -> int:
    """Return the largest number of connections to a listener that were open at once."""
    here = [connection for connection in observer.connections if connection.url == url]
    return max(sum(other.started_at <= one.started_at < ended_at(other) for other in here) for one in here)


def test_the_same_verdicts_by_the_same_connections(etcd: Target, proxies: list[SlowNetwork]) -> None:
    observer = Observer(etcd)
    direct = {(result.check, result.listener): result for result in run_checks(observer)}
    run = _selected(_slow(etcd, proxies), Bounds())
    ahead = _results(run)
    [target] = run.targets
    assert {place: (one.outcome, one.reason) for place, one in ahead.items()} == {
        place: (one.outcome, one.reason) for place, one in direct.items()
    }
    assert _requests(target.observer) == _requests(observer)
    for listener in target.outline.listeners:
        assert _most_at_once(target.observer, listener.url) <= Bounds().concurrency


def test_only_a_silent_listener_is_abandoned(etcd: Target, proxies: list[SlowNetwork]) -> None:
    run = _selected(_slow(etcd, proxies), Bounds(timeout=1.0))
    [target] = run.targets
    checks = {check.id: check for check in run.checks}
    [client] = [listener.label for listener in target.outline.listeners if listener.role is Role.CLIENT]
    assert target.result(checks["listener.is-etcd"], client).outcome is Outcome.CONFORMS
    proxies[0].silent = True
    results = _results(run)
    assert set(target.observer.given_up) == {client}
    said = [place for place, one in results.items() if "was given up" in one.reason and _unclear(one)]
    assert said
    assert {label for _, label in said} == {client}
    peer = {place: one for place, one in results.items() if place[1] == "peer-m0"}
    # That check compares both ports.
    assert {check for (check, _), one in peer.items() if _unclear(one)} <= {"api.peer-members"}


def _unclear(result: CheckResult) -> bool:
    return result.outcome is Outcome.INCONCLUSIVE
