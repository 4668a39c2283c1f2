"""Processes of one cluster are one target, whose members are compared."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest
from kubeadm.judging import judged
from plugin.runs import Runner, run
from starting import start_process
from zoo.client_access import BROKEN, other_ca
from zoo.clusters import let_the_third_lead, restart_one_with, write_pair

from process.containers import as_root, process_of, targets
from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.pki.profile import PEER
from pytest_etcdtls.target import Target

__all__ = ["run"]

pytestmark = as_root

THREE: Final = replace(BROKEN, size=3)
FAULTS: Final = (Outcome.VIOLATES, Outcome.BROKEN, Outcome.INCONCLUSIVE)


def pids_of(cluster: Cluster) -> str:
    return ",".join(str(process_of(member.server).pid) for member in cluster.members)


def joined(cluster: Cluster) -> Target:
    """Return the one target of all processes of a cluster."""
    [target] = targets(etcd_pid=pids_of(cluster))
    assert sorted(target.running) == sorted(member.name for member in cluster.members)
    return target


def faults(target: Target, *patterns: str) -> dict[str, str]:
    """Return the message of each check about all members that finds a fault."""
    results = judged(target, *(patterns or ("listener", "cluster", "mtls.trusted-client")))
    return {one.check: one.message for one in results if one.outcome in FAULTS}


def test_three_members_are_one_conforming_target(etcd_binary: Path, run: Runner) -> None:
    with start_process(THREE, etcd_binary) as cluster:
        target = joined(cluster)
        assert target.label == "m0-and-2-more"
        assert {one.member for one in target.listeners} == {"m0", "m1", "m2"}
        assert len({one.process for one in target.listeners}) == 3
        assert sorted(target.logs) == ["m0", "m1", "m2"]
        ran = run("--pyargs", "pytest_etcdtls", f"--etcd-pid={pids_of(cluster)}")
    assert ran.exit_code == 0, ran.out
    assert "not compared" not in ran.out
    assert ran.verdict.startswith("etcd TLS: CLEAN (m0-and-2-more: 3 members of https://127.0.0.1:")


def test_the_restart_of_each_member_is_rehearsed(newest_etcd: Path, run: Runner) -> None:
    with start_process(THREE, newest_etcd) as cluster:
        words = ("--pyargs", "pytest_etcdtls", f"--etcd-pid={pids_of(cluster)}", "--etcd-rehearse")
        ran = run(*words)
        assert ran.verdict.startswith("etcd TLS: CLEAN, ALSO AFTER A RESTART (m0-and-2-more: "), ran.out
        bundle = cluster.pki_directory / "own.crt"
        shutil.copy(cluster.members[1].file("client-ca.crt"), bundle)
        restart_one_with(cluster, 1, extra_flags=("--trusted-ca-file={pki}/own.crt",))
        bundle.unlink()
        words = (*words[:2], f"--etcd-pid={pids_of(cluster)}", "--etcd-rehearse")
        ran = run(*words)
    assert ran.exit_code == 1
    said = " ".join(ran.out.split())
    assert "after a restart of m1 etcd does not start" in said
    assert "after a restart of m0" not in said


@dataclass(frozen=True)
class Break:
    """What makes members of a cluster of three unlike, and which check finds it, with what words."""

    act: Callable[[Cluster], object]
    check: str
    words: str


def _no_common_version(cluster: Cluster) -> None:
    restart_one_with(cluster, 1, tls_max_version="TLS1.2")
    let_the_third_lead(cluster)
    restart_one_with(cluster, 0, tls_min_version="TLS1.3")


def _name_that_is_excluded(cluster: Cluster) -> None:
    write_pair(cluster, "peer", cluster.pki.peer_ca, replace(PEER, common_name="m1"))
    restart_one_with(cluster, 1)
    let_the_third_lead(cluster)
    restart_one_with(cluster, 0, extra_flags=(f"--peer-cert-allowed-cn={PEER.common_name}",))


def _peer_bundle_of_another_cluster(cluster: Cluster) -> None:
    bundle = cluster.members[1].file("peer-ca.crt")
    (cluster.pki_directory / "both.crt").write_bytes(bundle.read_bytes() + other_ca())
    restart_one_with(cluster, 1, extra_flags=("--peer-trusted-ca-file={pki}/both.crt",))


def _url_of_another(cluster: Cluster) -> None:
    url = cluster.members[1].client_url
    restart_one_with(cluster, 0, extra_flags=(f"--advertise-client-urls={url}",))


BREAKS: Final = {
    "versions": Break(_no_common_version, "cluster.members-connected", "have no active connection"),
    "name": Break(_name_that_is_excluded, "cluster.members-connected", "m0 and m1 have no active connection"),
    "bundle": Break(
        _peer_bundle_of_another_cluster, "cluster.same-ca", "trusts other CAs than other members"
    ),
    "url": Break(_url_of_another, "cluster.advertised-reachable", "is the client port of m1"),
}


@pytest.mark.etcd_version("3.5.33")
@pytest.mark.parametrize("name", BREAKS)
def test_members_that_differ(name: str, newest_etcd: Path) -> None:
    with start_process(THREE, newest_etcd) as cluster:
        BREAKS[name].act(cluster)
        found = faults(joined(cluster))
    assert BREAKS[name].words in found[BREAKS[name].check], found


def test_members_that_each_began_a_cluster_of_their_own(etcd_binary: Path) -> None:
    """They have the same cluster ID, and none lists another."""
    with start_process(THREE, etcd_binary) as cluster:
        alone = {"extra_flags": ("--force-new-cluster",)}
        cluster.stop_member(1)
        cluster.stop_member(2)
        restart_one_with(cluster, 0, **alone)
        cluster.pause_member(0)  # it would tell the other that it was removed
        restart_one_with(cluster, 1, **alone)
        cluster.resume_member(0)
        pids = ",".join(str(process_of(one.server).pid) for one in cluster.members[:2])
        [target] = targets(etcd_pid=pids)
        found = faults(target, "cluster")
    assert "cluster.one-cluster" in found, found


def test_a_member_that_began_anew(newest_etcd: Path) -> None:
    """Its data was lost, and it began a cluster of its own, with another ID: each lists the other."""
    with start_process(THREE, newest_etcd) as cluster:
        cluster.stop_member(2)
        shutil.rmtree(cluster.directory / "m2" / "data")
        url = cluster.members[2].peer_url
        restart_one_with(
            cluster, 2, extra_flags=(f"--initial-cluster=m2={url}", "--initial-cluster-token=anew")
        )
        assert len(targets(etcd_pid=pids_of(cluster))) == 2, "it lists nobody"
        restart_one_with(cluster, 2)
        found = faults(joined(cluster), "cluster")
    assert "cluster.one-cluster" in found, found
