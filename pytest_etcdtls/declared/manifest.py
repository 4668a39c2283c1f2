"""Kubernetes manifests: the container that runs etcd, how it is started, and what it sees of the node.

A static pod as kubeadm writes it, a pod as ``kubectl get -o yaml`` prints it, whatever has a pod template.
Knows that the program is etcd, not what its arguments mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from yaml.nodes import Node

from pytest_etcdtls.declared.container_start import container_invocation
from pytest_etcdtls.declared.declaration import Mount
from pytest_etcdtls.declared.words import Invocation
from pytest_etcdtls.declared.yaml_nodes import documents, items, member, place_of, text_of
from pytest_etcdtls.errors import UsageError

_LISTS = frozenset({"List", "PodList"})


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdContainer:
    """The container that runs etcd.

    Attributes:
        pod: name of the pod, or of what has the template.
        image: ``None`` if the manifest names none.
    """

    pod: str
    image: str | None
    invocation: Invocation
    mounts: tuple[Mount, ...]


@dataclass(frozen=True, slots=True)
class _Container:
    root: Node
    pod: str
    spec: Node
    node: Node
    name: str


def read_manifest(text: str, file: str) -> EtcdContainer:
    """Return the one container of a manifest that runs etcd.

    Raises:
        UsageError: if it is not YAML, none or several containers run etcd, or part of what etcd gets is not
            in the manifest.
    """
    objects = [one for root in documents(text, file) for one in _objects(root)]
    containers = [container for one in objects for container in _containers(one, file)]
    started = [
        (container, container_invocation(container.node, container.root, file)) for container in containers
    ]
    found = [(container, begun) for container, begun in started if begun is not None]
    if len(found) > 1:
        names = ", ".join(f"{container.pod}/{container.name}" for container, _ in found)
        raise UsageError(
            f"{file} runs etcd {len(found)} times ({names}): put one member's manifest in a file"
        )
    if not found:
        raise UsageError(_no_etcd(objects, containers, file))
    container, begun = found[0]
    return EtcdContainer(
        pod=container.pod,
        image=text_of(member(container.node, "image")),
        invocation=begun,
        mounts=tuple(_mounts(container.spec, container.node)),
    )


def _objects(root: Node) -> list[Node]:
    return items(member(root, "items")) if text_of(member(root, "kind")) in _LISTS else [root]


def _containers(root: Node, file: str) -> Iterator[_Container]:
    spec = member(root, "spec", "template", "spec") or member(root, "spec")
    pod = text_of(member(root, "metadata", "name")) or "(no name)"
    for node in items(member(spec, "containers")):
        if spec is not None:
            name = text_of(member(node, "name")) or str(place_of(node, file))
            yield _Container(root, pod, spec, node, name)


def _mounts(spec: Node, node: Node) -> Iterator[Mount]:
    paths = {
        text_of(member(volume, "name")): text_of(member(volume, "hostPath", "path"))
        for volume in items(member(spec, "volumes"))
    }
    for mount in items(member(node, "volumeMounts")):
        outside, inside = paths.get(text_of(member(mount, "name"))), text_of(member(mount, "mountPath"))
        below = text_of(member(mount, "subPath"))
        if outside and inside:
            yield Mount(inside.rstrip("/"), outside.rstrip("/") + (f"/{below}" if below else ""))


def _no_etcd(objects: list[Node], containers: list[_Container], file: str) -> str:
    kinds = [text_of(member(one, "kind")) or "an object without kind" for one in objects]
    if not containers:
        what = ", ".join(dict.fromkeys(kinds)) or "nothing"
        return (
            f"{file} is a manifest of {what}, not of a pod that runs etcd: kubeadm writes that to "
            "/etc/kubernetes/manifests/etcd.yaml"
        )
    names = ", ".join(dict.fromkeys(container.name for container in containers))
    hint = ": its neighbour etcd.yaml is meant" if "kube-" in names else ""
    return f"{file} runs {names}, and none of these is etcd{hint}"


def is_manifest(text: str) -> bool:
    """Return whether a text looks like a Kubernetes object, in YAML or JSON."""
    return bool(re.search(r'^[\s{,]*"?(apiVersion|kind)"?\s*:', text, re.MULTILINE))
