"""On a node, the running etcd is its own declaration."""

from __future__ import annotations

from kubernetes.cluster import KubeadmCluster
from kubernetes.judging import MANIFEST, edited_but_not_applied, judge

REHEARSED = ("--etcd-pid=auto", "--etcd-rehearse", f"--etcd-config={MANIFEST}")


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
        judged = judge(node, *REHEARSED)
    assert judged.exit_code == 1
    said = " ".join(judged.out.split())
    assert "etcd TLS: CLEAN NOW, NOT AFTER A RESTART: 1 fault" in said, said
    assert "after a restart etcd does not start: " in said


def test_certificates_that_are_renewed_need_no_restart(cluster: KubeadmCluster) -> None:
    for name in ("etcd-server", "etcd-peer", "etcd-healthcheck-client"):
        cluster.node.run("kubeadm", "certs", "renew", name)
    judged = judge(cluster.node, *REHEARSED)
    said = " ".join(judged.out.split())
    assert judged.exit_code == 0, said
    assert "etcd TLS: CLEAN, ALSO AFTER A RESTART (cp1: " in said
    assert "a restart changes nothing, and none is needed for what is on disk" in said


def test_a_ca_that_is_renewed_waits_for_the_restart(cluster: KubeadmCluster) -> None:
    """Beside the old one it changes what is announced; instead of it, who is accepted."""
    node = cluster.node
    bundle = "/etc/kubernetes/pki/etcd/ca.crt"
    made = node.directory / "renewed"
    node.run("kubeadm", "init", "phase", "certs", "etcd-ca", f"--cert-dir={made}")
    old, new = node.read(bundle), node.read(f"{made}/etcd/ca.crt")
    try:
        node.write(bundle, old + new)
        beside = judge(node, *REHEARSED)
        node.write(bundle, new)
        instead = judge(node, *REHEARSED)
    finally:
        node.write(bundle, old)
    assert "etcd TLS: CLEAN NOW, NOT AFTER A RESTART: 1 fault" in " ".join(beside.out.split())
    clients = [outcome for place, outcome in instead.outcomes.items() if place.endswith("::restart.clients")]
    assert clients == ["violates"]
