"""A cluster without a quorum, and a member that hangs: what answers is judged, whatever hangs beside it."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from impostors.proxies import haproxy
from judged import listener_of
from live.target_kinds import only
from orders import assert_order_does_not_matter
from servers import Server
from starting import start_process

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.etcd.cluster import Cluster, keep_message
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Bounds, Target
from pytest_etcdtls.tls.attempt import Request, StreamEnd
from pytest_etcdtls.tls.connection import make_attempt

TIMEOUT = 1.0
PATTERNS = ("!lifecycle", "!tls.stalled-handshake")
_MOST_POLLS = 120
_MOST_HANGING = 30


@contextmanager
def _ended(cluster: Cluster, how: signal.Signals, *numbers: int) -> Iterator[None]:
    """Send a signal to these members of the cluster; those that are stopped continue at the end."""
    found = re.search(r"kill ([\d ]+)", keep_message(cluster))
    assert found is not None
    processes = [int(process) for process in found[1].split()]
    for number in numbers:
        os.kill(processes[number], how)
    try:
        yield
    finally:
        for number in numbers if how is signal.SIGSTOP else ():
            os.kill(processes[number], signal.SIGCONT)


def _wait_until(target: Target, holds: Callable[[int | None], bool]) -> None:
    """Request /health of the first client listener until its status is as wanted."""
    request = Request(purpose="wait", path="/health", identity=target.client.identities[0])
    for _ in range(_MOST_POLLS):
        response = make_attempt(listener_of(target, Role.CLIENT), request, TIMEOUT).response
        if holds(response.status if response else None):
            return
    raise AssertionError("the members do not notice that others are gone")


def _say_nothing(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_member_without_a_leader_is_judged(how: signal.Signals, etcd_binary: Path) -> None:
    """Linearizable reads hang, of which /readyz (3.5.11 and newer) and a range are some."""
    with start_process(ClusterConfig(size=3), etcd_binary) as cluster, _ended(cluster, how, 1, 2):
        target = only(cluster.target(), lambda one: one.member == "m0")
        _wait_until(target, lambda status: status == 503)
        found = assert_order_does_not_matter(target, select(PATTERNS), TIMEOUT)
        observer = Observer(target, Bounds(timeout=TIMEOUT))
        run_checks(observer, ["mtls", "tls", "!tls.stalled-handshake", "api", "listener"])
    violated = {check for (check, _), outcome in found.items() if outcome is Outcome.VIOLATES}
    assert violated == {"api.healthy"}
    for listener in target.listeners:
        for check in ("listener.answers", "listener.is-etcd", "mtls.no-certificate", "mtls.foreign-ca"):
            assert found[check, listener.label] is Outcome.CONFORMS
        assert listener.label not in observer.given_up
    hanging = {check for (check, _), outcome in found.items() if outcome is Outcome.INCONCLUSIVE}
    assert hanging <= {"api.health-endpoints", "api.grpc-range", "cluster.advertised-reachable"}


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL], ids=["stopped", "killed"])
def test_members_that_answer_are_judged_if_another_does_not(how: signal.Signals, newest_etcd: Path) -> None:
    with start_process(ClusterConfig(size=3), newest_etcd) as cluster, _ended(cluster, how, 2):
        target = cluster.target()
        _wait_until(target, lambda status: status == 200)
        found = assert_order_does_not_matter(target, select(PATTERNS), TIMEOUT)
    dead = {one.label for one in target.listeners if one.member == target.listeners[-1].member}
    for (check, label), outcome in found.items():
        if label in dead:
            wanted = Outcome.INCONCLUSIVE if check == "listener.answers" else Outcome.NOT_VERIFIED
            assert outcome is wanted, (check, label)
        elif label not in ("cluster",):
            assert outcome in (Outcome.CONFORMS, Outcome.WARNS, Outcome.NOT_APPLICABLE), (check, label)


@pytest.mark.program("haproxy")
def test_a_listener_that_never_answers_an_accepted_client_costs_a_bounded_time(
    newest_etcd: Path, tmp_path: Path
) -> None:
    """TLS is ended in front of an etcd that accepts connections and says nothing."""
    rules = "ca-file {pki}/client-ca.crt verify required"
    with (
        Server(_say_nothing, seconds=None) as silent,
        start_process(ClusterConfig(), newest_etcd) as cluster,
        haproxy(cluster, tmp_path, rules=rules, etcd=silent.port) as target,
    ):
        observer = Observer(target, Bounds(timeout=TIMEOUT))
        results = {result.check: result for result in run_checks(observer, PATTERNS)}
    ends = [getattr(connection, "stream_end", None) for connection in observer.connections]
    assert ends.count(StreamEnd.TIMEOUT) <= _MOST_HANGING
    assert observer.given_up == {}
    assert results["listener.answers"].outcome is Outcome.CONFORMS
    assert results["mtls.trusted-client"].outcome is Outcome.INCONCLUSIVE
    assert {result.check for result in results.values() if result.outcome is Outcome.VIOLATES} == set()
