"""A connection on which nothing is sent: seen on servers of our own at once, on etcds in their own time."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from servers import Handler, Server
from starting import start_process
from tls.hello_server import Policy

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.facts import protocol as versions
from pytest_etcdtls.run.judge import Judge, run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Bounds, Target

Serve = Callable[[Handler], Server]
(STALLED,) = select(["tls.stalled-handshake"])


def _judge(server: Server) -> tuple[Outcome, Observer]:
    target = Target(label="t", origin="live", listeners=(server.listener(),))
    observer = Observer(target, Bounds(timeout=10))
    (result,) = run_checks(observer, [STALLED])
    return result.outcome, observer


@pytest.mark.kills("tls.stalled-handshake")
def test_a_server_that_waits(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "_SILENT_SECONDS", 0.2)
    server = serve(Policy().handler())
    outcome, observer = _judge(server)
    assert outcome is Outcome.WARNS
    # Silence is an answer here, and not asked for again.
    purposes = [made.purpose for made in observer.connections]
    assert purposes.count("connection on which nothing is sent") == 1
    assert len(purposes) == server.accepted


@pytest.mark.usefixtures("hellos_alone")
def test_a_server_that_hangs_up(serve: Serve) -> None:
    answer = Policy().handler()

    def handle(connection: socket.socket) -> None:
        connection.settimeout(1)
        try:
            connection.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return
        answer(connection)

    assert _judge(serve(handle))[0] is Outcome.CONFORMS


@pytest.mark.whole
@pytest.mark.etcd_version("3.5.1", "3.7.3")
def test_etcd(etcd_binary: Path) -> None:
    """It takes as long as the check does: etcd's ten seconds, or the check's twenty."""
    with start_process(ClusterConfig(), etcd_binary) as cluster:
        target = cluster.target()
        with ThreadPoolExecutor() as pool:
            results = pool.map(
                lambda listener: Judge(Observer(target)).result(STALLED, listener), target.listeners
            )
            outcomes = {result.role: result.outcome for result in results}
    fixed = cluster.version == "3.7.3"
    assert outcomes == {"client": Outcome.CONFORMS if fixed else Outcome.WARNS, "peer": Outcome.CONFORMS}
