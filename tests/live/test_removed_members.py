"""A member that was removed from its cluster, or started anew, and runs on; every etcd is real."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from discovery.discovering import live, named
from starting import running_etcd, start_process

from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.etcd import admin
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.report.model import faults
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer

_SECONDS = 60.0


@contextmanager
def _without_the_last(binary: Path) -> Iterator[tuple[Cluster, list[str]]]:
    """Start three members, stop the last one and remove it; yield the arguments that it had."""
    with start_process(ClusterConfig(size=3), binary) as cluster:
        cluster.stop_member(2)
        _remove_the_last(cluster)
        yield cluster, list(cluster.members[2].argv)


def _remove_the_last(cluster: Cluster) -> None:
    first, last = cluster.members[0], cluster.members[2]
    admin.change_members(first.gateway(), [last.peer_url], _SECONDS, admin.remove_member)


def _judged(cluster: Cluster) -> dict[str, CheckResult]:
    listeners = [named(member.client_url) for member in cluster.members]
    target = replace(live(cluster, *listeners), discover=False)
    return {result.check: result for result in run_checks(Observer(target), ["cluster"])}


def _assert_one_fault(results: dict[str, CheckResult], message: str) -> None:
    [fault] = faults(results.values(), Outcome.VIOLATES)
    assert fault.first.check == "cluster.one-cluster"
    assert message in fault.first.message
    connected = results["cluster.members-connected"]
    assert connected.outcome is Outcome.NOT_APPLICABLE or connected.cause is not None, connected


@pytest.mark.kills("cluster.one-cluster")
def test_a_removed_member_that_runs_alone(etcd_binary: Path, tmp_path: Path) -> None:
    """It has the ID of the cluster, and lists itself."""
    with _without_the_last(etcd_binary) as (cluster, arguments):
        for index in (0, 1):  # which would tell it that it was removed
            cluster.pause_member(index)
        with running_etcd([*arguments, "--force-new-cluster"], tmp_path / "etcd.log") as etcd:
            assert etcd.serves(_SECONDS), etcd.text[-2000:]
            for index in (0, 1):
                cluster.resume_member(index)
            _remove_the_last(cluster)  # which waits until they answer
            results = _judged(cluster)
    last = cluster.members[2]
    _assert_one_fault(results, f"{last.client_url} is not a member of its cluster: it lists itself, and no ")
    assert "etcdctl member add" in results["cluster.one-cluster"].remediation
    assert results["cluster.members-agree"].cause is not None


def test_a_member_that_was_started_anew(etcd_binary: Path, tmp_path: Path) -> None:
    """It is a cluster of its own, with another ID."""
    with _without_the_last(etcd_binary) as (cluster, arguments):
        last = cluster.members[2]
        only = f"--initial-cluster=m2={last.peer_url}"
        alone = [re.sub("^--initial-cluster=.*", only, one) for one in arguments]
        [data] = [one.partition("=")[2] for one in arguments if one.startswith("--data-dir=")]
        shutil.rmtree(data)
        with running_etcd(alone, tmp_path / "etcd.log") as etcd:
            assert etcd.serves(_SECONDS), etcd.text[-2000:]
            results = _judged(cluster)
    _assert_one_fault(
        results, f"the listeners belong to different clusters: {last.client_url} to another one"
    )


def test_a_cluster_from_which_a_member_was_removed(etcd_binary: Path) -> None:
    with _without_the_last(etcd_binary) as (cluster, _):
        listeners = [named(member.client_url) for member in cluster.members[:2]]
        target = replace(live(cluster, *listeners), discover=False)
        results = run_checks(Observer(target), ["cluster"])
    assert not faults(results, Outcome.VIOLATES)
    [one] = [result for result in results if result.check == "cluster.one-cluster"]
    assert (one.outcome, one.reason.endswith("2 of 2 members seen")) == (Outcome.CONFORMS, True)
