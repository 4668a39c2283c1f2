"""The recipes of the page for a laptop: verdicts are those made on the node."""

from __future__ import annotations

import pytest
from plugin.runs import Ran

from kubernetes.cluster import KubeadmCluster
from kubernetes.judging import ON_THE_NODE, block, judge, paste
from kubernetes.machines import wait_until


@pytest.fixture(scope="module")
def on_the_node(cluster: KubeadmCluster) -> Ran:
    return judge(cluster.node, *ON_THE_NODE)


def _judged(cluster: KubeadmCluster, code: str) -> Ran:
    """Run the commands of a page, with a JSON report."""
    report = cluster.laptop.directory / "report.json"
    report.unlink(missing_ok=True)
    text = paste(cluster, code.replace("pytest-etcdtls ", f"pytest-etcdtls -v --report={report} "))
    result = pytest.RunResult(0, text.splitlines(), [], 0.0)
    return Ran(result, report, report.read_text(encoding="utf-8"))


def _differ(one: Ran, other: Ran) -> dict[str, tuple[str, str]]:
    """Return the results that both have and that differ."""
    outcomes = other.outcomes
    return {
        name: (outcome, outcomes[name])
        for name, outcome in one.outcomes.items()
        if outcomes.get(name, outcome) != outcome
    }


@pytest.fixture
def keys(cluster: KubeadmCluster) -> None:
    """The keys of etcd's own certificates on the laptop, where the page has none, so that all is verified."""
    of = "pki/etcd"
    for name in ("server.key", "peer.key"):
        text = cluster.node.read(f"/etc/kubernetes/{of}/{name}")
        cluster.laptop.write(str(cluster.laptop.directory / of / name), text)
        cluster.laptop.run("chmod", "600", f"{of}/{name}")


def test_a_debugging_pod_carries_connections(
    cluster: KubeadmCluster, keys: None, busybox: str, on_the_node: Ran
) -> None:
    judged = _judged(cluster, block("-- nc {host} {port}"))
    assert "etcd TLS: CLEAN" in judged.out
    assert judged.outcomes.keys() == on_the_node.outcomes.keys()
    assert _differ(judged, on_the_node) == {}


@pytest.mark.program("sshd")
def test_ssh_carries_connections(cluster: KubeadmCluster, keys: None, on_the_node: Ran) -> None:
    _serve_ssh(cluster)
    _copy(cluster)
    judged = _judged(cluster, block("ssh -fN"))
    assert "etcd TLS: CLEAN" in judged.out
    assert _differ(judged, on_the_node) == {}


def test_the_list_that_kubectl_prints(cluster: KubeadmCluster) -> None:
    _copy(cluster)
    assert "etcd TLS: CLEAN" in paste(cluster, block("> pods.yaml"))


def _serve_ssh(cluster: KubeadmCluster) -> None:
    """Let root of the laptop log in at the node by a key."""
    laptop, node = cluster.laptop, cluster.node
    laptop.run("mkdir", "-p", "-m", "700", "/root/.ssh")
    laptop.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/of-the-tests")
    options = "IdentityFile /root/.ssh/of-the-tests\nStrictHostKeyChecking no\n"
    laptop.write("/root/.ssh/config", f"Host cp1\n{options}")
    node.write("/root/.ssh/authorized_keys", laptop.read("/root/.ssh/of-the-tests.pub"))
    node.run("chmod", "-R", "go=", "/root/.ssh")
    node.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/etc/ssh/of-the-tests")
    node.write("/etc/ssh/sshd_config", "HostKey /etc/ssh/of-the-tests\nMaxSessions 50\n")
    node.run("mkdir", "-p", "/run/sshd")
    node.start("/usr/sbin/sshd", "-D", log=node.directory / "sshd.log")
    wait_until(
        lambda: laptop.run("ssh", "cp1", "true", check=False).returncode == 0, "sshd answers", seconds=20
    )


def _copy(cluster: KubeadmCluster) -> None:
    """Put the manifest and the certificates of the node where the pages have them."""
    laptop, node = cluster.laptop, cluster.node
    names = ["ca.crt", "etcd/ca.crt"]
    names += [f"etcd/{name}" for name in ("server.crt", "peer.crt", "healthcheck-client.crt")]
    for name in (*names, "etcd/healthcheck-client.key"):
        laptop.write(str(laptop.directory / "pki" / name), node.read(f"/etc/kubernetes/pki/{name}"))
    laptop.run("chmod", "600", "pki/etcd/healthcheck-client.key")
    text = node.read("/etc/kubernetes/manifests/etcd.yaml")
    laptop.write(str(laptop.directory / "etcd.yaml"), text)
