"""Pods: those of a manifest that run etcd, and how each starts it.

A manifest is the file of a static pod, or what ``kubectl get pod -o yaml`` or ``-o json`` prints: a pod, a
List, or several documents. Every pod in it that runs etcd is a member.

Only what the file has is read: ``command``, ``args``, ``env`` and their references ``$(NAME)``. The kubelet
expands these with the variables of ``env``, in ``env`` itself with the earlier ones
(pkg/kubelet/kubelet_pods.go, makeEnvironmentVariables). A variable with ``valueFrom`` is *unresolved*: an
error with its place where etcd reads it, and of no interest elsewhere. A container that starts etcd by a
shell, a launcher or its image is refused, and so is one that takes variables from another object
(``envFrom``). The running process has what these make.

Of static pods, the kubelet reads every file of a directory whose name does not begin with a dot, whatever its
suffix (``extractFromDir`` in pkg/kubelet/config/file.go, ``filepath.Glob(filepath.Join(name, "[^.]*"))``), in
the order of the names. So a backup beside a manifest runs too. Of several pods with one name the last one
stays (``cache.Replace`` in client-go's tools/cache/store.go). It lists them at each ``fileCheckFrequency``,
20 seconds by default; between two lists the file counts that was written to last.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct
from yaml.nodes import Node

from pytest_etcdtls.declared.declaration import STATIC_PODS, Mount, PodBeside, RunAs, SourceLine
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
from pytest_etcdtls.declared.yaml_files import (
    MAXIMUM_SIZE,
    documents,
    items,
    node_at,
    place_of,
    text_at,
    text_of,
)
from pytest_etcdtls.errors import UnreadableFileError, UsageError
from pytest_etcdtls.untrusted.regular_files import read_regular


def is_manifest(text: str) -> bool:
    """Return whether a text looks like a Kubernetes object, in YAML or JSON."""
    return bool(re.search(r'(?:^[ \t]*|[{,]\s*)"?(apiVersion|kind)"?\s*:', text, re.MULTILINE))


_MOST_MEMBERS: Final = 1000
_ENDED: Final = frozenset({"Succeeded", "Failed"})
"""Phases of a pod that has ended. The API server keeps an evicted pod for a while."""


def read_pods(text: str, file: str) -> list[ProgramStart]:
    """Return how each pod of a manifest that runs etcd starts it, in the order of the file.

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
    members: dict[str, ProgramStart] = {}
    for pod in pods:
        member = _member(pod, file, expansion)
        if member is not None and member.pod in members:
            raise UsageError(f"{file} has the pod {member.pod} twice: remove one of them")
        if member is not None:
            members[member.pod] = member
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


def _member(pod: Node, file: str, expansion: Expansion) -> ProgramStart | None:
    """Return how the member that runs in a pod is started, if one does.

    Raises:
        UsageError: if several containers run etcd, or in a way that is not read.
    """
    name = text_at(pod, "metadata", "name")
    every = items(node_at(pod, "spec", "containers"))
    containers = [
        _Container(container, pod, f"pod {name}, container {text_at(container, 'name')}", file, expansion)
        for container in every
        if _program(container).is_etcd
    ]
    for node in every if not containers else ():
        _refuse_other_starts(node, file)
    starts = [container.started() for container in containers]
    # A proxy beside a member serves its metrics.
    starts = [started for started in starts if not is_proxy(started)] or starts
    if len(starts) > 1:
        raise UsageError(
            f"{file}: the pod {name} runs etcd {len(starts)} times: keep the container of one member"
        )
    return next(iter(starts), None)


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
            pod="/".join(
                filter(None, (text_at(self._pod, "metadata", key) for key in ("namespace", "name")))
            ),
            owner=_owner(self._pod),
            mounts=tuple(self._mounts()),
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

    def _mounts(self) -> Iterator[Mount]:
        """Yield the directories and files of the node that it sees."""
        volumes = items(node_at(self._pod, "spec", "volumes"))
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


_MOST_FILES: Final = 100


def pods_beside(path: Path, text: str) -> Iterator[PodBeside]:
    """Yield the static pods of the same member in other files of a manifest's directory.

    The manifests of several nodes, copied into one directory, have pods of one name too, of members with
    other names and addresses.
    """
    if path.parent.name not in STATIC_PODS or not (pod := _static_pod(text, str(path))):
        return
    try:
        names = sorted(name for name in os.listdir(path.parent) if not name.startswith("."))[:_MOST_FILES]
    except OSError:
        return
    others: dict[str, tuple[str, _StaticPod]] = {}
    for name in names:
        with suppress(UnreadableFileError, UnicodeDecodeError, UsageError, RecursionError):
            if name != path.name:
                other = read_regular(path.with_name(name), MAXIMUM_SIZE).decode()
                beside = _static_pod(other, name)
                if beside and _is_same_member(pod, beside):
                    others[name] = other, beside
    last = max(path.name, *(name for name, (_, beside) in others.items() if beside.name == pod.name), "")
    for name, (other, beside) in others.items():
        has_same_name = beside.name == pod.name
        yield PodBeside(
            file=str(path.with_name(name)),
            pod=beside.name,
            runs=name == last or not has_same_name,
            has_same_name=has_same_name,
            same=other == text,
        )


class _StaticPod(Struct, frozen=True, kw_only=True):
    """A static pod with etcd.

    Attributes:
        name: its namespace and name.
        member: what ``--name`` is; empty if it is not known.
        peers: hosts and ports that it advertises to peers.
    """

    name: str
    member: str
    peers: frozenset[tuple[str, str]]


def _is_same_member(pod: _StaticPod, other: _StaticPod) -> bool:
    """Return whether two manifests are of the same member, as far as they say.

    Their URLs may have different schemes: a backup may be older than TLS.
    """
    if pod.name != other.name:
        return bool(pod.peers & other.peers)
    if pod.member and pod.member == other.member:
        return True
    if pod.peers and other.peers:
        return bool({host for host, _ in pod.peers} & {host for host, _ in other.peers})
    return not (pod.member and other.member)


def _static_pod(text: str, file: str) -> _StaticPod | None:
    """Return the pod with etcd that the kubelet runs of a file.

    It decodes a file as one object (``tryDecodeSinglePod`` in pkg/kubelet/config/common.go).

    Returns:
        ``None`` if it runs no etcd.

    Raises:
        UsageError: if the file cannot be read.
    """
    first = next(iter(documents(text, file)), None) if is_manifest(text) else None
    name = text_at(first, "metadata", "name")
    if first is None or text_at(first, "kind") != "Pod" or not name:
        return None
    containers = items(node_at(first, "spec", "containers"))
    words = [word for container in containers for word in words_of(container)]
    if not any(re.search(r"(^|[\s/])etcd(\s|$)", word) for word in words):
        return None
    values = {
        text_at(variable, "name"): text_at(variable, "value")
        for container in containers
        for variable in items(node_at(container, "env"))
    }
    given = {name: value for name, value in _IDENTITY.findall(" ".join(words)) if "$" not in value}
    urls = given.get("initial-advertise-peer-urls") or values.get("ETCD_INITIAL_ADVERTISE_PEER_URLS", "")
    return _StaticPod(
        name=f"{text_at(first, 'metadata', 'namespace') or 'default'}/{name}",
        member=given.get("name") or values.get("ETCD_NAME", ""),
        peers=frozenset(_HOST_AND_PORT.findall(urls)),
    )


_IDENTITY: Final = re.compile(r"(?:^|\s)--?(name|initial-advertise-peer-urls)(?:=|\s+)['\"]?([^\s'\"]+)")
_HOST_AND_PORT: Final = re.compile(r"://(\[[^]]*\]|[^:/,]*)(:\d+)?")
