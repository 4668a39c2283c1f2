"""Members are added and removed, as processes and in containers."""

from __future__ import annotations

from pathlib import Path

import pytest
from starting import start_container, start_process

from pytest_etcdtls import (
    Cluster,
    ClusterConfig,
    ClusterStartError,
    Observer,
    Outcome,
    UsageError,
    run_checks,
)

KEY = {"key": "Zm9v"}


def _members(cluster: Cluster) -> set[str]:
    """Return the names that the last member lists."""
    status, answer = cluster.gateway(cluster.members[-1]).post("/v3/cluster/member/list", {})
    assert status == 200, answer
    return {member["name"] for member in answer["members"]}


def _value(cluster: Cluster) -> str:
    """Return what the last member has stored under the key."""
    for _ in range(100):
        _, answer = cluster.members[-1].gateway().post("/v3/kv/range", KEY)
        if answer.get("code") != 14:  # the leader has just changed
            break
        cluster.members[-1].server.wait(0.05)
    assert "kvs" in answer, answer
    return str(answer["kvs"][0]["value"])


def _grow(cluster: Cluster, size: int) -> None:
    assert cluster.members[0].gateway().post("/v3/kv/put", {**KEY, "value": "YmFy"})[0] == 200
    for number in range(1, size):
        added = cluster.add_member()
        assert added is cluster.members[-1]
        assert added.name == f"m{number}"
        assert _members(cluster) == {f"m{member}" for member in range(number + 1)}
        assert _value(cluster) == "YmFy"


@pytest.mark.etcd_version("3.5.1", "3.7")
@pytest.mark.whole
def test_processes_join_and_leave(etcd_binary: Path) -> None:
    with start_process(ClusterConfig(), etcd_binary) as cluster:
        _grow(cluster, 3)
        target = cluster.target()
        assert {listener.member for listener in target.listeners} == {"m0", "m1", "m2"}
        assert cluster.difference() == "members m0, m1, m2 instead of m0"
        results = run_checks(
            Observer(target), ["mtls.trusted-client", "mtls.no-certificate", "cert.*", "cluster.*"]
        )
        bad = {Outcome.VIOLATES, Outcome.INCONCLUSIVE, Outcome.BROKEN}
        assert {result.check for result in results if result.outcome in bad} == set()

        gone = cluster.members[0]
        cluster.remove_member(0)
        assert not gone.running
        assert (
            _members(cluster) == {"m1", "m2"} == {listener.member for listener in cluster.target().listeners}
        )
        assert _value(cluster) == "YmFy"


@pytest.mark.container
@pytest.mark.whole
@pytest.mark.etcd_version("3.6")
def test_containers_join_and_leave(etcd_image: str) -> None:
    with start_container(ClusterConfig(), etcd_image) as cluster:
        _grow(cluster, 2)
        assert cluster.difference() == "members m0, m1 instead of m0"
        assert cluster.members[0].log().count("ready to serve client requests") == 2, "it was restarted once"
        cluster.remove_member(0)
        assert _members(cluster) == {"m1"}
        with pytest.raises(UsageError, match="m1 is the only member"):
            cluster.remove_member(0)
        cluster.restart()
        assert _value(cluster) == "YmFy"


def test_a_member_joins_with_authentication_enabled(newest_etcd: Path) -> None:
    with start_process(ClusterConfig(authentication=True, config_file=True), newest_etcd) as cluster:
        assert cluster.difference() == ""
        cluster.add_member()
        assert _members(cluster) == {"m0", "m1"}


def test_members_are_not_changed_while_no_member_runs(newest_etcd: Path) -> None:
    with start_process(ClusterConfig(), newest_etcd) as cluster:
        cluster.add_member()
        cluster.stop_member(0)
        with pytest.raises(ClusterStartError, match="for m1: no other member runs"):
            cluster.remove_member(1)
        cluster.start_member(0, wait=False)


def test_a_member_that_does_not_start_leaves_the_cluster_as_it_was(newest_etcd: Path, tmp_path: Path) -> None:
    wrapper = tmp_path / "etcd"
    wrapper.write_text(
        f'#!/bin/sh\ncase "$*" in *state=existing*) echo no; exit 3;; esac\nexec {newest_etcd} "$@"\n',
        encoding="utf-8",
    )
    wrapper.chmod(0o700)
    with start_process(ClusterConfig(), wrapper) as cluster:
        with pytest.raises(ClusterStartError, match=r"member m1 at .* ended with status 3"):
            cluster.add_member()
        assert _members(cluster) == {"m0"}
        assert [path.name for path in cluster.directory.iterdir() if path.name == "m1"] == []
        assert cluster.difference() == "m0 was started with another command line"
