"""The recipes of the page with ``kubectl debug`` and the image: the running etcd is its own declaration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from kubernetes.cluster import KubeadmCluster
from kubernetes.judging import block, paste
from kubernetes.machines import wait_until

pytestmark = pytest.mark.container


def test_a_node(cluster: KubeadmCluster, runner: str) -> None:
    said = paste(cluster, block("debug -n etcd-tls node/cp1 --image=$IMAGE"))
    assert "cp1 (live, etcd 3.6." in said
    assert "etcd TLS: CLEAN (cp1: " in said
    assert "not verified" not in said


def test_the_next_restart_needs_the_profile_sysadmin(cluster: KubeadmCluster, runner: str) -> None:
    """Namespaces and mounts need CAP_SYS_ADMIN; without it the run says so, and judges the rest."""
    code = block("debug -n etcd-tls node/cp1 --image=$IMAGE").replace("=auto ", "=auto --etcd-rehearse ")
    said = paste(cluster, code)
    assert "is not rehearsed: " in said
    assert "CAP_SYS_ADMIN" in said
    assert "etcd TLS: CLEAN (cp1: " in said
    said = paste(cluster, code.replace("--profile=general", "--profile=sysadmin"))
    assert "etcd TLS: CLEAN, ALSO AFTER A RESTART (cp1: " in said


FILES = ("ca.crt", "server.crt", "server.key", "peer.crt", "peer.key")
CLIENT = ("healthcheck-client.crt", "healthcheck-client.key")

FLAGS = """
--name=etcd-0 --data-dir=/var/lib/etcd-0 --initial-cluster=etcd-0=https://127.0.0.1:2380
--listen-client-urls=https://127.0.0.1:2379 --advertise-client-urls=https://127.0.0.1:2379
--listen-peer-urls=https://127.0.0.1:2380 --initial-advertise-peer-urls=https://127.0.0.1:2380
--client-cert-auth=true --cert-file=/pki/server.crt --key-file=/pki/server.key --trusted-ca-file=/pki/ca.crt
--peer-client-cert-auth=true --peer-cert-file=/pki/peer.crt --peer-key-file=/pki/peer.key
--peer-trusted-ca-file=/pki/ca.crt
"""

A_USER = {
    "runAsUser": 1000,
    "runAsGroup": 1000,
    "fsGroup": 1000,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_a_service_of_the_node_needs_the_profile_sysadmin(
    cluster: KubeadmCluster, runner: str, newest_etcd: Path
) -> None:
    """It has capabilities that a pod of the profile ``general`` lacks."""
    node = cluster.node
    flags = FLAGS.replace(":23", ":33").replace("/pki/", "/etc/kubernetes/pki/etcd/")
    log = node.directory / "service.log"
    service = node.start(newest_etcd, *flags.split(), log=log)
    code = block("debug -n etcd-tls node/cp1 --image=$IMAGE")
    try:
        wait_until(lambda: "serving client traffic" in log.read_text(encoding="utf-8"), "etcd serves")
        assert "(kubectl debug --profile=sysadmin)" in paste(cluster, code)
        said = paste(cluster, code.replace("--profile=general", "--profile=sysadmin"))
    finally:
        node.run("pkill", "--full", "--", f"{newest_etcd} --name=etcd-0")
        service.wait()
    assert "etcd TLS: CLEAN (cp1, etcd-0)" in said


@pytest.fixture
def prod(cluster: KubeadmCluster) -> Iterator[None]:
    """The namespace of the page, with a Secret of etcd's files."""
    node = cluster.node
    of = cluster.laptop.directory / "prod"
    for name in (*FILES, *CLIENT):
        cluster.laptop.write(str(of / name), node.read(f"/etc/kubernetes/pki/etcd/{name}"))
    cluster.kubectl("create", "namespace", "prod")
    try:
        cluster.kubectl("create", "secret", "generic", "etcd-0", "-n", "prod", f"--from-file={of}")
        yield
    finally:
        cluster.kubectl("delete", "namespace", "prod", "--wait")


def _start(cluster: KubeadmCluster, *, restricted: bool) -> None:
    """Start a pod with an etcd that listens on the loopback of the pod alone."""
    image = "jsonpath={.spec.containers[0].image}"
    container = {
        "name": "etcd",
        "image": cluster.kubectl("get", "pod", "-n", "kube-system", "etcd-cp1", "-o", image),
        "imagePullPolicy": "IfNotPresent",
        "command": ["etcd", *FLAGS.split()],
        "securityContext": RESTRICTED if restricted else {},
        "volumeMounts": [
            {"name": "pki", "mountPath": "/pki"},
            {"name": "data", "mountPath": "/var/lib/etcd-0"},
        ],
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "etcd-0"},
        "spec": {
            "securityContext": A_USER if restricted else {},
            "containers": [container],
            "volumes": [
                {"name": "pki", "secret": {"secretName": "etcd-0"}},
                {"name": "data", "emptyDir": {}},
            ],
        },
    }
    cluster.kubectl("apply", "-n", "prod", "-f", "-", text=yaml.safe_dump(pod))
    cluster.kubectl("wait", "-n", "prod", "--for=condition=Ready", "pod/etcd-0", "--timeout=60s")


@pytest.mark.parametrize("restricted", [False, True], ids=["root", "restricted"])
def test_an_ordinary_pod(cluster: KubeadmCluster, runner: str, prod: None, restricted: bool) -> None:
    code = block("--target=etcd")
    if restricted:
        code = code.replace("--profile=baseline", "--profile=restricted").replace("--custom=root.json ", "")
        assert "--custom" not in code
        level = "pod-security.kubernetes.io/enforce=restricted"
        cluster.kubectl("label", "namespace", "prod", level)
    _start(cluster, restricted=restricted)
    said = paste(cluster, code)
    assert "etcd-0 (live, etcd 3.6." in said
    assert "accepts healthcheck-client; refuses all 4 bad identities" in said
    assert "etcd TLS: CLEAN (etcd-0: https://127.0.0.1:2379, etcd 3.6." in said
