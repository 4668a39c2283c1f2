"""On a node, the running etcd is its own declaration."""

from __future__ import annotations

from kubernetes.cluster import KubeadmCluster
from kubernetes.judging import MANIFEST, edited_but_not_applied, judge


def test_the_process_is_enough(cluster: KubeadmCluster) -> None:
    judged = judge(cluster.node, "--etcd-pid=auto")
    assert judged.exit_code == 0, judged.out
    assert "etcd TLS: CLEAN (cp1: " in judged.out


def test_a_manifest_that_the_kubelet_has_not_applied(cluster: KubeadmCluster) -> None:
    node = cluster.node
    [pid] = node.run("pgrep", "--exact", "etcd").stdout.split()
    with edited_but_not_applied(node, "--client-cert-auth=true", "--client-cert-auth=false") as wrong:
        judged = judge(node, "--etcd-pid=auto", f"--etcd-config={MANIFEST}")
    [line] = [n for n, text in enumerate(wrong.splitlines(), 1) if "- --client-cert-auth=false" in text]
    assert judged.exit_code == 1
    said = " ".join(judged.out.split())
    assert "NOT CLEAN: 1 fault" in said
    assert (
        f"--client-cert-auth=false ({MANIFEST}:{line}) is declared, and process {pid} was started with "
        "--client-cert-auth=true; the file was changed after the process was started"
    ) in said


def test_a_manifest_with_which_etcd_does_not_start(cluster: KubeadmCluster) -> None:
    """What the declaration predicts follows from what the rehearsal shows: one fault."""
    node = cluster.node
    bundle = "--trusted-ca-file=/etc/kubernetes/pki/etcd/"
    with edited_but_not_applied(node, f"{bundle}ca.crt", f"{bundle}absent.crt"):
        judged = judge(node, "--etcd-pid=auto", "--etcd-rehearse", f"--etcd-config={MANIFEST}")
    assert judged.exit_code == 1
    said = " ".join(judged.out.split())
    assert "etcd TLS: CLEAN NOW, NOT AFTER A RESTART: 1 fault" in said, said
    assert "after a restart etcd does not start: " in said
