"""Runs of pytest on a machine of the cluster, and commands of the page, as pasted on the laptop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from plugin.runs import Ran, run_apart
from shown_commands import commands_of

from kubernetes.cluster import KubeadmCluster
from kubernetes.machines import Machine

MANIFEST = "/etc/kubernetes/manifests/etcd.yaml"
ON_THE_NODE = (f"--etcd-config={MANIFEST}", "--etcd-pki-dir=/etc/kubernetes/pki/etcd")
"""The two options of docs/kubeadm.md."""


def judge(machine: Machine, *options: str) -> Ran:
    """Run pytest with these options and a JSON report."""
    return run_apart(machine.directory, *options, prefix=machine.inside())


def reasons(ran: Ran, outcome: str) -> set[str]:
    """Return the reasons of results with that outcome."""
    return {result["reason"] for result in ran.report["results"] if result["outcome"] == outcome}


@contextmanager
def edited_but_not_applied(node: Machine, old: str, new: str) -> Iterator[str]:
    """Change the manifest of a node whose kubelet is stopped, and change it back; yield the new text."""
    right = node.read(MANIFEST)
    wrong = right.replace(f" - {old}\n", f" - {new}\n", 1)
    assert wrong != right
    node.run("pkill", "--signal=STOP", "--exact", "kubelet")
    try:
        node.write(MANIFEST, wrong)
        yield wrong
    finally:
        node.write(MANIFEST, right)
        node.run("pkill", "--signal=CONT", "--exact", "kubelet")


def block(text: str) -> str:
    """Return the only block of the page that has this text."""
    [found] = [command.code for command in commands_of("docs/kubeadm.md") if text in command.code]
    return found


def paste(cluster: KubeadmCluster, code: str) -> str:
    """Run commands on the laptop with the names of this cluster; return what they wrote.

    Raises:
        AssertionError: if one fails.
    """
    for shown, real in (("REGISTRY/", ""), ("10.0.0.11", cluster.node.address)):
        code = code.replace(shown, real)
    return cluster.laptop.run("sh", "-e", text=code).stdout
