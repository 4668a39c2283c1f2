"""Two control-plane nodes, each with a member of etcd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kubernetes.cluster import KubeadmCluster
from kubernetes.conftest import new_cluster
from kubernetes.judging import MANIFEST, ON_THE_NODE, edited_but_not_applied, judge
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
    said = paste(joined, block("> pods.yaml").replace("pytest-etcdtls ", "pytest-etcdtls -v "))
    assert "etcd TLS: CLEAN (2 members" in said
    assert said.count("client https://127.0.0.1:2379: not judged") == 1, "both members have it"
    for node in joined.nodes:
        assert f"https://{node.address}:2380" in said


def test_the_other_member_is_discovered_on_a_node(joined: KubeadmCluster) -> None:
    first, second = joined.nodes
    judged = judge(first, *ON_THE_NODE, "--etcd-discover")
    assert judged.exit_code == 0, judged.text
    assert f"https://{second.address}:2380" in {result["url"] for result in judged.report["results"]}


def test_one_manifest_that_the_kubelet_has_not_applied(joined: KubeadmCluster) -> None:
    """Only the node with that manifest has the fault."""
    first, second = joined.nodes
    with edited_but_not_applied(second, "--peer-client-cert-auth=true", "--peer-client-cert-auth=false"):
        judged = {
            node.name: judge(node, "--etcd-pid=auto", f"--etcd-config={MANIFEST}") for node in joined.nodes
        }
    assert judged[first.name].exit_code == 0, judged[first.name].text
    assert judged[second.name].exit_code == 1, judged[second.name].text
    assert "NOT CLEAN: 1 fault" in " ".join(judged[second.name].text.split())
    assert "is declared, and process " in judged[second.name].text
