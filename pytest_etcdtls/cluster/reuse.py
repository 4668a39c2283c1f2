"""Leaves a shared cluster running for the next run of the same user (``--etcd-reuse``).

The watchdog of the cluster outlives the run. It holds the state of the cluster in memory, with the keys of
its CAs, and listens on a socket in the user's cache directory. The next run that needs the same cluster
connects and becomes its owner. The watchdog accepts no other connection until then, so no two runs share a
cluster. Without a next run the watchdog removes the cluster when its time is over. If an owner is killed, it
does so at once.
"""

from __future__ import annotations

import base64
import dataclasses
import fcntl
import hashlib
import io
import os
import pickle
import stat
import sys
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from pytest_etcdtls._version import __version__
from pytest_etcdtls.cluster.admin import gateway_of, remove_data
from pytest_etcdtls.cluster.cluster import Cluster, start_cluster
from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.cluster.sources import EtcdSource, cache_directory
from pytest_etcdtls.cluster.watchdog import Watchdog, end, inherit
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.pki.certificate import load
from pytest_etcdtls.pki.profile import PrivateKey

_LEAST_VALIDITY = 0.5
"""The part of a certificate's validity that must be left for another run."""


class KeptClusters:
    """The clusters that are left by a run of this user, and those that this run is going to leave.

    Attributes:
        notes: which clusters were kept and which were not, for the end of the run.
    """

    def __init__(self, minutes: float) -> None:
        """Find the directory, and remove what is left there without a watchdog.

        Args:
            minutes: how long a cluster stays after a run.

        Raises:
            UsageError: if the directory is not safe, or the system is not Linux.
        """
        if not sys.platform.startswith("linux"):
            raise UsageError("--etcd-reuse needs Linux, where a process is known by a descriptor")
        self._directory = _private_directory(cache_directory() / "reuse")
        self._minutes = minutes
        self._shared: dict[Cluster, tuple[str, str]] = {}
        self.notes: list[str] = []
        try:
            self._clean_up()
        except OSError as error:
            raise UsageError(f"--etcd-reuse cannot use {self._directory}: {error}") from error

    @property
    def waiting(self) -> list[Path]:
        """The sockets of the clusters that wait for an owner."""
        return sorted(self._directory.glob("*.pytest-etcdtls-*"))

    def start(self, config: ClusterConfig, source: EtcdSource) -> Cluster:
        """Return the cluster of an earlier run if there is one, else start it.

        Raises:
            UsageError: if that etcd does not support the configuration.
            ClusterStartError: if it does not start.
        """
        name = f"etcd {source.version} ({source.location})"
        key, why = "", ""
        if config.authentication or not config.expects_health:
            why = "with users, or where clients may be refused, none is"
        else:
            try:
                key = _key(config, source)
            except OSError as error:
                why = f"the binary cannot be read: {error.strerror}"
        if why:
            self.notes.append(f"{name} is not kept: {why}")
            return start_cluster(config, source)
        cluster = self._take(key, name)
        how = "was taken over"
        if cluster is None:
            how = "was started"
            with _locked(self._directory, fcntl.LOCK_SH):  # until its watchdog has locked its own directory
                cluster = start_cluster(config, source, directory=self._directory, outlives=True)
            for member in cluster.members:
                length = len(member.server.log())
                member.left_out = length, length
        self._shared[cluster] = key, f"{name} {how}"
        return cluster

    def leave(self) -> None:
        """Leave the clusters of this run to the next one, without the data that they hold.

        A cluster that differs from what was started, or has users, is not left.
        """
        for cluster, (key, started) in self._shared.items():
            try:
                why = _why_not(cluster)
                if not why:
                    remove_data(gateway_of(cluster.members[0]))
                    why = self._leave(cluster, key)
            except Exception as error:  # whatever state a test has left etcd in
                why = str(error)
            until = datetime.now().astimezone() + timedelta(minutes=self._minutes)
            becomes = f"not kept: {why}" if why else f"kept until {until:%H:%M}; --etcd-reuse=0 ends it"
            self.notes.append(f"{started} and is {becomes}")
        self._shared.clear()

    def _leave(self, cluster: Cluster, key: str) -> str:
        state = base64.b64encode(pickled(cluster)).decode()
        path = self._directory / f"{key}.{cluster.origin}.{cluster.token}"
        if not cluster.leave(path, self._minutes * 60, state):
            return "its watchdog does not answer"
        cluster.stop()
        return ""

    def end_all(self) -> int:
        """Remove every cluster that waits for an owner, and return how many there were."""
        ended = 0
        for path in self.waiting:
            if (inherited := inherit(path)) is not None:
                end(inherited[0])
                ended += 1
        return ended

    def _take(self, key: str, name: str) -> Cluster | None:
        for path in self.waiting:
            if not path.name.startswith(f"{key}.") or (inherited := inherit(path)) is None:
                continue
            channel, state = inherited
            try:
                # Safe: the other process is this user's, and the socket is in a directory of mode 0700.
                cluster: Cluster = pickle.loads(base64.b64decode(state))  # noqa: S301
                cluster.take(channel)
                if not (why := _why_not(cluster)):
                    return cluster
                cluster.release()
            except Exception as error:  # etcd, its container or its files may be gone
                why = str(error)
            self.notes.append(f"{name}: a kept one was replaced: {why}")
            end(channel)
        return None

    def _clean_up(self) -> None:
        """Remove clusters whose watchdog was killed, also by a stop of the machine. Its lock is free then."""
        try:
            with _locked(self._directory, fcntl.LOCK_EX):
                sockets = {path.name.rpartition(".")[2]: path for path in self.waiting}
                homes = {path.name for path in self._directory.glob("pytest-etcdtls-*")}
                for token in sockets.keys() | homes:
                    if token not in homes or _is_free(self._directory / token):
                        self._remove(token, sockets.get(token))
        except BlockingIOError:
            return  # another run starts a cluster, or cleans up

    def _remove(self, token: str, path: Path | None) -> None:
        watchdog = Watchdog(token)
        watchdog.guard_directory(self._directory / token)
        if path is not None:
            if ".container." in path.name:
                from pytest_etcdtls.cluster.container import cleanup_command

                watchdog.guard_command(cleanup_command(token))
            path.unlink(missing_ok=True)
        watchdog.give_up()


@contextmanager
def _locked(directory: Path, kind: int) -> Iterator[None]:
    """Hold a lock on a directory. Other containers see it, and other hosts if NFS supports it.

    Raises:
        BlockingIOError: for an exclusive lock, if it is locked already.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, kind | (fcntl.LOCK_NB if kind == fcntl.LOCK_EX else 0))
        yield
    finally:
        os.close(descriptor)


def _is_free(directory: Path) -> bool:
    try:
        with _locked(directory, fcntl.LOCK_EX):
            return True
    except OSError:  # it is locked, cannot be, or has just been removed
        return False


def _private_directory(path: Path) -> Path:
    """Make a directory that nobody but this user can change or replace, and return its real path.

    Raises:
        UsageError: if it is not such a directory.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = path.parent.resolve() / path.name
        path.mkdir(exist_ok=True, mode=0o700)
        for directory in (path, *path.parents):
            status = directory.lstat()
            ours = status.st_uid in ({os.geteuid()} if directory == path else {os.geteuid(), 0})
            # In a directory with the sticky bit, users can rename their own files only.
            others = 0o077 if directory == path else 0 if status.st_mode & stat.S_ISVTX else 0o022
            if not stat.S_ISDIR(status.st_mode) or not ours or status.st_mode & others:
                raise UsageError(
                    f"--etcd-reuse keeps keys in {path}, and {directory} belongs to another user or can be "
                    "changed by others: correct that, or name another cache directory with XDG_CACHE_HOME"
                )
    except OSError as error:
        raise UsageError(f"--etcd-reuse cannot use {path}: {error.strerror}") from error
    return path


def _why_not(cluster: Cluster) -> str:
    """Return why a cluster is not for another run, empty if it is."""
    now = datetime.now(UTC)
    for leaves in cluster.pki.leaves.values():
        for identity in (leaves.server, leaves.peer, leaves.client, leaves.peer_client):
            for certificate in identity.chain:
                begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
                if end - now < (end - begin) * _LEAST_VALIDITY:
                    return f"more than half of the validity of {identity.name}.crt is over"
    return cluster.difference()


def _key(config: ClusterConfig, source: EtcdSource) -> str:
    """Return an identifier of the etcd by its content, its configuration, and the processes that can use it.

    They have the same package and Python, and the same namespaces of processes and networks: containers may
    share a cache directory.
    """
    if source.kind == "container":
        from pytest_etcdtls.cluster.container import image_id

        etcd = image_id(source.location)
    else:
        with open(source.location, "rb") as binary:
            etcd = hashlib.file_digest(binary, "sha256").hexdigest()
    namespaces = (os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "net"))
    parts = (etcd, source.version, __version__, sys.version, *namespaces, _canonical(config))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _canonical(value: object) -> str:
    """Return a text that is the same in every process, as that of a set is not."""
    match value:
        case Mapping():
            return f"{{{', '.join(sorted(f'{key}: {_canonical(one)}' for key, one in value.items()))}}}"
        case Set():
            return f"{{{', '.join(sorted(map(_canonical, value)))}}}"
        case tuple():
            return f"({', '.join(map(_canonical, value))})"
        case _ if dataclasses.is_dataclass(value):
            fields = {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
            return f"{type(value).__name__}{_canonical(fields)}"
    return repr(value)


def pickled(value: object) -> bytes:
    """Return the value as another process with the same Python and package can load it."""
    buffer = io.BytesIO()
    _Pickler(buffer).dump(value)
    return buffer.getvalue()


class _Pickler(pickle.Pickler):
    """Writes keys and certificates as DER."""

    def reducer_override(self, value: object) -> Any:  # noqa: ANN401 - as the base class has it
        if isinstance(value, x509.Certificate):
            return load, (value.public_bytes(Encoding.DER),)
        if isinstance(value, PrivateKey):
            return _load_key, (value.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),)
        if isinstance(value, MappingProxyType):
            return _read_only, (dict(value),)
        return NotImplemented


def _read_only(values: dict[Any, Any]) -> Mapping[Any, Any]:
    return MappingProxyType(values)


def _load_key(der: bytes) -> object:
    return load_der_private_key(der, None, unsafe_skip_rsa_key_validation=True)
