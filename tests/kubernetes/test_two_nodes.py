"""Two control-plane nodes, each with a member of etcd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kubernetes.cluster import KubeadmCluster
from kubernetes.conftest import new_cluster
from kubernetes.judging import ON_THE_NODE, judge
from kubernetes.machines import Machine
from kubernetes.shown import block, paste


@pytest.fixture(scope="module")
def joined(etcd_binaries: dict[str, Path]) -> Iterator[KubeadmCluster]:
    with new_cluster(etcd_binaries, nodes=2) as started:
        yield started


def _copy_of_pki(node: Machine, laptop: Machine) -> None:
    for name in ("ca.crt", "server.crt", "peer.crt", "healthcheck-client.crt", "healthcheck-client.key"):
        text = node.read(f"/etc/kubernetes/pki/etcd/{name}")
        laptop.write(str(laptop.directory / "pki" / node.name / name), text)


def test_one_list_has_both_members(joined: KubeadmCluster) -> None:
    for node in joined.nodes:
        _copy_of_pki(node, joined.laptop)
    said = paste(joined, block("> pods.yaml"))
    assert "etcd TLS: CLEAN (2 members" in said
    for node in joined.nodes:
        assert f"peer-{node.address}-2380 https://{node.address}:2380" in said


def test_the_other_member_is_discovered_on_a_node(joined: KubeadmCluster) -> None:
    first, second = joined.nodes
    judged = judge(first, *ON_THE_NODE, "--etcd-discover")
    assert judged.exit_code == 0, judged.text
    assert f"https://{second.address}:2380" in {one["url"] for one in judged.report["results"]}
