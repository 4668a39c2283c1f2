"""What a cluster that we start has in common, whoever runs its members: directory, PKI, ports, start and end.

Does not know what a member is started with, nor what is judged on it.
"""

from __future__ import annotations

import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Generic, Literal, Self, TypeVar

from pytest_etcdtls.cluster.addresses import MemberAddresses, loopback_addresses, ports_needed
from pytest_etcdtls.cluster.command_line import Flag, Place, member_flags
from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.cluster.flags import FlagSet
from pytest_etcdtls.cluster.launch import START_SECONDS, Launch, PortTakenError, StartableMember
from pytest_etcdtls.cluster.owner import generate_pki, member_names, turn_on_authentication
from pytest_etcdtls.cluster.pki_files import FileNames, write_pki
from pytest_etcdtls.cluster.ports import PortClaim, claim_ports
from pytest_etcdtls.cluster.target_building import build_target
from pytest_etcdtls.cluster.watchdog import Watchdog
from pytest_etcdtls.pki.bundle import MemberNames
from pytest_etcdtls.target import Target

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
        self, addresses: Sequence[MemberAddresses], index: int, place: Place
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
