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
"""Ports in a block: five members with five listeners fit, and some may be taken by others."""

_FIRST_PORT = 20000
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


@dataclass(frozen=True, slots=True)
class PortClaim:
    """Free ports, ours until :meth:`release`."""

    ports: tuple[int, ...]
    _lock: BaseFileLock | None

    def release(self) -> None:
        """Give the ports back; may be called again."""
        if self._lock is not None:
            self._lock.release()


def claim_ports(count: int, host: str, *, skip: int = 0) -> PortClaim:
    """Claim free ports on an address.

    Args:
        count: how many, at most 32.
        host: IP literal that they will be bound on.
        skip: number of blocks to leave out first; counts up when a claim turned out to be taken.

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
    """Yield the first port of every block; concurrent processes begin at different ones."""
    starts = range(_FIRST_PORT, _end_of_range(), _BLOCK)
    first = os.getpid() * 7 + skip
    for number in range(len(starts)):
        yield starts[(first + number) % len(starts)]


def _end_of_range() -> int:
    try:
        ephemeral = int(_EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        ephemeral = 32768
    # An administrator may have moved the ephemeral range down; then retrying must do.
    return ephemeral if ephemeral >= _FIRST_PORT + _BLOCK * 16 else 32768


def _lock_directory() -> Path | None:
    """Return a directory that all of this user's processes share; ``None`` if its name is somebody else's."""
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
        # As etcd binds: without this a port whose connections are in TIME_WAIT would look taken.
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
    """Generate the PKI that is asked for.

    Raises:
        UsageError: if a profile asks for what cannot be encoded.
    """
    try:
        return ClusterPKI.generate(config.pki, members)
    except ValueError as error:
        raise UsageError(f"the PKI that the cluster shall have cannot be generated: {error}") from error


def gateway_of(member: Member) -> Gateway:
    """Return the member's HTTP side, seen with the cluster's own client certificate."""
    url = member.client_http_url or member.client_url
    return Gateway(url, member.file("client.crt"), member.file("client.key"))


def turn_on_authentication(member: Member, password_file: Path) -> tuple[str, str]:
    """Turn authentication on, write the password (0600), and return name and password.

    Raises:
        ClusterStartError: if etcd refuses.
    """
    user, password = enable_authentication(gateway_of(member))
    descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(password)
    return user, password


START_SECONDS = 30.0
"""How long a cluster may take to come up on a busy machine."""

_GLANCE_SECONDS = 0.005
_HEALTH_GLANCE_SECONDS = 0.05


class PortTakenError(ClusterStartError):
    """Somebody else listens on a port that was free a moment ago."""


class StartableMember(Member, Protocol):
    """A member as its backend sees it."""

    @property
    def exit_status(self) -> int | None:
        """What its etcd ended with; ``None`` while it runs."""

    def start(self) -> None:
        """Start its etcd; what it listens on is not served yet.

        Raises:
            OSError: if it cannot be started.
            PortTakenError: if that is for want of a port.
        """

    def progress(self) -> ReadinessLog:
        """Read what its log has got since the last call, and return what that means."""

    def wait(self, seconds: float) -> bool:
        """Wait for its end, at most so long; return whether it has ended."""


class Launch:
    """One start of one or more members."""

    def __init__(self, what: str, seconds: float) -> None:
        """Set the deadline.

        Args:
            what: is started, for messages.
            seconds: that all of it may take.
        """
        self._what = what
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds

    def start(self, members: Sequence[StartableMember], *, one_by_one: bool) -> None:
        """Start members and wait until etcd's own log says that they serve clients.

        Args:
            members: to start.
            one_by_one: for members without data. Each asks the others whether it has been a member before;
                one whose port is bound and does not answer yet costs it a second. So the next one is started
                when the port of the last one answers.

        Raises:
            PortTakenError: if a port is taken.
            ClusterStartError: if one ends, or the time is over.
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
        """Wait until every member answers an authenticated ``/health`` well.

        Raises:
            ClusterStartError: if one ends, or the time is over.
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
            # Its end wakes us at once; the log, which outlives us, is looked at in between.
            pending[0].wait(_GLANCE_SECONDS)

    def _reached(self, member: StartableMember, reached: Callable[[ReadinessLog], bool]) -> bool:
        # In this order, so that the last words of one that has ended are read.
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
    """Return lines to read and to paste.

    Args:
        cluster: that is left standing.
        directory: everything of it is in there.
        stop: shell line that ends it and removes the directory.
        password_file: of the user ``root``, where authentication is on.
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
"""How often ports may turn out to be taken."""


class OwnedCluster(ABC, Generic[M]):
    """A cluster of ours, started by construction.

    Attributes:
        origin: which backend runs it.
        config: what was asked for.
        pki: every key and certificate.
        version: as ``etcd --version`` prints it.
        source: path of the binary, or name of the image.
        members: in the order ``m0``, ``m1`` ...
        user: name and password of the administrator, where authentication is on.
        directory: everything of the cluster on this host is in there (0700).
        pki_directory: its keys and certificates (0700).
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
            config: what to start.
            source: an etcd: path of a binary, or name of an image.
            version: of that etcd.
            directory: where to make the cluster's own; the system's temporary one if not given.
            keep: leave it standing at the end.
            seconds: how long it may take.

        Raises:
            UsageError: if that etcd cannot express the configuration, or the PKI cannot be generated.
            ClusterStartError: if it does not come up.
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
        """What tells this cluster from all others."""
        return self.directory.name

    def target(self, label: str | None = None) -> Target:
        """Return the cluster as a target to judge; the label defaults to ``etcd-VERSION``."""
        return build_target(self, label)

    def stop(self) -> None:
        """Stop every member within a second and remove every file; leave a kept cluster standing."""
        if self._keep:
            self._abandon()
            self._release_ports()
        else:
            self._remove()

    def stop_member(self, index: int) -> None:
        """Stop one member and keep its data."""
        self._stop([self.members[index]])

    def start_member(self, index: int, *, wait: bool = True) -> None:
        """Start a stopped member again and wait until it serves clients, or do not wait for that.

        Raises:
            ClusterStartError: if it is waited for and does not.
            OSError: if it is not waited for and cannot be run at all.
        """
        if wait:
            self._launch(self.members[index])
        else:
            self.members[index].start()

    def restart_member(self, index: int) -> None:
        """Stop one member and start it again with the files as they are now."""
        self.stop_member(index)
        self.start_member(index)

    def restart(self) -> None:
        """Stop all members and start them again, together."""
        self._stop(self.members)
        self._launch(*self.members)

    @abstractmethod
    def farewell(self) -> str:
        """Return how to talk to a kept cluster and how to stop it."""

    @abstractmethod
    def _known_flags(self) -> FlagSet:
        """Return the flags of this etcd."""

    def _names(self, name: str) -> MemberNames:
        """Return what a member's certificates are issued for."""
        return MemberNames(name)

    def _addresses(self, name: str, ports: Iterator[int]) -> MemberAddresses:
        """Return what a member listens on, as seen from this host, with ports taken from those claimed."""
        return loopback_addresses(self.config, name, ports)

    def _prepare(self) -> None:
        """Lay down what all members share, beside the PKI; once more after everything was discarded."""

    @abstractmethod
    def _member(self, addresses: Sequence[MemberAddresses], index: int) -> M:
        """Return a member that can be started; the addresses are those on this host, of all members."""

    @abstractmethod
    def _stop(self, members: Sequence[M]) -> None:
        """Stop members together and keep their data."""

    @abstractmethod
    def _discard(self) -> None:
        """Leave nothing of any member behind. May be called again, also when it was interrupted."""

    @abstractmethod
    def _abandon(self) -> None:
        """Let the members outlive us."""

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
        """Claim ports, and make the members that publish them."""
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
        """Leave nothing behind. May be called again, also when it was interrupted."""
        self._discard()
        shutil.rmtree(self.directory, ignore_errors=True)
        self._release_ports()
        self._watchdog.dismiss()

    def _release_ports(self) -> None:
        if self._claim is not None:
            self._claim.release()
