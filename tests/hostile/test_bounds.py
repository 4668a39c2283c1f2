"""Servers that stop answering cost a bounded time."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from discovery.discovering import live, named, observer_of
from hostile.delaying_proxy import DelayingProxy
from hostile.handshake_refusers import refusers
from judged import listener_of
from plugin.runs import Runner, run
from servers import Server
from starting import start_process, stop

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.etcd.cluster import keep_message
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.facts import discovery
from pytest_etcdtls.role import CLUSTER, Role
from pytest_etcdtls.run.judge import Judge, run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.run.timeouts import TimeoutBudget
from pytest_etcdtls.target import Bounds, Listener, Target

__all__ = ["run"]

TIMEOUT = 1.0
GIVEN_UP = "was given up"


@pytest.fixture(autouse=True)
def _no_usual_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "USUAL_PORTS", {})


def _lost(observer: Observer, *urls: str) -> float:
    """Return the seconds during which a connection to these URLs waited until its time was over."""
    waits = sorted(
        (
            connection.started_at.timestamp(),
            connection.started_at.timestamp() + connection.milliseconds / 1000,
        )
        for connection in observer.connections
        if connection.url in urls and connection.milliseconds >= 1000 * observer.bounds.timeout
    )
    lost, until = 0.0, 0.0
    for start, end in waits:
        lost += max(0.0, end - max(start, until))
        until = max(until, end)
    return lost


def _at(results: list[CheckResult], listener: Listener) -> list[CheckResult]:
    return [result for result in results if result.listener == listener.label]


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("kind", ["never answers", "trickles"])
def test_silent_endpoints_are_given_up(kind: str, concurrency: int) -> None:
    servers = [Server(refusers(())[kind]) for _ in range(2)]
    listeners = tuple(
        server.listener(role=role) for server, role in zip(servers, (Role.CLIENT, Role.PEER), strict=True)
    )
    bounds = Bounds(timeout=TIMEOUT, concurrency=concurrency)
    observer = Observer(Target(label="t", origin="live", listeners=listeners), bounds)
    results = run_checks(observer)
    for server, listener in zip(servers, listeners, strict=True):
        outcomes = {one.check: one.outcome for one in _at(results, listener)}
        assert outcomes.pop("listener.answers") is Outcome.INCONCLUSIVE
        assert set(outcomes.values()) == {Outcome.NOT_VERIFIED}
        assert server.accepted == observer.used[listener.label] <= TimeoutBudget.IN_A_ROW + 1
        assert _lost(observer, listener.url) < TimeoutBudget.TIMEOUTS * TIMEOUT
    assert observer.given_up.keys() == {listener.label for listener in listeners}


@pytest.mark.parametrize("scheme", ["https", "http"])
@pytest.mark.parametrize("concurrency", [1, 4])
def test_an_unreachable_address_costs_one_timeout(full: str, scheme: str, concurrency: int) -> None:
    listener = named(full.replace("https", scheme))
    bounds = Bounds(timeout=TIMEOUT, concurrency=concurrency)
    observer = Observer(Target(label="t", origin="live", listeners=(listener,)), bounds)
    results = run_checks(observer)
    outcomes = {one.check: one.outcome for one in _at(results, listener)}
    assert outcomes.pop("listener.answers") is Outcome.INCONCLUSIVE
    assert set(outcomes.values()) <= {Outcome.NOT_VERIFIED, Outcome.NOT_APPLICABLE}
    assert _lost(observer, listener.url) < 1.5 * TIMEOUT
    assert len(observer.connections) <= (2 if concurrency > 1 and scheme == "https" else 1)
    [reason] = [result.reason for result in results if result.check == "listener.answers"]
    assert f"{listener.url} {GIVEN_UP} after 1 s without a TCP connection" in reason


USES_THE_ENDPOINT = """
import pytest
from pytest_etcdtls.facts.listener import FirstContact

@pytest.mark.parametrize("number", range(4))
def test_contact(etcd_observer, number):
    with pytest.raises(Exception, match="given up|silent"):
        etcd_observer.get(FirstContact, None, etcd_observer.target.listeners[0])
        raise RuntimeError("silent")
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_the_limits_are_of_a_process(run: Runner, workers: int) -> None:
    """The suite runs in one process; every worker in which tests observe has limits of its own."""
    server = Server(refusers(())["never answers"])
    run.write(test_user=USES_THE_ENDPOINT)
    endpoint = f"--etcd-endpoint=https://127.0.0.1:{server.port}"
    ran = run(endpoint, "--etcd-timeout=0.5", f"-n{workers}", "-p", "no:randomly")
    server.close()
    assert ran.result_of("listener.answers")["outcome"] == "inconclusive"
    assert ran.connections <= TimeoutBudget.IN_A_ROW + 1
    assert ran.result.parseoutcomes()["passed"] == 4
    assert ran.connections <= server.accepted <= (TimeoutBudget.IN_A_ROW + 1) * (1 + workers)


@pytest.mark.parametrize("after", ["listener.is-etcd", "mtls.trusted-client", "tls.tls13-offered"])
def test_an_etcd_that_is_stopped_in_mid_run_is_given_up(newest_etcd: Path, after: str) -> None:
    with start_process(ClusterConfig(), newest_etcd) as cluster:
        found = re.search(r"kill (\d+)", keep_message(cluster))
        assert found is not None
        process = int(found[1])
        observer = Observer(cluster.target(), Bounds(timeout=TIMEOUT))
        judge = Judge(observer)
        checks = select()
        position = next(number for number, one in enumerate(checks) if one.id == after)
        listeners = observer.target.listeners
        for listener in listeners:
            judge.result(checks[position], listener)
        used = dict(observer.used)
        stop(process)
        try:
            results = [
                judge.result(check, listener)
                for check in checks[position + 1 :]
                for listener in listeners
                if listener.role in check.roles
            ]
        finally:
            os.kill(process, signal.SIGCONT)
    for listener in listeners:
        here = _at(results, listener)
        # A hello to which a server may be silent, and what is repeated, does not count as one in a row.
        assert observer.used[listener.label] - used[listener.label] <= 4 * TimeoutBudget.IN_A_ROW
        assert _lost(observer, listener.url) <= (TimeoutBudget.TIMEOUTS + 2) * TIMEOUT
        assert any(one.outcome is Outcome.INCONCLUSIVE and GIVEN_UP in one.reason for one in here)
        assert any(one.outcome is Outcome.NOT_VERIFIED and GIVEN_UP in one.reason for one in here)


def test_silence_to_one_offer_does_not_end_the_others(newest_etcd: Path) -> None:
    """A firewall that drops hellos with unknown values is found by one check, and the others judge."""
    with start_process(ClusterConfig(), newest_etcd) as etcd:
        client = listener_of(etcd.target(), Role.CLIENT)
        proxy = DelayingProxy(
            client.port, swallows=lambda first: b"\x2a\x2a" in first and b"\x3a\x3a" in first
        )
        through = replace(client, connect_to=("127.0.0.1", proxy.port))
        observer = Observer(replace(etcd.target(), listeners=(through,)), Bounds(timeout=TIMEOUT))
        checks = select(["listener", "mtls", "tls", "!tls.stalled-handshake"])
        results = {result.check: result for result in _at(run_checks(observer, checks), through)}
    proxy.close()
    assert results["tls.unknown-extensions-tolerated"].outcome is Outcome.INCONCLUSIVE
    assert observer.given_up == {}
    others = {result.outcome for result in results.values()} - {Outcome.INCONCLUSIVE}
    assert others <= {Outcome.CONFORMS, Outcome.NOT_APPLICABLE, Outcome.WARNS, Outcome.NOT_VERIFIED}
    assert [result.check for result in results.values() if result.outcome is Outcome.INCONCLUSIVE] == [
        "tls.unknown-extensions-tolerated"
    ]


@pytest.mark.parametrize("kind", ["never answers", "trickles"])
def test_64_tarpits_of_a_member_list_cost_no_more_than_one(newest_etcd: Path, kind: str) -> None:
    tarpit = Server(refusers(())[kind], host="0.0.0.0")  # noqa: S104 - each loopback address
    urls = [f"https://127.0.1.{number}:{tarpit.port}" for number in range(1, 65)]
    flags = (f"--advertise-client-urls={','.join(urls)}",)
    with start_process(ClusterConfig(extra_flags=flags), newest_etcd) as cluster:
        member = cluster.members[0]
        observer = observer_of(live(cluster, named(member.client_url)), Bounds(timeout=TIMEOUT))
        results = run_checks(observer)
        peer = next(one for one in observer.target.listeners if one.url == member.peer_url)
    tarpit.close()
    assert set(urls) <= {one.url for one in observer.target.listeners}
    # The attempts that are under way when the time is used up come to their end, each late on a busy machine.
    assert _lost(observer, *urls) <= 2 * TimeoutBudget.TIMEOUTS * TIMEOUT
    for listener in observer.target.listeners:
        if listener.url in urls:
            outcomes = {one.outcome for one in _at(results, listener)}
            assert outcomes <= {Outcome.INCONCLUSIVE, Outcome.NOT_VERIFIED}
    # What answers is judged, wherever it stands in the list.
    trusted = {result.check: result.outcome for result in results if result.listener == peer.label}
    assert trusted["mtls.no-certificate"] is Outcome.CONFORMS
    assert [
        result for result in results if result.outcome is Outcome.BROKEN and result.listener != CLUSTER
    ] == []
