"""Pods: those of a manifest that run etcd, and how each starts it.

A manifest is the file of a static pod, or what ``kubectl get pod -o yaml`` or ``-o json`` prints: a pod, a
List, or several documents. Every pod in it that runs etcd is a member.

Only what the file has is read: ``command``, ``args``, ``env`` and their references ``$(NAME)``. The kubelet
expands these with the variables of ``env``, in ``env`` itself with the earlier ones
(pkg/kubelet/kubelet_pods.go, makeEnvironmentVariables). A variable with ``valueFrom`` is *unresolved*: an
error with its place where etcd reads it, and of no interest elsewhere. A container that starts etcd by a
shell, a launcher or its image is refused, and so is one that takes variables from another object
(``envFrom``). The running process has what these make.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct
from yaml.nodes import Node

from pytest_etcdtls.declared.declaration import Mount, RunAs, SourceLine
from pytest_etcdtls.declared.flags import FLAG_OF
from pytest_etcdtls.declared.start import (
    INSTEAD,
    Expansion,
    ProgramStart,
    Variable,
    Word,
    is_proxy,
    not_read,
)
from pytest_etcdtls.declared.yaml_files import documents, items, node_at, place_of, text_at, text_of
from pytest_etcdtls.errors import UsageError


def is_manifest(text: str) -> bool:
    """Return whether a text looks like a Kubernetes object, in YAML or JSON."""
    return bool(re.search(r'(?:^[ \t]*|[{,]\s*)"?(apiVersion|kind)"?\s*:', text, re.MULTILINE))


class DeclaredPod(Struct, frozen=True, kw_only=True):
    """A pod of a manifest that runs etcd.

    Attributes:
        name: its name, behind its namespace if that is known; unique in the file.
        started: how etcd is started in it.
        owner: what overwrites its object; empty if that is not known.
        mounts: directories and files of the node that the container sees.
    """

    name: str
    started: ProgramStart
    owner: str = ""
    mounts: tuple[Mount, ...] = ()


_MOST_MEMBERS: Final = 1000
_ENDED: Final = frozenset({"Succeeded", "Failed"})
"""Phases of a pod that has ended. The API server keeps an evicted pod for a while."""


def read_pods(text: str, file: str) -> list[DeclaredPod]:
    """Return the pods of a manifest that run etcd, in the order of the file.

    Raises:
        UsageError: if the text is not YAML, if no pod runs etcd or one runs it twice, or if etcd is started
            in a way that is not read.
    """
    objects = [node for root in documents(text, file) for node in objects_in(root)]
    pods = [
        node
        for node in objects
        if text_at(node, "kind") == "Pod" and text_at(node, "status", "phase") not in _ENDED
    ]
    expansion = Expansion()
    members: dict[str, DeclaredPod] = {}
    for pod in pods:
        member = _member(pod, file, expansion)
        if member is not None and member.name in members:
            raise UsageError(f"{file} has the pod {member.name} twice: remove one of them")
        if member is not None:
            members[member.name] = member
    if len(members) > _MOST_MEMBERS:
        raise UsageError(f"{file} has more than {_MOST_MEMBERS} members: keep those of one cluster")
    if not members:
        raise UsageError(_no_etcd(objects, pods, file))
    return [*members.values()]


def objects_in(root: Node) -> list[Node]:
    """Return the objects of a document: it, or the members of a List."""
    if text_at(root, "kind") != "List":
        return [root]
    return [node for member in items(node_at(root, "items")) for node in objects_in(member)]


def _member(pod: Node, file: str, expansion: Expansion) -> DeclaredPod | None:
    """Return the member that runs in a pod, if any.

    Raises:
        UsageError: if several containers run etcd, or in a way that is not read.
    """
    name, namespace = (text_at(pod, "metadata", key) for key in ("name", "namespace"))
    every = items(node_at(pod, "spec", "containers"))
    containers = [
        _Container(container, pod, f"pod {name}, container {text_at(container, 'name')}", file, expansion)
        for container in every
        if _program(container).is_etcd
    ]
    for node in every if not containers else ():
        _refuse_other_starts(node, file)
    starts = [(container, container.started()) for container in containers]
    # A proxy beside a member serves its metrics.
    starts = [(container, started) for container, started in starts if not is_proxy(started)] or starts
    if len(starts) > 1:
        raise UsageError(
            f"{file}: the pod {name} runs etcd {len(starts)} times: keep the container of one member"
        )
    for container, started in starts:
        return DeclaredPod(
            name=f"{namespace}/{name}" if namespace else name,
            started=started,
            mounts=tuple(container.mounts(items(node_at(pod, "spec", "volumes")))),
            owner=_owner(pod),
        )
    return None


def words_of(container: Node) -> list[str]:
    """Return the command of a container and its arguments, as they are written."""
    return [text_of(item) or "" for key in ("command", "args") for item in items(node_at(container, key))]


def _program(container: Node) -> Word:
    """Return the program of a container; an empty word if its image decides that."""
    return Word(next(iter(words_of(container)), ""), SourceLine(""))


_IMAGE_OF_ETCD = re.compile(r"(^|/)etcd(:|@|$)")
_IN_A_SCRIPT = re.compile(r"(?:^|[\s;&|(]|bin/)etcd(?:\s*$|\s+[-\"$\\;&|>g])", re.MULTILINE)
"""A start of etcd in a word of a command."""
_MENTION = re.compile(r"\b(?:echo|printf|logger|pgrep|pkill|pidof|killall)\b[^\n;&|]*")
"""A command that names etcd and does not start it."""


def _refuse_other_starts(container: Node, file: str) -> None:
    """Refuse a container that starts etcd in a way that is not read, or may do so.

    Raises:
        UsageError: if it is one.
    """
    name, words = text_at(container, "name"), words_of(container)
    of_image = not items(node_at(container, "command")) and _IMAGE_OF_ETCD.search(text_at(container, "image"))
    in_script = any(_IN_A_SCRIPT.search(_MENTION.sub("", word)) for word in words)
    if not (name == "etcd" or of_image or in_script):
        return
    starts = "what its image decides" if of_image else words[0] if words else "nothing"
    raise UsageError(
        f"{place_of(container, file)}: the container {name or '(no name)'} starts {starts}, not etcd itself: "
        f"{INSTEAD}"
    )


def _owner(pod: Node) -> str:
    """Return what overwrites a pod: the kubelet of a mirror pod, or its controller."""
    metadata = node_at(pod, "metadata")
    if node_at(metadata, "annotations", "kubernetes.io/config.mirror") is not None:
        return f"node {text_at(pod, 'spec', 'nodeName')}"
    for owner in items(node_at(metadata, "ownerReferences")):
        if text_at(owner, "controller") != "false":
            return f"{text_at(owner, 'kind')} {text_at(owner, 'name')}"
    return ""


class _Container:
    """A container that starts etcd, with its variables."""

    def __init__(self, container: Node, pod: Node, where: str, file: str, expansion: Expansion) -> None:
        self._container, self._where, self._file = container, where, file
        self._pod = pod
        self._expansion = expansion
        self._known: dict[str, Variable] = {}

    def started(self) -> ProgramStart:
        """Return how it starts etcd.

        Raises:
            UsageError: if it takes variables from another object.
        """
        for source in items(node_at(self._container, "envFrom")):
            raise not_read(place_of(source, self._file), f"envFrom ({self._where}), which may set anything,")
        entries = items(node_at(self._container, "env"))
        given = [self._variable(entry) for entry in entries if text_at(entry, "name")]
        return ProgramStart(
            program=tuple(
                self._expanded(item)
                for key in ("command", "args")
                for item in items(node_at(self._container, key))
            ),
            # The last one counts. A setting of etcd that is given twice is a mistake, which is found later.
            environment=tuple(
                variable
                for variable in given
                if variable is self._known[variable.name]
                or (variable.name in FLAG_OF and not variable.unresolved)
            ),
            image=text_of(node_at(self._container, "image")),
            run_as=self._run_as(),
        )

    def _run_as(self) -> RunAs | None:
        """Return the user of the security context; the image's groups of that user are not known."""
        of_pod = node_at(self._pod, "spec", "securityContext")
        contexts = (node_at(self._container, "securityContext"), of_pod)
        users = [node for context in contexts if (node := node_at(context, "runAsUser")) is not None]
        groups = [text for context in contexts if (text := text_at(context, "runAsGroup"))]
        if not users or not text_of(users[0]):
            return None
        others = (text_of(item) or "" for item in items(node_at(of_pod, "supplementalGroups")))
        return RunAs(
            place=place_of(users[0], self._file),
            setting="runAsUser",
            user=text_of(users[0]) or "",
            group=groups[0] if groups else "0",
            others=tuple(group for group in (*others, text_at(of_pod, "fsGroup")) if group),
            of_unit=False,
        )

    def mounts(self, volumes: Iterable[Node]) -> Iterator[Mount]:
        """Yield the directories and files of the node that it sees."""
        paths = {text_at(item, "name"): text_at(item, "hostPath", "path").rstrip("/") for item in volumes}
        for mount in items(node_at(self._container, "volumeMounts")):
            inside, outside = text_at(mount, "mountPath").rstrip("/"), paths.get(text_at(mount, "name"))
            below = text_at(mount, "subPath")
            if inside and outside and node_at(mount, "subPathExpr") is None:
                yield Mount(inside, f"{outside}/{below}" if below else outside)

    def _variable(self, node: Node) -> Variable:
        """Return the variable of an entry of ``env``."""
        name, place, value = text_at(node, "name"), place_of(node, self._file), node_at(node, "value")
        if node_at(node, "valueFrom") is not None:
            variable = Variable(name, "", place, f"valueFrom: {self._where}")
        else:
            word = self._expanded(value) if value is not None else Word("", place)
            variable = Variable(name, word.text, place, ", ".join(word.unresolved))
        self._known[name] = variable
        return variable

    def _expanded(self, node: Node) -> Word:
        """Return an argument or a value with ``$(NAME)`` expanded as the kubelet does."""
        missing: list[str] = []

        def value(match: re.Match[str]) -> str:
            name = match[1]
            if name is None:  # $$
                return "$"
            variable = self._known.get(name)
            if variable is None:  # it stays as it is
                if _OF_SERVICES.fullmatch(name):
                    missing.append(f"{name}, of a Service: {self._where}")
                return match[0]
            if variable.unresolved:
                missing.append(f"{variable.name}, {variable.unresolved}")
            return self._expansion.value(variable)

        # Behind the last parenthesis there is no reference, and the search for one would take quadratic time.
        head, end, tail = (text_of(node) or "").rpartition(")")
        text = _REFERENCE.sub(value, head + end) + tail.replace("$$", "$")
        return Word(text, place_of(node, self._file), tuple(missing))


_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")
"""As Kubernetes reads it (third_party/forked/golang/expansion/expand.go): another ``$`` stands for itself."""
_OF_SERVICES = re.compile(r"[A-Z0-9_]+_SERVICE_(HOST|PORT)\w*")
"""Variables that the kubelet makes of Services (enableServiceLinks)."""


def _no_etcd(objects: list[Node], pods: list[Node], file: str) -> str:
    """Return why a manifest has no member, and what to do."""
    if not objects:
        return f"{file} has no objects: kubectl found none with these labels (-l) in this namespace (-n)"
    containers = [item for pod in pods for item in items(node_at(pod, "spec", "containers"))]
    if not containers:
        kinds = dict.fromkeys(text_of(node_at(node, "kind")) or "an object without kind" for node in objects)
        of_secret = "; a Secret is passed as --etcd-secret" if "Secret" in kinds else ""
        return f"{file} has {', '.join(kinds)}, and no pod that runs: {INSTEAD}{of_secret}"
    names = dict.fromkeys(text_at(item, "name") or str(place_of(item, file)) for item in containers)
    neighbour = "pass etcd.yaml beside it" if any("kube-" in name for name in names) else INSTEAD
    return f"{file} runs {', '.join(names)}, and none of these is etcd: {neighbour}"
