"""Counts what a run leaves in etcd, see docs/limits.md."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from live.target_kinds import without_ca_keys
from starting import start_process

from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.profile import CLIENT, PKIPlan
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.tls.attempt import Attempt, Ending

WITH_USERS = ClusterConfig(
    authentication=True, pki=PKIPlan(client=replace(CLIENT, common_name=None, organization="clients"))
)
"""A client certificate without a common name, so that the user that is given is needed."""


def _state(cluster: Cluster) -> tuple[int, int]:
    """Return the revision of the store and the index of the raft log, which reads this without an entry."""
    status, answer = cluster.members[0].gateway().post("/v3/maintenance/status", {})
    assert status == 200, answer
    return int(answer["header"]["revision"]), int(answer["raftIndex"])


@pytest.mark.parametrize("config", [ClusterConfig(), WITH_USERS], ids=["without users", "with users"])
def test_a_run_adds_no_revision_and_logs_rejections_alone(config: ClusterConfig, etcd_binary: Path) -> None:
    """A token is a raft entry, and with 3.4 each /health: it answers by a proposal of its store v2."""
    with start_process(config, etcd_binary) as cluster:
        (revision, index), logged = _state(cluster), len(cluster.log())
        observer = Observer(replace(without_ca_keys(cluster.target()), expected=()))
        results = run_checks(observer, ["!lifecycle"])
        after, lines = _state(cluster), cluster.log()[logged:].splitlines()
    assert any(result.outcome is Outcome.CONFORMS for result in results)
    attempts = [made for made in observer.connections if isinstance(made, Attempt)]
    tokens = sum(made.purpose == "gRPC Authenticate" for made in attempts)
    health = sum(made.purpose.startswith("GET /health") and made.ending is Ending.SERVED for made in attempts)
    assert (tokens > 0, health > 0) == (config is WITH_USERS, True)
    entries = tokens + (health if cluster.version.startswith("3.4.") else 0)
    assert after == (revision, index + entries)
    if cluster.version.startswith(("3.6", "3.7")) and config is not WITH_USERS:
        others = [line for line in lines if "rejected connection on" not in line and not _NOT_COUNTED(line)]
        assert others == []
        assert all(10 < sum(f"on {side} endpoint" in line for line in lines) <= 40 for side in _SIDES)


_SIDES = ("client", "peer")
_NOT_COUNTED = re.compile(
    "Failed to detect schema version|cluster version differs|updated storage version|took too long|slow"
).search
"""etcd 3.6 and later, about a new cluster; and on a busy machine."""
