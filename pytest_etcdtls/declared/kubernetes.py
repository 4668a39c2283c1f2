"""Kubernetes manifests: the container that runs etcd, its command, arguments and variables."""

from __future__ import annotations

import re
from collections.abc import Iterator

from yaml.nodes import Node, ScalarNode

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.declared.declaration import Mount, SourceLine
from pytest_etcdtls.declared.etcd_yaml import documents, entries, items, member, place_of, text_of
from pytest_etcdtls.declared.shell import Allowance, ProgramStart, Variable, Word, find_etcd, is_proxy
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.untrusted import printable

_REFERENCE = re.compile(r"\$(\$)?\(([A-Za-z_][A-Za-z0-9_.-]*)\)")
_IMAGE_OF_ETCD = re.compile(r"(^|/)etcd(:|@|$)")


def container_invocation(node: Node, pod: Node, file: str) -> ProgramStart | None:
    """Return how a container starts etcd; ``None`` if it runs something else.

    Args:
        node: the container.
        pod: the object that it belongs to. A pod printed by the API server also has its addresses.
        file: the path of the manifest, for line references.

    Raises:
        UsageError: if an argument or a variable of etcd has a value that is not in the manifest.
    """
    allowance = Allowance()
    environment = tuple(_environment(node, pod, file, allowance))
    variables = {variable.name: variable for variable in environment}
    words = [
        _expanded(one, file, variables, allowance)
        for key in ("command", "args")
        for one in items(member(node, key))
    ]
    if _has_own_program(node) and words and words[0].text.startswith("-"):
        words.insert(0, Word("etcd", words[0].place))
    begun = find_etcd(words, environment, allowance)
    if begun is not None:
        _refuse_sources(node, file)
    return begun


def _has_own_program(node: Node) -> bool:
    image = text_of(member(node, "image")) or ""
    return member(node, "command") is None and _IMAGE_OF_ETCD.search(image) is not None


def _expanded(node: Node, file: str, variables: dict[str, Variable], allowance: Allowance) -> Word:
    """Return an argument with ``$(NAME)`` expanded as the kubelet does."""
    missing: list[str] = []

    def value(match: re.Match[str]) -> str:
        if match[1]:
            return match[0][1:]
        variable = variables.get(match[2])
        if variable is None:
            return match[0]
        if variable.unresolved:
            missing.append(variable.name)
        allowance.take("characters of variables", variable.place, len(variable.value))
        return variable.value

    text = _REFERENCE.sub(value, text_of(node) or "")
    place = place_of(node, file)
    allowance.take("words", place)
    if isinstance(node, ScalarNode) and node.style in ("|", ">") and place.line is not None:
        place = SourceLine(file, place.line + 1)  # the text begins on the line after the indicator
    return Word(text, place, tuple(missing))


def _environment(node: Node, pod: Node, file: str, allowance: Allowance) -> Iterator[Variable]:
    known: dict[str, Variable] = {}
    for one in items(member(node, "env")):
        name, place = text_of(member(one, "name")), place_of(one, file)
        source = member(one, "valueFrom")
        if name is None:
            continue
        field = text_of(member(pod, *(text_of(member(source, "fieldRef", "fieldPath")) or "").split(".")))
        if field is not None:
            variable = Variable(name, field, place)
        elif source is not None:
            kind = next((entry.key for entry in entries(source, file)), "elsewhere")
            variable = Variable(name, "", place, f"its value comes from a {kind.removesuffix('Ref')}")
        else:
            value = member(one, "value")
            word = _expanded(value, file, known, allowance) if value is not None else Word("", place)
            variable = Variable(name, word.text, place, ", ".join(word.unresolved))
        known[name] = variable
        yield variable


def _refuse_sources(node: Node, file: str) -> None:
    sources = items(member(node, "envFrom"))
    if sources:
        raise UsageError(
            f"{place_of(sources[0], file)}: etcd takes variables from elsewhere (envFrom), and they may set "
            "anything: pass a copy of the manifest that has them under env, with their values"
        )


_LISTS = frozenset({"List", "PodList"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerCommand:
    """The container that runs etcd.

    Attributes:
        pod: the name of the pod, or of the object that contains the pod template.
        image: the container image; ``None`` if the manifest names none.
    """

    pod: str
    image: str | None
    invocation: ProgramStart
    mounts: tuple[Mount, ...]


@dataclass(frozen=True, slots=True)
class _Container:
    root: Node
    pod: str
    spec: Node
    node: Node
    name: str


def read_manifest(text: str, file: str) -> ContainerCommand:
    """Return the container of a manifest that runs etcd.

    Raises:
        UsageError: if the text is not YAML, if no container or several run etcd, or if an argument or a
            variable of etcd has a value that is not in the manifest.
    """
    objects = [one for root in documents(text, file) for one in _objects(root)]
    containers = [container for one in objects for container in _containers(one, file)]
    started = [
        (container, container_invocation(container.node, container.root, file)) for container in containers
    ]
    found = [(container, begun) for container, begun in started if begun is not None]
    # A proxy beside a member serves its metrics, as OpenShift has it.
    found = [(container, begun) for container, begun in found if not is_proxy(begun)] or found
    if len(found) > 1:
        names = printable(", ".join(f"{container.pod}/{container.name}" for container, _ in found))
        raise UsageError(
            f"{file} runs etcd {len(found)} times ({names}): put one member's manifest in a file"
        )
    if not found:
        raise UsageError(_no_etcd(objects, containers, file))
    container, begun = found[0]
    return ContainerCommand(
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
        what = printable(", ".join(dict.fromkeys(kinds))) or "nothing"
        return (
            f"{file} is a manifest of {what}, not of a pod that runs etcd: kubeadm writes that to "
            "/etc/kubernetes/manifests/etcd.yaml"
        )
    names = printable(", ".join(dict.fromkeys(container.name for container in containers)))
    hint = ": its neighbour etcd.yaml is meant" if "kube-" in names else ""
    return f"{file} runs {names}, and none of these is etcd{hint}"


def is_manifest(text: str) -> bool:
    """Return whether a text looks like a Kubernetes object, in YAML or JSON."""
    return bool(re.search(r'^[ \t{,]*"?(apiVersion|kind)"?\s*:', text, re.MULTILINE))
