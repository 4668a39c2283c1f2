"""On a node, the two options of docs/kubeadm.md find what kubeadm made."""

from __future__ import annotations

import re

from kubernetes.cluster import KubeadmCluster
from kubernetes.judging import MANIFEST, ON_THE_NODE, judge
from kubernetes.machines import wait_until


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


def test_with_the_named_options_everything_is_verified(cluster: KubeadmCluster) -> None:
    judged = judge(
        cluster.nodes[0],
        *ON_THE_NODE,
        "--etcd-ca-key=/etc/kubernetes/pki/etcd/ca.key",
        "--etcd-peer-ca-key=/etc/kubernetes/pki/etcd/ca.key",
        "--etcd-log=/var/log/pods/kube-system_etcd-*/etcd/*.log",
    )
    assert judged.exit_code == 0, judged.text
    assert judged.reasons("not-verified") == judged.reasons("inconclusive") == set()


def test_the_remedy_of_a_fault_is_applied_and_kubelet_restarts_etcd(cluster: KubeadmCluster) -> None:
    [node] = cluster.nodes
    right = node.read(MANIFEST)

    def wait_for_etcd(*, with_client_ca: bool) -> None:
        """Wait until kubelet has restarted etcd, and it serves the API server."""
        started = "^etcd .*--trusted-ca-file="

        def serves() -> bool:
            found = node.run("pgrep", "--full", started, check=False).returncode == 0
            health = ("busybox", "wget", "-qO-", "http://127.0.0.1:2381/health")
            return found is with_client_ca and '"health":"true"' in node.run(*health, check=False).stdout

        wait_until(serves, "etcd is restarted")
        wait_until(lambda: "ok" in cluster.kubectl("get", "--raw=/readyz", check=False), "the API server")

    flags = r"    - --(?:client-cert-auth|trusted-ca-file)=.*\n"
    wrong, number = re.subn(flags, "", right)
    assert number == 2
    try:
        node.write(MANIFEST, wrong)
        wait_for_etcd(with_client_ca=False)
        judged = judge(node, *ON_THE_NODE)
        assert judged.exit_code == 1
        assert "NOT CLEAN" in judged.text
        flag = r"\+ (--(?:client-cert-auth|trusted-ca-file)=\S+)  # "
        written = [*dict.fromkeys(re.findall(flag, judged.text))]  # the failure of each client port has them
        assert len(written) == 2
        flags = "".join(f"    - {flag}\n" for flag in sorted(set(written)))
        node.write(MANIFEST, wrong.replace("    - etcd\n", f"    - etcd\n{flags}"))
        wait_for_etcd(with_client_ca=True)
        judged = judge(node, *ON_THE_NODE)
        assert judged.exit_code == 0, judged.text
    finally:
        if node.read(MANIFEST) != right:
            node.write(MANIFEST, right)
            wait_for_etcd(with_client_ca=True)
