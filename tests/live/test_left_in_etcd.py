"""Counts what a run leaves in etcd, see docs/limits.md."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from hostile.child_run import ChildRun
from starting import start_process

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.sources import binary_version
from pytest_etcdtls.facts.api import ClientExchange
from pytest_etcdtls.pki.profile import CLIENT, PKIPlan
from pytest_etcdtls.results import Outcome
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.tls.attempt import Attempt

WITH_USERS = ClusterConfig(
    authentication=True, pki=PKIPlan(client=replace(CLIENT, common_name=None, organization="clients"))
)
"""A client certificate without a common name, so that the user that is given is needed."""


@dataclass(frozen=True)
class State:
    """The state of the store and of the raft log, as etcd reports it."""

    revision: int
    raft_index: int


def _state(cluster: Cluster) -> State:
    # Maintenance/Status itself reads without a raft entry.
    status, answer = cluster.members[0].gateway().post("/v3/maintenance/status", {})
    assert status == 200, answer
    return State(int(answer["header"]["revision"]), int(answer["raftIndex"]))


def _wait_for_the_version(cluster: Cluster) -> None:
    """Wait for the last raft entry of a start: the leader's decision about the version of the cluster."""
    deadline = time.monotonic() + 30
    target = cluster.target()
    [listener] = [one for one in target.listeners if one.role is Role.CLIENT]
    while True:
        response = Observer(target).get(ClientExchange, "/version", listener).attempt.response
        if response is not None and json.loads(response.body)["etcdcluster"] != "not_decided":
            return
        assert time.monotonic() < deadline, response


@contextmanager
def _started(config: ClusterConfig, binary: Path) -> Iterator[Cluster]:
    cluster = start_process(config, binary)
    try:
        _wait_for_the_version(cluster)
        yield cluster
    finally:
        cluster.stop()


@dataclass(frozen=True)
class Asked:
    """How often a run requested a token, and ``/health`` with an answer."""

    token: int
    health: int

    def entries(self, binary: Path) -> int:
        """Return how many raft entries that makes: 3.4 answers ``/health`` by a proposal of its store v2."""
        return self.token + (self.health if binary_version(binary).startswith("3.4.") else 0)


def _judge(cluster: Cluster) -> Asked:
    """Judge it as a live cluster."""
    observer = Observer(replace(cluster.target(), origin="live"))
    results = run_checks(observer, select(["!lifecycle"]))
    assert any(result.outcome is Outcome.CONFORMS for result in results)
    attempts = [connection for connection in observer.connections if isinstance(connection, Attempt)]
    health = [
        attempt
        for attempt in attempts
        if attempt.purpose.startswith("GET /health") and attempt.response is not None
    ]
    return Asked(
        token=sum(attempt.purpose == "gRPC Authenticate" for attempt in attempts),
        health=sum(one.response is not None and one.response.status == 200 for one in health),
    )


def test_without_authentication(etcd_binary: Path) -> None:
    with _started(ClusterConfig(), etcd_binary) as cluster:
        before = _state(cluster)
        made = _judge(cluster)
        assert (made.token, made.health > 0) == (0, True)
        assert _state(cluster) == replace(before, raft_index=before.raft_index + made.entries(etcd_binary))


def test_with_authentication(etcd_binary: Path) -> None:
    with _started(WITH_USERS, etcd_binary) as cluster:
        before = _state(cluster)
        made = _judge(cluster)
        assert made.token > 0
        assert _state(cluster) == replace(before, raft_index=before.raft_index + made.entries(etcd_binary))


def test_a_password_that_etcd_refuses_fails_the_run(newest_etcd: Path, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("not the password\n", encoding="utf-8")
    with _started(WITH_USERS, newest_etcd) as cluster:
        before = _state(cluster)
        files, member = cluster.pki_directory, cluster.members[0]
        ended = ChildRun(
            tmp_path,
            [
                f"--etcd-endpoint={member.client_url}",
                *(f"--etcd-{name}={files / file}" for name, file in _FILES.items()),
                "--etcd-user=root",
                "--etcd-password-file=password",
                "--etcd-check=api.grpc-range,mtls.trusted-client",
            ],
        ).end()
        assert (ended.exit_code, _state(cluster)) == (1, before), ended.output
    assert "etcd refuses the user root with this password" in ended.output
    assert "check --etcd-user and" in ended.output
    assert "not the password" not in ended.output


_FILES = {"cacert": "server-ca.crt", "cert": "client.crt", "key": "client.key"}
