"""A running owned cluster: directory, PKI, ports, start and end."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import stat
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Generic, Literal, Protocol, Self, TypeVar

from filelock import BaseFileLock, FileLock, Timeout

from pytest_etcdtls.cluster.admin import Gateway, enable_authentication
from pytest_etcdtls.cluster.command_line import (
    FileNames,
    Flag,
    FlagSet,
    MemberAddresses,
    MemberPaths,
    loopback_addresses,
    member_flags,
    ports_needed,
    write_pki,
)
from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.cluster.interface import Cluster, Member, build_target, start_failure
from pytest_etcdtls.cluster.owned_member import ReadinessLog
from pytest_etcdtls.cluster.watchdog import Watchdog
from pytest_etcdtls.errors import ClusterStartError, UsageError
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.pki_plan import MemberNames
from pytest_etcdtls.target import Target

_BLOCK = 32
"""Ports in a block: enough for five members with five listeners, with some ports taken by others."""

_FIRST_PORT = 20000
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


@dataclass(frozen=True, slots=True)
class PortClaim:
    """Free ports that are reserved until :meth:`release`."""

    ports: tuple[int, ...]
    _lock: BaseFileLock | None

    def release(self) -> None:
        """Release the ports. It may be called repeatedly."""
        if self._lock is not None:
            self._lock.release()


def claim_ports(count: int, host: str, *, skip: int = 0) -> PortClaim:
    """Claim free ports on an address.

    Args:
        count: number of ports, at most 32.
        host: IP literal that they will be bound to.
        skip: number of blocks to skip; increased when a claimed port turns out to be taken.

    Raises:
        ClusterStartError: if every block is taken.
    """
    directory = _lock_directory()
    for start in _blocks(skip):
        lock = _lock(directory, start)
        if lock is None and directory is not None:
            continue
        free = [port for port in range(start, start + _BLOCK) if _is_free(host, port)]
        if len(free) >= count:
            return PortClaim(tuple(free[:count]), lock)
        if lock is not None:
            lock.release()
    raise ClusterStartError(f"no block of {count} free ports on {host} from {_FIRST_PORT} on: all are in use")


def _blocks(skip: int) -> Iterator[int]:
    """Yield the first port of every block. Concurrent processes begin at different blocks."""
    starts = range(_FIRST_PORT, _end_of_range(), _BLOCK)
    first = os.getpid() * 7 + skip
    for number in range(len(starts)):
        yield starts[(first + number) % len(starts)]


def _end_of_range() -> int:
    try:
        ephemeral = int(_EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        ephemeral = 32768
    # If an administrator has lowered the ephemeral range, only retries help.
    return ephemeral if ephemeral >= _FIRST_PORT + _BLOCK * 16 else 32768


def _lock_directory() -> Path | None:
    """Return a directory that all processes of this user share; ``None`` if another user owns it."""
    directory = Path(tempfile.gettempdir()) / f"pytest-etcdtls-ports-{os.getuid()}"
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        status = directory.lstat()
    except OSError:
        return None
    ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    return directory if ours else None


def _lock(directory: Path | None, start: int) -> BaseFileLock | None:
    if directory is None:
        return None
    lock = FileLock(directory / f"{start}.lock", thread_local=False)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return None
    return lock


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As etcd does: without this option a port with connections in TIME_WAIT appears taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def member_names(config: ClusterConfig) -> tuple[str, ...]:
    """Return the members' names: ``m0``, ``m1`` ..."""
    return tuple(f"m{index}" for index in range(config.size))


def generate_pki(config: ClusterConfig, members: Sequence[MemberNames]) -> ClusterPKI:
    """Generate the PKI of a configuration.

    Raises:
        UsageError: if a profile cannot be encoded.
    """
    try:
        return ClusterPKI.generate(config.pki, members)
    except ValueError as error:
        raise UsageError(f"the PKI that the cluster shall have cannot be generated: {error}") from error


def gateway_of(member: Member) -> Gateway:
    """Return a client of the member's HTTP endpoints with the cluster's client certificate."""
    url = member.client_http_url or member.client_url
    return Gateway(url, member.file("client.crt"), member.file("client.key"))


def turn_on_authentication(member: Member, password_file: Path) -> tuple[str, str]:
    """Enable authentication, write the password to a file (0600), and return name and password.

    Raises:
        ClusterStartError: if etcd refuses.
    """
    user, password = enable_authentication(gateway_of(member))
    descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(password)
    return user, password


START_SECONDS = 30.0
"""Seconds that a cluster may take to start on a busy machine."""

_GLANCE_SECONDS = 0.005
_HEALTH_GLANCE_SECONDS = 0.05


class PortTakenError(ClusterStartError):
    """Another program listens on a port that was free before."""


class StartableMember(Member, Protocol):
    """A member of any backend, as needed to start it."""

    @property
    def exit_status(self) -> int | None:
        """The exit status of its etcd; ``None`` while it runs."""

    def start(self) -> None:
        """Start its etcd. On return the listeners may not be served yet.

        Raises:
            OSError: if it cannot be started.
            PortTakenError: if one of its ports is taken.
        """

    def progress(self) -> ReadinessLog:
        """Read the log lines since the last call, and return the member's readiness."""

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, at most this long; return whether it has ended."""


class Launch:
    """One start of one or more members."""

    def __init__(self, what: str, seconds: float) -> None:
        """Set the deadline.

        Args:
            what: description of the start, for messages.
            seconds: time that the whole start may take.
        """
        self._what = what
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds

    def start(self, members: Sequence[StartableMember], *, one_by_one: bool) -> None:
        """Start members and wait until etcd's own log says that they serve clients.

        Args:
            members: the members to start.
            one_by_one: start each member when the port of the previous one answers; for members without
                data. Each asks the others whether it was a member before, and a bound port that does not
                answer yet delays it by one second.

        Raises:
            PortTakenError: if a port is taken.
            ClusterStartError: if a member ends, or the deadline passes.
        """
        for member in members:
            try:
                member.start()
            except OSError as error:
                raise self._failure(member, f"it cannot be run: {error}") from error
            if one_by_one and member is not members[-1]:
                self._await([member], lambda log: log.serves_peers, "its peer port does not answer")
        self._await(members, lambda log: log.ready, "it does not serve clients")

    def await_health(self, members: Sequence[StartableMember]) -> None:
        """Wait until every member reports itself healthy on an authenticated ``/health``.

        Raises:
            ClusterStartError: if a member ends, or the deadline passes.
        """
        for member in members:
            gateway = gateway_of(member)
            while (problem := gateway.health()) is not None:
                if time.monotonic() > self._deadline:
                    raise self._failure(member, f"not healthy after {self._seconds:g} s: {problem}")
                if member.wait(_HEALTH_GLANCE_SECONDS):
                    raise self._failure(member, f"it has ended; last answer: {problem}")

    def _await(
        self, members: Sequence[StartableMember], reached: Callable[[ReadinessLog], bool], otherwise: str
    ) -> None:
        pending = list(members)
        while pending := [member for member in pending if not self._reached(member, reached)]:
            if time.monotonic() > self._deadline:
                raise self._failure(pending[0], f"{otherwise} after {self._seconds:g} s")
            # wait returns at once when the member ends; its log is read in between.
            pending[0].wait(_GLANCE_SECONDS)

    def _reached(self, member: StartableMember, reached: Callable[[ReadinessLog], bool]) -> bool:
        # In this order, so that the last lines of a member that has ended are read.
        ended = not member.running
        progress = member.progress()
        if progress.address_in_use:
            raise PortTakenError(str(self._failure(member, "one of its ports is taken")))
        if ended:
            raise self._failure(member, f"it ended with status {member.exit_status}")
        return reached(progress)

    def _failure(self, member: StartableMember, happened: str) -> ClusterStartError:
        attempted = f"{self._what}, member {member.name} at {member.client_url}"
        return start_failure(attempted, happened, member.log())


def farewell(cluster: Cluster, directory: Path, stop: str, *, password_file: Path | None = None) -> str:
    """Return the message for a kept cluster, with commands to paste.

    Args:
        cluster: the cluster that is left running.
        directory: directory of all its files.
        stop: shell line that stops it and removes the directory.
        password_file: file with the password of the user ``root``, if authentication is enabled.
    """
    lines = [f"etcd {cluster.version} ({cluster.source}) is left standing in {directory}:"]
    for member in cluster.members:
        urls = (member.client_url, member.plain_client_url, member.client_http_url, member.metrics_url)
        served = ", ".join(url for url in urls if url is not None)
        lines.append(f"  {member.name}: clients {served}; peers {member.peer_url}")
    lines += ["  talk to it:", *(f"    {line}" for line in _ways_to_talk(cluster, password_file))]
    return "\n".join([*lines, "  stop it:", f"    {stop}"])


def _ways_to_talk(cluster: Cluster, password_file: Path | None) -> list[str]:
    member = cluster.members[0]
    ca, certificate, key = (
        shlex.quote(str(member.file(name))) for name in ("server-ca.crt", "client.crt", "client.key")
    )
    endpoints = ",".join(m.client_url for m in cluster.members)
    user = f' --user="root:$(cat {shlex.quote(str(password_file))})"' if password_file else ""
    url = member.client_http_url or member.client_url
    credentials = f"--cacert={ca} --cert={certificate} --key={key}{user}"
    return [
        f"etcdctl --endpoints={endpoints} {credentials} endpoint status",
        f"curl -g --cacert {ca} --cert {certificate} --key {key} {shlex.quote(url + '/version')}",
    ]


M = TypeVar("M", bound=StartableMember)

_ATTEMPTS = 5
"""Number of attempts to start with other ports if a port turns out to be taken."""


class OwnedCluster(ABC, Generic[M]):
    """An owned cluster, started by the constructor.

    Attributes:
        origin: the backend that runs it.
        config: the configuration that it was started with.
        pki: its keys and certificates.
        version: version as ``etcd --version`` prints it.
        source: path of the binary or name of the image.
        members: the members in the order ``m0``, ``m1`` ...
        user: name and password of the administrator, if authentication is enabled.
        directory: directory of all files of the cluster on this host (0700).
        pki_directory: directory of its keys and certificates (0700).
    """

    origin: Literal["process", "container"]

    def __init__(
        self,
        config: ClusterConfig,
        source: str | Path,
        version: str,
        *,
        directory: Path | None = None,
        keep: bool = False,
        seconds: float = START_SECONDS,
    ) -> None:
        """Start the cluster and wait until it serves clients.

        Args:
            config: the cluster's configuration.
            source: path of a binary or name of an image.
            version: version of this etcd.
            directory: parent of the cluster's directory (default: the system's temporary directory).
            keep: leave the cluster running at the end.
            seconds: time that the start may take.

        Raises:
            UsageError: if this version of etcd does not support the configuration, or the PKI cannot be
                generated.
            ClusterStartError: if the cluster does not start.
        """
        self.config = config
        self.source = str(source)
        self.version = version
        self.user: tuple[str, str] | None = None
        self.members: tuple[M, ...] = ()
        self._flags = self._known_flags()
        self._keep = keep
        self._seconds = seconds
        self._claim: PortClaim | None = None
        self.pki = generate_pki(config, [self._names(name) for name in member_names(config)])
        self.directory = Path(tempfile.mkdtemp(prefix="pytest-etcdtls-", dir=directory))
        self.pki_directory = self.directory / "pki"
        self._watchdog = Watchdog(self.token)
        try:
            self._come_up()
        except BaseException:
            self._remove()
            raise
        if keep:
            self._watchdog.dismiss()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def token(self) -> str:
        """A token that is unique to this cluster."""
        return self.directory.name

    def target(self, label: str | None = None) -> Target:
        """Return the cluster as a target. The label defaults to ``etcd-VERSION``."""
        return build_target(self, label)

    def stop(self) -> None:
        """Stop every member within one second and remove every file; do nothing to a kept cluster."""
        if self._keep:
            self._abandon()
            self._release_ports()
        else:
            self._remove()

    def stop_member(self, index: int) -> None:
        """Stop one member. Its data is kept."""
        self._stop([self.members[index]])

    def start_member(self, index: int, *, wait: bool = True) -> None:
        """Start a stopped member again and, if ``wait`` is set, wait until it serves clients.

        Raises:
            ClusterStartError: with ``wait``, if it does not serve clients in time.
            OSError: without ``wait``, if it cannot be run.
        """
        if wait:
            self._launch(self.members[index])
        else:
            self.members[index].start()

    def restart_member(self, index: int) -> None:
        """Stop one member and start it again with the current files."""
        self.stop_member(index)
        self.start_member(index)

    def restart(self) -> None:
        """Stop all members and start them again together."""
        self._stop(self.members)
        self._launch(*self.members)

    @abstractmethod
    def farewell(self) -> str:
        """Return the commands to use a kept cluster and to stop it."""

    @abstractmethod
    def _known_flags(self) -> FlagSet:
        """Return the flags of this version of etcd."""

    def _names(self, name: str) -> MemberNames:
        """Return the names and addresses that a member's certificates are issued for."""
        return MemberNames(name)

    def _addresses(self, name: str, ports: Iterator[int]) -> MemberAddresses:
        """Return a member's URLs as seen from this host, with ports taken from the claimed ones."""
        return loopback_addresses(self.config, name, ports)

    def _prepare(self) -> None:
        """Create what all members share except the PKI. It is called again after :meth:`_discard`."""

    @abstractmethod
    def _member(self, addresses: Sequence[MemberAddresses], index: int) -> M:
        """Return a member that can be started. The addresses are those of all members, on this host."""

    @abstractmethod
    def _stop(self, members: Sequence[M]) -> None:
        """Stop members together. Their data is kept."""

    @abstractmethod
    def _discard(self) -> None:
        """Remove all members completely. It may be called repeatedly, also after an interruption."""

    @abstractmethod
    def _abandon(self) -> None:
        """Leave the members running after this process ends."""

    @property
    def _password_file(self) -> Path:
        return self.directory / "root-password"

    def _come_up(self) -> None:
        self._watchdog.guard_directory(self.directory)
        write_pki(self.pki, self.config, self.pki_directory, with_ca_keys=self._keep)
        for attempt in range(_ATTEMPTS):
            self._prepare()
            self._claim_ports(attempt)
            try:
                self._launch(*self.members, one_by_one=True)
                break
            except PortTakenError:
                if attempt == _ATTEMPTS - 1:
                    raise
                self._discard()
                self._release_ports()
        if self.config.authentication:
            self.user = turn_on_authentication(self.members[0], self._password_file)

    def _claim_ports(self, attempt: int) -> None:
        """Claim ports, and create the members that listen on them."""
        needed = ports_needed(self.config) * self.config.size
        self._claim = claim_ports(needed, self.config.host, skip=attempt)
        ports = iter(self._claim.ports)
        addresses = [self._addresses(name, ports) for name in member_names(self.config)]
        self.members = tuple(self._member(addresses, index) for index in range(self.config.size))

    def _member_flags(
        self, addresses: Sequence[MemberAddresses], index: int, place: MemberPaths
    ) -> tuple[Flag, ...]:
        files = FileNames.of_member(self.pki, addresses[index].name)
        return member_flags(self.config, self._flags, addresses, index, place, files, token=self.token)

    def _launch(self, *members: M, one_by_one: bool = False) -> None:
        launch = Launch(f"etcd {self.version} ({self.source})", self._seconds)
        launch.start(members, one_by_one=one_by_one)
        if self.config.expects_health:
            launch.await_health(members)

    def _remove(self) -> None:
        """Remove the cluster completely. It may be called repeatedly, also after an interruption."""
        self._discard()
        shutil.rmtree(self.directory, ignore_errors=True)
        self._release_ports()
        self._watchdog.dismiss()

    def _release_ports(self) -> None:
        if self._claim is not None:
            self._claim.release()
