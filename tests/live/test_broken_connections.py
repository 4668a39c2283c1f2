"""A way to etcd that resets some connections, and one that resets none."""

from __future__ import annotations

import itertools
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from live.passing_proxy import passing
from live.target_kinds import live
from servers import Server, reset
from starting import start_process

from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer


def judge(cluster: Cluster, every: int) -> CheckResult:
    """Judge the cluster by way of a proxy that resets each of so many connections to the client port."""
    target = live(cluster)
    client, *others = target.listeners
    numbers = itertools.count(1)
    pass_on = passing(lambda _: client.port)

    def handle(connection: socket.socket) -> None:
        if next(numbers) % every:
            pass_on(connection)
        else:
            connection.recv(1)
            reset(connection)

    with Server(handle) as proxy:
        through = replace(client, connect_to=("127.0.0.1", proxy.port))
        observer = Observer(replace(target, listeners=(through, *others)))
        results = run_checks(observer, ["listener", "mtls", "cert", "api", "tls"])
    assert not [one for one in results if one.outcome in (Outcome.VIOLATES, Outcome.BROKEN)]
    return next(one for one in results if one.check == "listener.keeps-connections")


@pytest.mark.kills("listener.keeps-connections")
def test_only_connections_that_are_reset_are_found(etcd_binary: Path) -> None:
    with start_process(ClusterConfig(), etcd_binary) as cluster:
        result, quiet = (judge(cluster, every) for every in (5, 10**6))
    [finding] = result.findings
    assert (result.outcome, quiet.outcome) == (Outcome.WARNS, Outcome.CONFORMS)
    assert finding.message.endswith("and the same requests were answered when repeated")
    assert cluster.members[0].client_url in finding.message
    assert "reset" in finding.observed
