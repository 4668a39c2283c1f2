"""Static pods: which files of a directory the kubelet runs, and which of them are the same member of etcd.

The kubelet reads every file there whose name does not begin with a dot, whatever its suffix
(``extractFromDir`` in pkg/kubelet/config/file.go, ``filepath.Glob(filepath.Join(name, "[^.]*"))``), in the
order of the names. So a backup beside a manifest runs too. Of several pods with one name the last one stays
(``cache.Replace`` in client-go's tools/cache/store.go). It lists them at each ``fileCheckFrequency``, 20
seconds by default; between two lists the file counts that was written to last.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from pytest_etcdtls.declared.declaration import PodBeside
from pytest_etcdtls.declared.pod import is_manifest, words_of
from pytest_etcdtls.declared.yaml_files import MAXIMUM_SIZE, documents, items, node_at, text_at
from pytest_etcdtls.errors import UnreadableFileError, UsageError
from pytest_etcdtls.untrusted.regular_files import read_regular

_STATIC_PODS: Final = frozenset({"manifests", "pod-manifests"})
"""Names of the directories that kubelets read: kubeadm's, OpenShift's and kOps', and RKE2's."""
_MOST_FILES: Final = 100


def pods_beside(path: Path, text: str) -> Iterator[PodBeside]:
    """Yield the static pods of the same member in other files of a manifest's directory.

    The manifests of several nodes, copied into one directory, have pods of one name too, of members with
    other names and addresses.
    """
    if path.parent.name not in _STATIC_PODS or not (pod := _static_pod(text, str(path))):
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
