"""Kubernetes manifests: the pods that run etcd, and how each starts it.

A manifest is what an operator has of a pod: the file of a static pod, the output of ``kubectl get -o yaml``
or ``-o json``, of ``helm template``, or several of these in one file. So it is a set of objects, in documents
and in lists, and every pod in it that runs etcd is a member. A StatefulSet stands for its pods, unless these
are in the file as well. ConfigMaps in the file are what its pods take variables and files from.

The kubelet makes the environment and the arguments of a container from it (pkg/kubelet/kubelet_pods.go,
makeEnvironmentVariables): ``envFrom`` first, then ``env``, in which ``$(NAME)`` stands for earlier entries of
``env``; in ``command`` and ``args`` it stands for every variable. What a pod gets only when it runs (its
address, a name that a controller chooses) is known if the file is from the API server, which adds ``status``.
Everything else is *unresolved*: an error with its place where etcd reads it, and of no interest elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from msgspec import Struct
from msgspec.structs import replace
from yaml.nodes import MappingNode, Node, ScalarNode

from pytest_etcdtls.declared.declaration import Mount, SourceLine
from pytest_etcdtls.declared.flags import FLAG_OF
from pytest_etcdtls.declared.shell import (
    Expansion,
    ProgramStart,
    Variable,
    Word,
    find_etcd,
    is_proxy,
)
from pytest_etcdtls.declared.yaml_files import documents, entries, items, node_at, place_of, text_at, text_of
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.untrusted import printable


def is_manifest(text: str) -> bool:
    """Return whether a text looks like a Kubernetes object, in YAML or JSON."""
    return bool(re.search(r'(?:^[ \t]*|[{,]\s*)"?(apiVersion|kind)"?\s*:', text, re.MULTILINE))


class DeclaredPod(Struct, frozen=True, kw_only=True):
    """A pod of a manifest that runs etcd.

    Attributes:
        name: its name, behind its namespace if that is known; unique in the file.
        started: how etcd is started in it.
        mounts: directories and files of the node that the container sees.
        files: files of ConfigMaps that it sees: name of the source and text, by path in the container.
        owner: what overwrites its object; empty if that is not known.
    """

    name: str
    started: ProgramStart
    owner: str = ""
    mounts: tuple[Mount, ...] = ()
    files: Mapping[str, tuple[str, str]] = {}


_MOST_REPLICAS: Final = 99
_MOST_PODS: Final = 1000


def read_manifest(text: str, file: str) -> list[DeclaredPod]:
    """Return the pods of a manifest that run etcd, in the order of the file.

    Raises:
        UsageError: if the text is not YAML, if no container or several containers of a pod run etcd, or if an
            argument or a variable of etcd has a value that is not in the manifest.
    """
    objects = [one for root in documents(text, file) for one in objects_in(root)]
    maps = _ConfigMaps(objects, file)
    named = {_key(one): one for one in objects}
    found = (
        replace(pod, owner=_owner(one, named)) for one in _without_owners(objects) for pod in _pods(one, file)
    )
    pods = [*islice(found, _MOST_PODS + 1)]
    if len(pods) > _MOST_PODS:
        raise UsageError(f"{file} has more than {_MOST_PODS} pods: leave those of etcd (kubectl get pod -l)")
    expansion = Expansion()
    members = [member for pod in pods for member in _member(pod, maps, file, expansion)]
    if not members:
        raise UsageError(_no_etcd(objects, pods, file))
    for number, member in enumerate(members):
        if any(member.name == other.name for other in members[:number]):
            raise UsageError(f"{file} has the pod {printable(member.name, 200)} twice: leave one of them")
    return members


def objects_in(root: Node) -> list[Node]:
    """Return the objects of a document. Those of a typed list, such as ``PodList``, have no kind."""
    kind = text_at(root, "kind")
    if not kind.endswith("List"):
        return [root]
    members = [
        _with_kind(one, kind.removesuffix("List")) if node_at(one, "kind") is None else one
        for one in items(node_at(root, "items"))
    ]
    return [one for member in members for one in objects_in(member)]


def _with_kind(node: Node, kind: str) -> Node:
    if not isinstance(node, MappingNode):
        return node
    texts = (ScalarNode(_STRING, text, node.start_mark, node.end_mark) for text in ("kind", kind))
    return MappingNode(node.tag, [*node.value, tuple(texts)], node.start_mark, node.end_mark)


_STRING: Final = "tag:yaml.org,2002:str"


def _without_owners(objects: Sequence[Node]) -> Iterator[Node]:
    """Yield the objects without the controllers of pods that are in the file themselves, and run."""
    owners = {
        (text_at(reference, "kind"), text_at(reference, "name"), text_at(one, "metadata", "namespace"))
        for one in objects
        if text_at(one, "status", "phase") not in _ENDED
        for reference in items(node_at(one, "metadata", "ownerReferences"))
    }
    for one in objects:
        if _key(one) not in owners:
            yield one


def _key(one: Node) -> tuple[str, str, str]:
    return text_at(one, "kind"), text_at(one, "metadata", "name"), text_at(one, "metadata", "namespace")


def _owner(root: Node, objects: Mapping[tuple[str, str, str], Node]) -> str:
    """Return what overwrites an object: Helm, a kubelet, or the last of its controllers that is known."""
    owner, above = "", [root]
    while True:
        metadata = node_at(above[-1], "metadata")
        if node_at(metadata, "annotations", "kubernetes.io/config.mirror") is not None:
            return f"node {text_at(above[-1], 'spec', 'nodeName')}"
        labels = node_at(metadata, "labels")
        if "Helm" in (text_at(labels, "app.kubernetes.io/managed-by"), text_at(labels, "heritage")):
            release = text_at(metadata, "annotations", "meta.helm.sh/release-name")
            release = release or text_at(labels, "app.kubernetes.io/instance") or text_at(labels, "release")
            return f"Helm release {release}".rstrip()
        references = items(node_at(metadata, "ownerReferences"))
        controller = next((one for one in references if text_at(one, "controller") != "false"), None)
        if controller is None:
            return owner
        kind, name = (text_at(controller, key) for key in ("kind", "name"))
        owner, next_one = f"{kind} {name}", objects.get((kind, name, text_at(metadata, "namespace")))
        if next_one is None or next_one in above:
            return owner
        above.append(next_one)


class _Pod(Struct, frozen=True, kw_only=True):
    """A pod as far as its manifest has it.

    Attributes:
        name: its name in the cluster; empty if that is not known.
        shown: a name for messages.
        fields: the object whose metadata and fields are its own: the pod, or the template of its pods.
        lives: whether the manifest is from the API server, and has its status.
        labels: labels that its controller adds to those of the manifest.
        replicas: the number of pods with the same manifest.
        owner: what overwrites its object; empty if that is not known.
    """

    name: str
    shown: str
    namespace: str
    fields: Node
    spec: Node
    lives: bool = False
    labels: Mapping[str, str] = {}
    replicas: int = 1
    owner: str = ""

    def field(self, path: str) -> str | None:
        """Return a field (``fieldRef``); ``None`` if the manifest does not have it."""
        if path == "metadata.name":
            return self.name or None
        if path == "metadata.namespace":
            return self.namespace or None
        keyed = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
        if keyed:
            written = text_of(node_at(self.fields, "metadata", keyed[1], keyed[2]))
            added = self.labels.get(keyed[2]) if keyed[1] == "labels" else None
            # The API server has all of them, and one that a pod does not have is empty.
            return added or written or ("" if self.lives else None)
        if not self.lives:
            return None
        value = node_at(self.fields, *path.split("."))
        if path in ("status.podIPs", "status.hostIPs"):
            return ",".join(text_at(address, "ip") for address in items(value)) or None
        return text_of(value)


def _pods(root: Node, file: str) -> Iterator[_Pod]:
    """Yield the pods of an object, one for each replica of a StatefulSet."""
    name, namespace = (text_at(root, "metadata", key) for key in ("name", "namespace"))
    template = node_at(root, "spec", "template")
    fields = template if template is not None else root
    spec = node_at(fields, "spec")
    if spec is None or not items(node_at(spec, "containers")):
        return
    pod = _Pod(name="", shown=name or "(no name)", namespace=namespace, fields=fields, spec=spec)
    if template is None:
        if text_at(root, "status", "phase") in _ENDED:
            return
        # The kubelet appends the node's name to that of a static pod (pkg/kubelet/config/common.go).
        status = node_at(root, "status")
        lives = isinstance(status, MappingNode) and bool(status.value)
        yield replace(pod, name=name if lives else "", lives=lives)
        return
    replicas = _number(node_at(root, "spec", "replicas"), 1, file)
    if text_at(root, "kind") != "StatefulSet" or not name:
        if replicas:
            yield pod
        return
    # pkg/controller/statefulset/stateful_set_utils.go: getPodName, and updateIdentity for the labels
    first = _number(node_at(root, "spec", "ordinals", "start"), 0, file)
    for ordinal in range(first, first + min(replicas, _MOST_REPLICAS + 1)):
        whole = f"{name}-{ordinal}"
        labels = {_POD_NAME: whole, "apps.kubernetes.io/pod-index": str(ordinal)}
        yield replace(pod, name=whole, shown=whole, labels=labels, replicas=replicas)


_ENDED: Final = frozenset({"Succeeded", "Failed"})
"""Phases of a pod that has ended. The API server keeps an evicted pod for a while."""
_POD_NAME: Final = "statefulset.kubernetes.io/pod-name"


def _number(node: Node | None, default: int, file: str) -> int:
    text = text_of(node)
    if node is None or text is None:
        return default
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise UsageError(f"{place_of(node, file)}: {printable(text, 20)!r} is not a number of pods")
    return int(text)


class _ConfigMaps:
    """The ConfigMaps of a file. One without a namespace is in that of its pod."""

    def __init__(self, objects: Iterable[Node], file: str) -> None:
        self._file = file
        self._maps = [one for one in objects if text_at(one, "kind") == "ConfigMap"]

    def data(self, name: str, pod: _Pod) -> Node | None:
        """Return the data of a ConfigMap; ``None`` if it is not in the file."""
        for one in self._maps:
            namespace = text_at(one, "metadata", "namespace")
            if text_at(one, "metadata", "name") == name and (
                not namespace or not pod.namespace or namespace == pod.namespace
            ):
                return node_at(one, "data") or MappingNode("tag:yaml.org,2002:map", [])
        return None

    def text(self, node: Node, name: str, key: str) -> tuple[str, str]:
        """Return source and text of a value that is a file. Lines of a literal block keep their numbers."""
        text = text_of(node) or ""
        if isinstance(node, ScalarNode) and node.style == "|":
            return self._file, "\n" * (node.start_mark.line + 1) + text
        return f"{self._file}: {printable(key, 100)} of the ConfigMap {printable(name, 100)}", text


def _containers(spec: Node) -> list[Node]:
    """Return the containers that run all the time: these, and sidecars among the initial ones."""
    sidecars = [
        one for one in items(node_at(spec, "initContainers")) if text_at(one, "restartPolicy") == "Always"
    ]
    return [*sidecars, *items(node_at(spec, "containers"))]


def _member(pod: _Pod, maps: _ConfigMaps, file: str, expansion: Expansion) -> Iterator[DeclaredPod]:
    """Yield the member that runs in a pod, if any.

    Raises:
        UsageError: if several containers run etcd, or in a way that is not read.
    """
    environments = [_Environment(one, pod, maps, file, expansion) for one in _containers(pod.spec)]
    starts = [(one, started) for one in environments if (started := _started(one)) is not None]
    # A proxy beside a member serves its metrics.
    starts = [(one, started) for one, started in starts if not is_proxy(started)] or starts
    if len(starts) > 1:
        runs = printable(", ".join(text_at(one.container, "name") or "(no name)" for one, _ in starts))
        raise UsageError(
            f"{file}: the pod {printable(pod.shown, 100)} runs etcd {len(starts)} times ({runs}): leave the "
            "container of one member"
        )
    if starts and pod.replicas > _MOST_REPLICAS:
        raise UsageError(f"{file}: the StatefulSet of {printable(pod.shown, 100)} has {pod.replicas} members")
    for environment, started in starts:
        yield DeclaredPod(
            name=f"{pod.namespace}/{pod.shown}" if pod.namespace else pod.shown,
            started=replace(started, image=text_of(node_at(environment.container, "image"))),
            mounts=tuple(_mounts(environment)),
            files=dict(_mounted_files(environment, maps)),
            owner=printable(pod.owner, 200),
        )


_IMAGE_OF_ETCD = re.compile(r"(^|/)etcd(:|@|$)")


def _started(environment: _Environment) -> ProgramStart | None:
    """Return how a container starts etcd; ``None`` if it runs something else.

    Raises:
        UsageError: if etcd is started in a way that is not read, or takes variables from elsewhere.
    """
    container = environment.container
    words = [
        environment.expanded(one) for key in ("command", "args") for one in items(node_at(container, key))
    ]
    everything = (*environment.of_runtime(), *environment.variables)
    started = find_etcd(words, everything, environment.expansion)
    if started is not None:
        environment.refuse_unknown_sources()
    return started


class _Environment:
    """The variables of a container."""

    def __init__(
        self, container: Node, pod: _Pod, maps: _ConfigMaps, file: str, expansion: Expansion
    ) -> None:
        self.container, self.pod, self.file, self.expansion = container, pod, file, expansion
        self._maps = maps
        self._where = printable(
            f"pod {pod.shown}, container {text_at(container, 'name') or '(no name)'}", 200
        )
        self._unknown_sources: list[tuple[SourceLine, str]] = []
        self._unknown_prefixes: list[str] = []
        from_sources = [
            variable for one in items(node_at(container, "envFrom")) for variable in self._of_source(one)
        ]
        self._known: dict[str, Variable] = {}
        own = [variable for one in items(node_at(container, "env")) for variable in self._of_entry(one)]
        last = {variable.name: variable for variable in own}
        self.variables = (
            *{one.name: one for one in from_sources if one.name not in last}.values(),
            # A setting that is given twice is a mistake; one that replaces that of an object is usual.
            *(one for one in own if one is last[one.name] or (one.name in FLAG_OF and not one.unresolved)),
        )
        self._known = {variable.name: variable for variable in self.variables}

    def of_runtime(self) -> Iterator[Variable]:
        """Yield ``HOSTNAME``, which the runtime adds, and no ``$(HOSTNAME)`` stands for."""
        name = text_at(self.pod.spec, "hostname") or self.pod.name
        if name and text_at(self.pod.spec, "hostNetwork") != "true":
            yield Variable("HOSTNAME", name, place_of(self.pod.spec, self.file))

    def refuse_unknown_sources(self) -> None:
        """Refuse variables of etcd from an object that is not in the file.

        Raises:
            UsageError: if there are any.
        """
        for place, source in self._unknown_sources:
            what, way = "is not in this file", "add it (kubectl get statefulset,configmap -o yaml)"
            if source.startswith("Secret "):
                what = "is not read"
                way = "pass the running etcd's (the output of cat /proc/PID/environ /proc/PID/cmdline)"
            raise UsageError(
                f"{place}: etcd takes variables from the {source}, which {what}, and they may set anything: "
                f"{way}, or write them under env"
            )

    def expanded(self, node: Node) -> Word:
        """Return an argument or a value with ``$(NAME)`` expanded as the kubelet does."""
        missing: list[str] = []

        def value(match: re.Match[str]) -> str:
            name = match[1]
            if name is None:  # $$
                return "$"
            variable = self._known.get(name)
            if variable is None:  # it stays as it is, unless it comes from an object that is not here
                if _OF_SERVICES.fullmatch(name):
                    missing.append(f"{printable(name, 100)}, of a Service: {self._where}")
                elif name.startswith(tuple(self._unknown_prefixes)):
                    missing.append(f"{printable(name, 100)}, of a Secret or ConfigMap: {self._where}")
                return match[0]
            if variable.unresolved:
                missing.append(f"{variable.name}, {variable.unresolved}")
            return self.expansion.value(variable)

        # Behind the last parenthesis there is no reference, and the search for one would take quadratic time.
        head, end, tail = (text_of(node) or "").rpartition(")")
        text = _REFERENCE.sub(value, head + end) + tail.replace("$$", "$")
        place = place_of(node, self.file)
        if isinstance(node, ScalarNode) and node.style in ("|", ">"):
            place = place.below(1)  # the text begins on the line after the indicator
        return Word(text, place, tuple(missing))

    def _of_source(self, source: Node) -> Iterator[Variable]:
        """Yield the variables of an entry of ``envFrom``."""
        for kind, key in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
            if node_at(source, key) is None:
                continue
            name = text_at(source, key, "name")
            data = self._maps.data(name, self.pod) if kind == "ConfigMap" else None
            prefix = text_at(source, "prefix")
            if data is None:
                if any(one.startswith(prefix) or prefix.startswith(one) for one in _READ_BY_ETCD):
                    shown = f"{kind} {printable(name, 100)}"
                    self._unknown_sources.append((place_of(source, self.file), shown))
                else:
                    self._unknown_prefixes.append(prefix)
            for entry in entries(data, self.file):
                value = text_of(entry.value) or ""
                yield Variable(prefix + entry.key, value, entry.place)

    def _of_entry(self, node: Node) -> Iterator[Variable]:
        """Yield the variable of an entry of ``env``, none if its optional source does not have it."""
        name, place, source = text_at(node, "name"), place_of(node, self.file), node_at(node, "valueFrom")
        if not name:
            return
        if source is None:
            value = node_at(node, "value")
            word = self.expanded(value) if value is not None else Word("", place)
            variable = Variable(name, word.text, place, ", ".join(word.unresolved))
        else:
            found = self._of_reference(source)
            if found is None:
                return
            value_of_source, unresolved = found
            variable = Variable(name, value_of_source, place, unresolved)
        self._known[name] = variable
        yield variable

    def _of_reference(self, source: Node) -> tuple[str, str] | None:
        """Return value, or why it is not known, of ``valueFrom``; ``None`` if it is not set."""
        if path := text_at(source, "fieldRef", "fieldPath"):
            value = self.pod.field(path)
            phase = text_at(self.pod.fields, "status", "phase") or "unknown"
            hint = f"its phase is {phase}" if self.pod.lives else "kubectl get pod -o yaml has it"
            where = f"{self._where}; {printable(hint, 100)}"
            return (value, "") if value is not None else ("", f"{printable(path, 100)}: {where}")
        name, key = (text_at(source, "configMapKeyRef", one) for one in ("name", "key"))
        data = self._maps.data(name, self.pod) if name else None
        if data is not None:
            value = text_of(node_at(data, key))
            if value is not None:
                return value, ""
            if text_at(source, "configMapKeyRef", "optional") == "true":
                return None
        kind = next((entry.key for entry in entries(source, self.file)), "valueFrom")
        name, key = (text_at(source, kind, one) for one in ("name", "key"))
        described = f"key {key} of the {_KINDS[kind]} {name}" if kind in _KINDS else kind
        return "", f"{printable(described, 200)}: {self._where}"


_READ_BY_ETCD: Final = ("ETCD_", "GODEBUG", "SSL_CERT_")
"""How the names of variables begin that etcd or Go reads."""
_KINDS: Final = {"configMapKeyRef": "ConfigMap", "secretKeyRef": "Secret"}
_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")
"""As Kubernetes reads it (third_party/forked/golang/expansion/expand.go): another ``$`` stands for itself."""
_OF_SERVICES = re.compile(r"[A-Z0-9_]+_SERVICE_(HOST|PORT)\w*")
"""Variables that the kubelet makes of Services (enableServiceLinks)."""


def _mounts(environment: _Environment) -> Iterator[Mount]:
    """Yield the mounts of directories of the node, and of Secrets and ConfigMaps."""
    for volume, mount, below in _volumes(environment):
        inside, host = text_at(mount, "mountPath").rstrip("/"), text_at(volume, "hostPath", "path")
        if inside and host:
            yield Mount(inside, host.rstrip("/") + (f"/{below}" if below else ""))
        for name, paths in _sources(volume, "secret", "configMap"):
            for key, path in paths.items():
                if below in ("", path):
                    yield Mount(inside if below else f"{inside}/{path}", f"{name}/{key}")
            if not paths:
                yield Mount(inside, f"{name}/{below}" if below else name)


def _volumes(environment: _Environment) -> Iterator[tuple[Node, Node, str]]:
    """Yield volume and mount of each volume that a container sees, and what of it, empty for all of it."""
    volumes = {text_at(volume, "name"): volume for volume in items(node_at(environment.pod.spec, "volumes"))}
    for mount in items(node_at(environment.container, "volumeMounts")):
        volume, below = volumes.get(text_at(mount, "name")), _sub_path(mount, environment)
        if volume is not None and below is not None:
            yield volume, mount, below


def _sources(volume: Node, *kinds: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the Secrets and ConfigMaps in a volume: the name, and paths by key if they are not the keys."""
    for one in (volume, *items(node_at(volume, "projected", "sources"))):
        for source in (node_at(one, kind) for kind in kinds):
            if name := text_at(source, "secretName") or text_at(source, "name"):
                paths = {
                    text_at(item, "key"): text_at(item, "path") for item in items(node_at(source, "items"))
                }
                yield name, paths


def _sub_path(mount: Node, environment: _Environment) -> str | None:
    """Return what of a volume is mounted, empty for all of it; ``None`` if that is not known."""
    node = node_at(mount, "subPathExpr")
    if node is None:
        return text_at(mount, "subPath")
    word = environment.expanded(node)
    return None if word.unresolved else word.text


def _mounted_files(environment: _Environment, maps: _ConfigMaps) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield path, source and text of each file of a ConfigMap that a container sees."""
    for volume, mount, below in _volumes(environment):
        inside = text_at(mount, "mountPath").rstrip("/")
        for name, paths in _sources(volume, "configMap"):
            data = maps.data(name, environment.pod)
            for entry in entries(data, ""):
                path = paths.get(entry.key, "") if paths else entry.key
                if path and below in ("", path):
                    whole = inside if below else f"{inside}/{path}"
                    yield whole, maps.text(entry.value, name, entry.key)


def _no_etcd(objects: Sequence[Node], pods: Sequence[_Pod], file: str) -> str:
    kinds = [text_of(node_at(one, "kind")) or "an object without kind" for one in objects]
    if not objects:
        return f"{file} has no objects: kubectl found none with these labels (-l) in this namespace (-n)"
    if not pods:
        way = next((instead for kind, instead in _INSTEAD.items() if kind in kinds), _OF_KUBEADM)
        scaled = next((one for one in objects if text_at(one, "spec", "replicas") == "0"), None)
        if scaled is not None:
            way = f"{printable(text_at(scaled, 'metadata', 'name'), 100)} has 0 replicas"
        described = printable(", ".join(dict.fromkeys(kinds)))
        return f"{file} is a manifest of {described}, not of a pod that runs etcd: {way}"
    containers = [one for pod in pods for one in _containers(pod.spec)]
    names = [text_at(one, "name") or str(place_of(one, file)) for one in containers]
    runs = printable(", ".join(dict.fromkeys(names)))
    hint = ": its neighbour etcd.yaml is meant" if "kube-" in runs else ""
    for name, one in zip(names, containers, strict=True):
        command = items(node_at(one, "command"))
        if command and (name == "etcd" or _IMAGE_OF_ETCD.search(text_at(one, "image"))):
            starts = printable(text_of(command[0]) or "", 100)
            hint = (
                f" itself: {printable(name, 100)} starts {starts}. If that starts etcd, pass the command "
                "line of the running etcd (the output of cat /proc/PID/environ /proc/PID/cmdline)"
            )
    return f"{file} runs {runs}, and none of these is etcd{hint}"


_OF_KUBEADM: Final = "kubeadm writes that to /etc/kubernetes/manifests/etcd.yaml"
_OF_OPERATOR: Final = "pass what its operator makes of it (kubectl get statefulset,pod,configmap -o yaml)"
_INSTEAD: Final = {
    "ClusterConfig": "k0s starts etcd without a file: pass the command line of the running etcd (the output "
    "of cat /proc/PID/environ /proc/PID/cmdline)",
    "Cluster": "kOps writes that to /etc/kubernetes/manifests/etcd.manifest on a control plane node",
    "EtcdCluster": _OF_OPERATOR,
    "Etcd": _OF_OPERATOR,
    "HostedCluster": _OF_OPERATOR,
    "HostedControlPlane": _OF_OPERATOR,
    "ConfigMap": "put it into one file with the pods that use it (kubectl get statefulset,configmap -o yaml)",
    "Secret": "pass it as --etcd-secret",
}
"""Objects from which etcd is configured, and what to pass instead."""
