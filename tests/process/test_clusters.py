"""Processes of one cluster are one target, whose members are compared."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest
from kubeadm.judging import judged
from plugin.runs import Runner, run
from starting import start_process
from zoo.client_access import BROKEN, other_ca
from zoo.clusters import let_the_third_lead, restart_one_with, write_pair

from process.containers import OF_ITS_OWN, as_root, container, process_of, targets
from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.declared import running
from pytest_etcdtls.declared.running import PROC, listens
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.process import EtcdProcess
from pytest_etcdtls.pki.profile import PEER
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Target
from pytest_etcdtls.tls.attempt import Request
from pytest_etcdtls.untrusted.process_root import names_in

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


def test_two_clusters_that_were_created_alike(newest_etcd: Path, tmp_path: Path, run: Runner) -> None:
    """Their IDs are equal, as those of two machines of one template; each has a network of its own."""
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(container(tmp_path / name, newest_etcd, "127.0.0.52", OF_ITS_OWN))
            for name in ("a", "b")
        ]
        url = "https://127.0.0.52:2380"
        peers = {"listen-peer-urls": url, "initial-advertise-peer-urls": url, "initial-cluster": f"cp1={url}"}
        processes = [replace(node, added=peers).start() for node in nodes]
        pids = ",".join(str(process.pid) for process in processes)
        first, second = targets(etcd_pid=pids)
        ids = [next(iter(one.running.values())).ids for one in (first, second)]
        assert ids[0] is not None
        assert ids[0] == ids[1]
        ran = run("--pyargs", "pytest_etcdtls", f"--etcd-pid={pids}")
    assert ran.exit_code == 0, ran.out
    assert re.search(r"CLEAN \(\S+, \S+; not compared: \S+: \S+ has the same cluster ID, ", ran.verdict)


@pytest.fixture
def of_users(newest_etcd: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The processes of a cluster of three, the last one of another user, as a run finds them."""
    with start_process(THREE, newest_etcd) as cluster, ExitStack() as stack:
        server = cluster.members[2].server
        assert isinstance(server, EtcdProcess)
        cluster.stop_member(2)
        program = shutil.copy(server.program, cluster.directory / "etcd")
        for path in (cluster.directory, *cluster.directory.rglob("*")):
            os.chown(path, 65534, 65534)
        process = subprocess.Popen(
            [program, *server.launch.arguments], user=65534, group=65534, extra_groups=[]
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        pids = [process_of(one.server).pid for one in cluster.members[:2]] + [process.pid]
        names = {PROC: list(map(str, pids))}
        monkeypatch.setattr(running, "names_in", lambda path: names.get(path) or names_in(path))
        while not listens(process.pid):
            assert process.poll() is None
        yield pids


def test_a_process_of_another_user_is_joined_only_if_it_is_named(of_users: list[int]) -> None:
    """Anybody can write the ID of a cluster into a data directory."""
    found = targets(etcd_pid="auto")
    assert [len(one.running) for one in found] == [2, 1]
    assert [one.apart for one in found] == ["m2 has the same cluster ID", "m0, m1 has the same cluster ID"]
    [named] = targets(etcd_pid=",".join(map(str, of_users)))
    assert len(named.running) == 3
    # What is in the files of root's processes is not presented to a process that may not read them.
    observer = Observer(named)
    of_root = next(one for one in named.peer.identities if "m0" in one.name)
    there = next(one for one in named.listeners if one.member == "m2" and one.role is Role.PEER)
    here = next(one for one in named.listeners if one.member == "m1" and one.role is Role.PEER)
    assert observer._needs_proof(there, Request(purpose="", identity=of_root))
    assert not observer._needs_proof(here, Request(purpose="", identity=of_root))
