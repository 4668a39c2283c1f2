"""A Secret of the API server on standard input."""

from __future__ import annotations

from kubernetes.cluster import KubeadmCluster
from kubernetes.judging import block, paste


def test_the_ca_of_cluster_api_is_enough(cluster: KubeadmCluster) -> None:
    laptop, node = cluster.laptop, cluster.node
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
