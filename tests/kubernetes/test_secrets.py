"""A Secret of the API server on standard input."""

from __future__ import annotations

from kubernetes.cluster import KubeadmCluster
from kubernetes.shown import block, paste


def test_the_ca_of_cluster_api_is_enough(cluster: KubeadmCluster) -> None:
    laptop, [node] = cluster.laptop, cluster.nodes
    for suffix in ("crt", "key"):
        text = node.read(f"/etc/kubernetes/pki/etcd/ca.{suffix}")
        laptop.write(str(laptop.directory / f"etcd-ca.{suffix}"), text)
    files = ["--from-file=tls.crt=etcd-ca.crt", "--from-file=tls.key=etcd-ca.key"]
    type_ = "--type=cluster.x-k8s.io/secret"
    cluster.kubectl("create", "secret", "generic", "prod-etcd", type_, *files)
    for suffix in ("crt", "key"):
        laptop.run("rm", f"etcd-ca.{suffix}")
    said = paste(cluster, block("kubectl get secret prod-etcd"))
    assert "etcd TLS: CLEAN" in said
    assert "--etcd-ca-key" not in said.partition("results not verified")[2]


def test_a_directory_is_made_of_secrets(cluster: KubeadmCluster) -> None:
    laptop, [node] = cluster.laptop, cluster.nodes
    laptop.run("rm", "-rf", "pki")  # of another test
    certificate = node.read("/etc/kubernetes/pki/etcd/server.crt")
    laptop.write(str(laptop.directory / "server.crt"), certificate)
    cluster.kubectl("create", "secret", "generic", "etcd-server-tls", "--from-file=tls.crt=server.crt")
    cluster.kubectl("create", "secret", "generic", "etcd-empty", "--from-literal=tls.crt=")
    code = block("base64 -d", "docs/distributions.md").replace("-n NAMESPACE ", "-n default ")
    laptop.run("sh", "-e", text=code.replace("NAME ANOTHER", "etcd-server-tls etcd-empty"))
    directory = laptop.directory / "pki"
    written = {str(one.relative_to(directory)): one.read_text() for one in directory.glob("*/*")}
    assert written == {"etcd-server-tls/tls.crt": certificate, "etcd-empty/tls.crt": ""}
    assert {one.stat().st_mode & 0o777 for one in directory.glob("*/*")} == {0o600}
    code = block("get configmap", "docs/distributions.md").replace("-n NAMESPACE ", "-n default ")
    laptop.run("sh", "-e", text=code.replace("NAME", "kube-root-ca.crt"))
    kubernetes = node.read("/etc/kubernetes/pki/ca.crt")
    assert (directory / "kube-root-ca.crt" / "ca.crt").read_text() == kubernetes
