"""The clusters of ``--etcd-clusters``: a list in TOML or YAML, and the settings of each.

A cluster has what its entry says, and else what the command line and the ini file say, with two exceptions.
An option that names a cluster is no default for another one. And options that belong together (certificate
and key, user and password) are taken all from one place, since a key from the command line beside a
certificate from the list would be a pair that nobody has named. etcdctl's variables name one cluster, and are
not used.

A list may be from somebody else. The first line of a password file is sent to a server that the list names,
so these files must be under the directory of the list.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace
from yaml.nodes import MappingNode, Node, SequenceNode

from pytest_etcdtls.declared.yaml_files import boolean_of, documents, entries, items, text_of
from pytest_etcdtls.errors import UsageError, did_you_mean
from pytest_etcdtls.profiles.toml_files import parse_toml
from pytest_etcdtls.settings import MAXIMUM_SIZE, STDIN, Source, integer, option, read_input
from pytest_etcdtls.settings.endpoints import ROLES
from pytest_etcdtls.settings.etcd_pid import read_declared
from pytest_etcdtls.settings.port_credentials import KEY_PASSWORD
from pytest_etcdtls.settings.read import Settings, live_targets, read_judging
from pytest_etcdtls.target import LABEL, Target, is_label, unique

Value = str | bool | tuple[str, ...]

_LISTS: Final = (
    *("endpoint", "peer-endpoint", "metrics-endpoint", "client-http-endpoint", "connect-to"),
    *("expect-cert", "expect-peer-cert", "config", "log", "check", "profile"),
)
_TEXTS: Final = (
    *("cacert", "cert", "key", "key-password-file", "peer-cacert", "peer-cert", "peer-key", "trusted-ca"),
    *("peer-trusted-ca", "ca-key", "peer-ca-key", "kubernetes-ca", "user", "password-file", "pki-dir"),
    *("secret", "expiry-days", "waivers", "timeout", "concurrency", "max-connections"),
)
_FLAGS: Final = ("discover", "strict", "allow-unverified", "gentle")
_LABEL: Final = "label"
KEYS: Final = (
    _LABEL,
    *(f"{name}s" if name.endswith("endpoint") else name for name in (*_LISTS, *_TEXTS, *_FLAGS)),
)
"""What can be said of a cluster: the options of that name without ``--etcd-``; endpoints in the plural."""

_ITS_OWN: Final = frozenset({*ROLES, "etcd_config", "etcd_pid"})
"""Options that name a cluster. They are no default for the clusters of a list."""
_TOGETHER: Final = (
    frozenset({"etcd_cert", "etcd_key", "etcd_secret"}),
    frozenset({"etcd_peer_cert", "etcd_peer_key"}),
    frozenset({"etcd_user", "etcd_password_file"}),
)
"""Options of which a cluster takes all from one place."""


class Shard(Struct, frozen=True):
    """One of several parts of a list; ``number`` counts from 1.

    A cluster belongs to part ``1 + SHA-256(label) mod of``; of the hash, the first 8 octets are taken as a
    big-endian number. It does not depend on the other clusters.
    """

    number: int = 1
    of: int = 1

    def holds(self, label: str) -> bool:
        """Return whether the cluster of that label belongs to this part."""
        return int.from_bytes(hashlib.sha256(label.encode()).digest()[:8]) % self.of == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def read_shard(text: str | None, environment: Mapping[str, str]) -> Shard:
    """Return the part that ``--etcd-shard`` names; all of the list without it.

    Args:
        text: ``K/N``, or ``N`` in a Job of Kubernetes with completion mode Indexed.
        environment: with ``JOB_COMPLETION_INDEX``, which such a Job sets, from 0.

    Raises:
        UsageError: if it is no such part.
    """
    if text is None:
        return Shard()
    where = f"--etcd-shard {text!r}"
    match = re.fullmatch(r"(?:(\d{1,6})/)?(\d{1,6})", text)
    if not match:
        raise UsageError(f"{where}: write K/N, the part K of N, as in 3/10")
    number, of = match[1], int(match[2])
    if number is None:
        index = environment.get("JOB_COMPLETION_INDEX", "")
        if not re.fullmatch(r"\d{1,6}", index):
            raise UsageError(
                f"{where} takes K from JOB_COMPLETION_INDEX, which is set in a Job of Kubernetes with "
                "completionMode Indexed, and not here: write K/N, as in 3/10"
            )
        number = str(int(index) + 1)
    if not 1 <= int(number) <= of:
        raise UsageError(f"{where}: there is no part {int(number)} of {of}")
    return Shard(int(number), of)


class ListedCluster(Struct, frozen=True):
    """One cluster of a list.

    Attributes:
        values: what is said of it, by option name.
        file: the name of its report, no other one's where upper and lower case are the same.
    """

    label: str
    values: Mapping[str, Value]
    file: str = ""


class ClusterSource(Source):
    """The settings of one cluster: its own, with relative paths in a directory, else those of the run.

    Without a run, nothing is given but what the entry says.
    """

    def __init__(
        self, cluster: ListedCluster, where: str, directory: Path, base: Source | None = None
    ) -> None:
        self._own = cluster.values
        self._where = where
        self._directory = directory
        self._base = base
        groups = [group for group in _TOGETHER if group & self._own.keys()]
        ca = {"etcd_cacert"} if "etcd_secret" in self._own else ()  # which the Secret has
        self._closed = _ITS_OWN.union(self._own, ca, *groups)
        # etcdctl's variables name one cluster.
        variables = base.environment if base else {}
        self.environment = {key: value for key, value in variables.items() if key == KEY_PASSWORD}

    def _elsewhere(self, name: str) -> Source | None:
        """Return the settings of the run if they decide about an option."""
        return None if name in self._closed else self._base

    def standard_input(self, name: str) -> bytes:
        """Return that of the run, if it names it."""
        base = self._elsewhere(name)
        return base.standard_input(name) if base else super().standard_input(name)

    def value(self, name: str) -> object:
        """Return the value; ``None`` if it is not given."""
        base = self._elsewhere(name)
        return base.value(name) if base else self._own.get(name)

    def directory(self, name: str) -> Path:
        """Return the directory of relative paths."""
        base = self._elsewhere(name)
        return base.directory(name) if base else self._directory

    def origin(self, name: str) -> str:
        """Return what has the entry, if that gives the value."""
        base = self._elsewhere(name)
        return base.origin(name) if base else self._where


class ClusterList:
    """The clusters of a run, in the order of the list.

    Args:
        name: the file, or ``-``.
        text: its content.
        source: the settings of the run, which hold where a cluster says nothing else.
        shard: the part of the list that is judged.
        waive: whether waivers are in force.

    Raises:
        UsageError: if it is not a list of clusters, or a cluster has an unknown key.
    """

    def __init__(self, name: str, text: str, source: Source, shard: Shard, *, waive: bool = True) -> None:
        self.text = text
        self._waive = waive
        self.where = f"{option('etcd_clusters')} {name}"
        path = None if name == STDIN else source.resolve("etcd_clusters", name)
        self._directory = path.parent if path else source.resolve("etcd_clusters", ".")
        self._own = path.parent.resolve() if path else None  # standard input has no directory
        self._source = source
        every = tuple(_clusters(self.where, text, path.suffix if path else ""))
        self.total = len(every)
        self.shard = shard
        self.clusters = tuple(cluster for cluster in every if shard.holds(cluster.label))

    def settings(self, cluster: ListedCluster) -> Settings:
        """Return how one cluster is judged. Its files are read, and nothing is kept of it.

        Raises:
            UsageError: if a value cannot be used.
        """
        source = ClusterSource(cluster, self.where, self._directory, self._source)
        try:
            self._refuse_other_files(source)
            settings = read_judging(source, live=True, waive=self._waive)
            [target] = settings.live
            _refuse_without_listener(target)
        except UsageError as error:
            raise UsageError(f"{self.where}, cluster {cluster.label!r}: {error}") from error
        return replace(settings, live=(dataclasses.replace(target, label=cluster.label),))

    def _refuse_other_files(self, source: ClusterSource) -> None:
        """Refuse a password file outside the directory of the list: its first line is sent to a server."""
        name = "etcd_password_file"
        file = source.path(name) if source.origin(name) else None
        if file is None or self._source.flag("etcd_clusters_trusted"):
            return
        # A link in the directory may lead anywhere.
        if self._own is None or not file.resolve().is_relative_to(self._own):
            where, do = "outside the directory of the list", "move it there"
            if self._own is None:
                where, do = "named by a list without a directory", "write the list to a file beside it"
            raise UsageError(
                f"password-file {file} is {where}, and its first line is sent to the cluster: {do}, or pass "
                "--etcd-clusters-trusted if you trust the list"
            )


def live_target(label: str = "live", **entry: str | Path | bool | Sequence[str | Path]) -> Target:
    """Return a live cluster as a target: nothing connects before it is observed.

    .. code-block:: python

        live_target(
            endpoints=["https://10.0.0.11:2379"],
            peer_endpoints=["https://10.0.0.11:2380"],
            cacert="ca.crt", cert="client.crt", key="client.key",
        )

    Args:
        label: label of the target.
        entry: what an entry of a list of ``--etcd-clusters`` may say, with ``_`` for ``-``: ``endpoints``,
            ``peer_endpoints``, ``cacert``, ``cert``, ``key``, ``peer_cert``, ``config``, ``pki_dir`` ...
            Paths are relative to the working directory.

    Raises:
        UsageError: for an unknown key, or an endpoint or a file that cannot be used.
    """
    where = f"live_target({label!r})"
    if not is_label(label):
        raise UsageError(f"{where}: it needs a label of {LABEL}")
    table = {key.replace("_", "-"): _written(value) for key, value in entry.items()}
    cluster = ListedCluster(label, dict(_values(where, table)))
    source = ClusterSource(cluster, where, Path.cwd())
    try:
        [target] = live_targets(source, read_declared(source))
        _refuse_without_listener(target)
        days = integer(source, "etcd_expiry_days", 30, least=0)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    return dataclasses.replace(target, label=label, expiry_days=days)


def _refuse_without_listener(target: Target) -> None:
    if not target.listeners:
        raise UsageError("it names no listener: give it endpoints, or config with a declaration")


def _written(value: str | Path | bool | Sequence[str | Path]) -> object:
    """Return a value in the form that a list in TOML has."""
    if isinstance(value, str | bool):
        return value
    return str(value) if isinstance(value, Path) else [*map(str, value)]


def read_list(source: Source, name: str) -> str:
    """Return the text of a list, from a file or from standard input.

    Raises:
        UsageError: if it cannot be read, is too large or is not text.
    """
    return read_input(source, "etcd_clusters", name, smaller="split the list into several files", form=_FORM)


def _clusters(where: str, text: str, suffix: str) -> Iterator[ListedCluster]:
    known: set[str] = set()
    files: set[str] = set()
    for number, table in enumerate(_tables(where, text, suffix), 1):
        label = table.get(_LABEL)
        at = f"{where}, cluster {number}" + (f" ({label!r})" if isinstance(label, str) else "")
        if not isinstance(label, str) or not is_label(label):
            raise UsageError(f"{at}: it needs a label of {LABEL}")
        if label in known:
            raise UsageError(f"{at}: another cluster has that label: give each its own")
        known.add(label)
        stem = re.sub(r"^\.", "_", label)
        folded = unique(stem.lower(), files)
        files.add(folded)
        yield ListedCluster(label, dict(_values(at, table)), f"{stem}{folded[len(stem) :]}.json")
    if not known:
        raise UsageError(f"{where} names no cluster: {_FORM}")


_FORM: Final = (
    "write [[cluster]] tables in TOML, or a list in YAML, each with a label and endpoints, as in "
    '[[cluster]] label = "prod-1" endpoints = ["https://10.0.0.11:2379"]'
)


def _tables(where: str, text: str, suffix: str) -> Sequence[Mapping[str, Any]]:
    if suffix == ".toml" or (
        suffix not in (".yaml", ".yml", ".json")
        and re.search(r"^\s*\[\[\s*clusters?\s*\]\]", text, re.MULTILINE)
    ):
        content: object = parse_toml(text, where)
    else:
        roots = documents(text, where, MAXIMUM_SIZE)
        content = _plain(roots[0], where) if len(roots) == 1 else roots or {}
    if isinstance(content, dict):
        unknown = [name for name in content if name not in ("cluster", "clusters")]
        if unknown:
            # A key of another form is not shown: the file may be one with a password.
            key = f"{unknown[0]!r} " if re.fullmatch(r"[A-Za-z][A-Za-z_-]{0,30}", unknown[0]) else ""
            raise UsageError(f"{where}: unknown key {key}beside the clusters: {_FORM}")
        content = content.get("cluster", content.get("clusters", []))
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        raise UsageError(f"{where} is not a list of clusters: {_FORM}")
    return content


def _plain(node: Node, where: str) -> object:
    """Return a YAML node as Python values: numbers as they are written, null as ``None``."""
    match node:
        case MappingNode():
            values: dict[str, object] = {}
            for entry in entries(node, where):
                if entry.key in values:
                    raise UsageError(f"{entry.place}: {entry.key!r} is given twice")
                values[entry.key] = _plain(entry.value, where)
            return values
        case SequenceNode():
            return [_plain(item, where) for item in items(node)]
    boolean = boolean_of(node)
    return text_of(node) if boolean is None else boolean


def _values(at: str, table: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
    for key, value in table.items():
        name = key.removesuffix("s") if key.endswith("endpoints") else key
        if name == _LABEL or value is None:
            continue
        if name not in (*_LISTS, *_TEXTS, *_FLAGS):
            meant = did_you_mean(key, KEYS) or f"; there are {', '.join(KEYS)}"
            raise UsageError(f"{at}: unknown key {key!r}{meant}")
        yield f"etcd_{name.replace('-', '_')}", _value(f"{at}, {key}", name, value)


def _value(at: str, name: str, value: object) -> Value:
    if name in _FLAGS:
        if not isinstance(value, bool):
            raise UsageError(f"{at} must be true or false")
        return value
    if name in _LISTS and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool)):
        return (str(value),) if name in _LISTS else str(value)
    raise UsageError(f"{at} must be a string" + (", or a list of strings" if name in _LISTS else ""))
