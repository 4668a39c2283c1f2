"""On a node, the two options of docs/kubeadm.md find what kubeadm made."""

from __future__ import annotations

import re

from kubernetes.cluster import KubeadmCluster
from kubernetes.judging import MANIFEST, ON_THE_NODE, judge, reasons
from kubernetes.machines import wait_until


def test_the_two_options_are_enough(cluster: KubeadmCluster) -> None:
    judged = judge(cluster.node, *ON_THE_NODE)
    assert judged.exit_code == 0, judged.out
    assert "etcd TLS: CLEAN" in judged.out
    needed = {reason.rpartition("pass ")[2] for reason in reasons(judged, "not-verified")}
    assert needed == {
        "--etcd-ca-key=/etc/kubernetes/pki/etcd/ca.key",
        "--etcd-peer-ca-key=/etc/kubernetes/pki/etcd/ca.key",
    }


def test_with_the_named_options_everything_is_verified(cluster: KubeadmCluster) -> None:
    judged = judge(
        cluster.node,
        *ON_THE_NODE,
        "--etcd-ca-key=/etc/kubernetes/pki/etcd/ca.key",
        "--etcd-peer-ca-key=/etc/kubernetes/pki/etcd/ca.key",
        "--etcd-log=/var/log/pods/kube-system_etcd-*/etcd/*.log",
    )
    assert judged.exit_code == 0, judged.out
    assert reasons(judged, "not-verified") == reasons(judged, "inconclusive") == set()


def test_the_remedy_of_a_fault_is_applied_and_kubelet_restarts_etcd(cluster: KubeadmCluster) -> None:
    node = cluster.node
    right = node.read(MANIFEST)

    def process() -> str:
        return node.run("pgrep", "--exact", "etcd", check=False).stdout

    def apply(manifest: str) -> None:
        """Write the manifest, and wait until another etcd serves the API server."""
        before = process()
        node.write(MANIFEST, manifest)

        def serves() -> bool:
            health = ("busybox", "wget", "-qO-", "http://127.0.0.1:2381/health")
            answer = node.run(*health, check=False).stdout
            return process() not in ("", before) and '"health":"true"' in answer

        wait_until(serves, "etcd is restarted")
        wait_until(lambda: "ok" in cluster.kubectl("get", "--raw=/readyz", check=False), "the API server")

    flags = r"    - --(?:client-cert-auth|trusted-ca-file)=.*\n"
    wrong, number = re.subn(flags, "", right)
    assert number == 2
    try:
        apply(wrong)
        judged = judge(node, *ON_THE_NODE)
        assert judged.exit_code == 1
        assert "NOT CLEAN" in judged.out
        flag = r"\+ (--(?:client-cert-auth|trusted-ca-file)=\S+)  # "
        written = [*dict.fromkeys(re.findall(flag, judged.out))]  # the failure of each client port has them
        assert len(written) == 2
        flags = "".join(f"    - {flag}\n" for flag in sorted(set(written)))
        apply(wrong.replace("    - etcd\n", f"    - etcd\n{flags}"))
        judged = judge(node, *ON_THE_NODE)
        assert judged.exit_code == 0, judged.out
    finally:
        if node.read(MANIFEST) != right:
            apply(right)
