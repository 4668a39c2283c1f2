"""On a node, the two options of the README find what kubeadm made."""

from __future__ import annotations

from kubernetes.cluster import KubeadmCluster
from kubernetes.judging import ON_THE_NODE, judge


def test_the_two_options_are_enough(cluster: KubeadmCluster) -> None:
    judged = judge(cluster.nodes[0], *ON_THE_NODE)
    assert judged.exit_code == 0, judged.text
    assert "etcd TLS: CLEAN" in judged.text
    needed = {reason.rpartition("pass ")[2] for reason in judged.reasons("not-verified")}
    assert needed == {
        "--etcd-ca-key=/etc/kubernetes/pki/etcd/ca.key",
        "--etcd-peer-ca-key=/etc/kubernetes/pki/etcd/ca.key",
        "--etcd-log='/var/log/pods/kube-system_etcd-*/etcd/*.log'",
    }


def test_with_the_options_that_it_names_all_is_verified(cluster: KubeadmCluster) -> None:
    judged = judge(
        cluster.nodes[0],
        *ON_THE_NODE,
        "--etcd-ca-key=/etc/kubernetes/pki/etcd/ca.key",
        "--etcd-peer-ca-key=/etc/kubernetes/pki/etcd/ca.key",
        "--etcd-log=/var/log/pods/kube-system_etcd-*/etcd/*.log",
    )
    assert judged.exit_code == 0, judged.text
    assert judged.reasons("not-verified") == judged.reasons("inconclusive") == set()
