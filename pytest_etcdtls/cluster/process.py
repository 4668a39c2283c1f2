"""A cluster of etcd processes on this host.

Owns the directory, the ports, the processes and their end. Does not know what is judged on it.
"""

from __future__ import annotations

import shlex
import shutil
import tempfile
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Literal, Self

from pytest_etcdtls.cluster.addresses import loopback_addresses, ports_needed
from pytest_etcdtls.cluster.binary import binary_flags
from pytest_etcdtls.cluster.command_line import Place, command_line, member_flags
from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.cluster.config_yaml import render
from pytest_etcdtls.cluster.etcd_process import EtcdProcess, clean_environment, stop_all
from pytest_etcdtls.cluster.farewell import farewell
from pytest_etcdtls.cluster.launch import START_SECONDS, Launch, PortTakenError
from pytest_etcdtls.cluster.owner import generate_pki, member_names, turn_on_authentication
from pytest_etcdtls.cluster.pki_files import FileNames, write_pki
from pytest_etcdtls.cluster.ports import PortClaim, claim_ports
from pytest_etcdtls.cluster.process_member import ProcessMember
from pytest_etcdtls.cluster.target_building import build_target
from pytest_etcdtls.cluster.watchdog import Watchdog
from pytest_etcdtls.pki.bundle import MemberNames
from pytest_etcdtls.target import Target

_ATTEMPTS = 5
"""How often ports may turn out to be taken."""


class ProcessCluster:
    """Local etcd processes, started by construction.

    Attributes:
        config: what was asked for.
        pki: every key and certificate.
        version: as ``etcd --version`` prints it.
        origin: ``process``.
        source: path of the binary.
        members: in the order ``m0``, ``m1`` ...
        user: name and password of the administrator, where authentication is on.
        directory: everything of the cluster is in there (0700).
        pki_directory: its keys and certificates (0700).
    """

    origin: Literal["process", "container"] = "process"

    def __init__(
        self,
        config: ClusterConfig,
        binary: Path,
        version: str,
        *,
        directory: Path | None = None,
        keep: bool = False,
        seconds: float = START_SECONDS,
    ) -> None:
        """Start the cluster and wait until it serves clients.

        Args:
            config: what to start.
            binary: an etcd.
            version: of that etcd.
            directory: where to make the cluster's own; the system's temporary one if not given.
            keep: leave it standing at the end.
            seconds: how long it may take.

        Raises:
            UsageError: if that etcd cannot express the configuration, or the PKI cannot be generated.
            ClusterStartError: if it does not come up.
        """
        self.config = config
        self.version = version
        self.source = str(binary)
        self.user: tuple[str, str] | None = None
        self.members: tuple[ProcessMember, ...] = ()
        self._flags = binary_flags(binary)
        self._keep = keep
        self._seconds = seconds
        self._claim: PortClaim | None = None
        self.pki = generate_pki(config, [MemberNames(name) for name in member_names(config)])
        self.directory = Path(tempfile.mkdtemp(prefix="pytest-etcdtls-", dir=directory))
        self.pki_directory = self.directory / "pki"
        self._watchdog = Watchdog(self.directory.name)
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

    def target(self, label: str | None = None) -> Target:
        """Return the cluster as a target to judge; the label defaults to ``etcd-VERSION``."""
        return build_target(self, label)

    def stop(self) -> None:
        """Stop every member within a second and remove every file; leave a kept cluster standing."""
        if not self._keep:
            self._remove()
            return
        for member in self.members:
            if member.process is not None:
                member.process.abandon()
        self._release_ports()

    def stop_member(self, index: int) -> None:
        """Stop one member and keep its data."""
        stop_all(self._processes(self.members[index]))

    def start_member(self, index: int) -> None:
        """Start a stopped member again and wait until it serves clients.

        Raises:
            ClusterStartError: if it does not.
        """
        self._launch(self.members[index])

    def restart_member(self, index: int) -> None:
        """Stop one member and start it again with the files as they are now."""
        self.stop_member(index)
        self.start_member(index)

    def restart(self) -> None:
        """Stop all members and start them again, together."""
        stop_all(self._processes(*self.members))
        self._launch(*self.members)

    def farewell(self) -> str:
        """Return how to talk to a kept cluster and how to stop it."""
        pids = " ".join(str(process.pid) for process in self._processes(*self.members))
        stop = f"kill {pids}; rm -rf {shlex.quote(str(self.directory))}"
        password_file = self._password_file if self.user else None
        return farewell(self, self.directory, stop, password_file=password_file)

    @property
    def _password_file(self) -> Path:
        return self.directory / "root-password"

    def _come_up(self) -> None:
        self._watchdog.guard_directory(self.directory)
        write_pki(self.pki, self.config, self.pki_directory, with_ca_keys=self._keep)
        for attempt in range(_ATTEMPTS):
            self._prepare(attempt)
            try:
                self._launch(*self.members, one_by_one=True)
                break
            except PortTakenError:
                if attempt == _ATTEMPTS - 1:
                    raise
                stop_all(self._processes(*self.members))
                self._release_ports()
                for member in self.members:
                    member.forget()
        if self.config.authentication:
            self.user = turn_on_authentication(self.members[0], self._password_file)

    def _prepare(self, attempt: int) -> None:
        """Claim ports, and lay down what each member needs."""
        needed = ports_needed(self.config) * self.config.size
        self._claim = claim_ports(needed, self.config.host, skip=attempt)
        ports = iter(self._claim.ports)
        addresses = [loopback_addresses(self.config, name, ports) for name in member_names(self.config)]
        members = []
        for index, own in enumerate(addresses):
            directory = self.directory / own.name
            place = Place(
                data=PurePosixPath(directory, "data"),
                pki=PurePosixPath(self.pki_directory),
                config_file=PurePosixPath(directory, "etcd.conf.yml"),
            )
            files = FileNames.of_member(self.pki, own.name)
            flags = member_flags(
                self.config, self._flags, addresses, index, place, files, token=self.directory.name
            )
            directory.mkdir(mode=0o700)
            if self.config.config_file:
                Path(place.config_file).write_text(render(flags, self.config))
            extra = {name: place.fill_in(value) for name, value in self.config.environment.items()}
            members.append(
                ProcessMember(
                    addresses=own,
                    argv=command_line(self.source, flags, self.config, place),
                    environment=clean_environment({**extra, **self._watchdog.mark}),
                    directory=directory,
                    watchdog=self._watchdog,
                    pki_root=self.pki_directory,
                    files=files,
                )
            )
        self.members = tuple(members)

    def _launch(self, *members: ProcessMember, one_by_one: bool = False) -> None:
        launch = Launch(f"etcd {self.version} ({self.source})", self._seconds)
        launch.start(members, one_by_one=one_by_one)
        if self.config.expects_health:
            launch.await_health(members)

    def _remove(self) -> None:
        """Leave nothing behind. May be called again, also when it was interrupted."""
        stop_all(self._processes(*self.members))
        shutil.rmtree(self.directory, ignore_errors=True)
        self._release_ports()
        self._watchdog.dismiss()

    def _release_ports(self) -> None:
        if self._claim is not None:
            self._claim.release()

    @staticmethod
    def _processes(*members: ProcessMember) -> list[EtcdProcess]:
        return [member.process for member in members if member.process is not None]
