"""The commands of pages that name kubectl, as a person would paste them on the laptop."""

from __future__ import annotations

from shown_commands import commands_of

from kubernetes.cluster import KubeadmCluster

PAGE = "docs/kubeadm.md"


def block(text: str) -> str:
    """Return the only block of the page that has this text."""
    [found] = [command.code for command in commands_of(PAGE) if text in command.code]
    return found


def paste(cluster: KubeadmCluster, code: str) -> str:
    """Run commands on the laptop with the names of this cluster; return what they wrote.

    Raises:
        AssertionError: if one fails.
    """
    for shown, real in (("REGISTRY/", ""), ("10.0.0.11", cluster.node.address)):
        code = code.replace(shown, real)
    return cluster.laptop.run("sh", "-e", text=code).stdout
