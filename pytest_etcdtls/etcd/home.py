"""The life of the etcds that are started together: their directory, their ports, their start and their end.

Nothing of them outlives their owner, however that ends: a watchdog knows the directory before it is created,
and finds processes by a mark in their environment and containers by their label. A port is free or not only
when etcd binds it, so a start that finds one taken is made again with others.

A cluster, a replay of the user's declaration and a container of testcontainers differ in what they start
(:class:`~pytest_etcdtls.etcd.launch.Launch`), and have this in common.
"""

from __future__ import annotations

import errno
import shutil
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from pytest_etcdtls.errors import (
    ClusterStartError,
    EtcdFailedError,
    NotVerifiedError,
    UsageError,
    blocked_sockets,
    open_files_advice,
)
from pytest_etcdtls.etcd.clocks import moved_clock, system_clock
from pytest_etcdtls.etcd.config import ClusterConfig, names_network
from pytest_etcdtls.etcd.container import ContainerBackend, EtcdContainer
from pytest_etcdtls.etcd.engine import published_host
from pytest_etcdtls.etcd.launch import Launch, ReadinessLog, why_not_started, with_last_line
from pytest_etcdtls.etcd.leftovers import remove_what_is_here
from pytest_etcdtls.etcd.ports import PortClaim, PortTakenError, claim_ports, local_ports_taken
from pytest_etcdtls.etcd.process import EtcdProcess, ProcessBackend
from pytest_etcdtls.etcd.sources import EtcdSource
from pytest_etcdtls.etcd.watchdog import GuardedDirectory
from pytest_etcdtls.pki.bundle import write_files
from pytest_etcdtls.untrusted.printable import pasted

Server: TypeAlias = EtcdProcess | EtcdContainer

LOOPBACK = "127.0.0.1"

_ATTEMPTS = 5
"""Number of attempts to start with other ports if a port turns out to be taken."""

_STOP_SECONDS = 0.5
"""Seconds that etcd may take to stop. A leader would wait longer for a successor that is stopping too."""

_GLANCE_SECONDS = 0.005
_HEALTH_GLANCE_SECONDS = 0.05
_LOG_LINES = 40
_CANNOT_CONNECT = f"[Errno {errno.EADDRNOTAVAIL}]"
_REJECTED = "rejected connection"
"""What etcd logs of each connection that its listener closes (server/embed/config_logging.go)."""


class Home(GuardedDirectory):
    """The directory of etcds that are started together, with what runs them.

    Attributes:
        etcd: the etcd that is started from now on.
        pki: directory of the keys and certificates (0700).
        backend: runs them.
        host: at which their ports are reached from here.
        keep: whether they are left running at the end.
    """

    def __init__(
        self,
        etcd: EtcdSource,
        parent: Path | None = None,
        *,
        config: ClusterConfig | None = None,
        keep: bool = False,
    ) -> None:
        """Make the directory.

        Args:
            etcd: the etcd to start.
            parent: the directory that it is made in (default: the system's temporary directory).
            config: has the address of this host on which ports are claimed, and the network of containers.
            keep: leave the etcds running at the end.

        Raises:
            ClusterStartError: if it cannot be made.
            UsageError: if a network of containers is given for processes.
        """
        config = config or ClusterConfig()
        if etcd.kind == "process" and names_network(config):
            raise UsageError(
                f"network, aliases and advertise are for containers, and {etcd.location} is a process: name "
                "the image of an etcd"
            )
        try:
            remove_what_is_here()
            super().__init__(parent, keep=keep)
        except OSError as error:
            why = f"{error}{open_files_advice(error)}"
            raise ClusterStartError(f"the directory of the cluster cannot be created: {why}") from error
        self.etcd = etcd
        self.pki = self.path / "pki"
        self.keep = keep
        self._address = config.host
        self.host = (etcd.kind == "container" and published_host()) or config.host
        self._claims: list[PortClaim] = []
        self._servers: dict[str, Server] = {}
        self.backend: ProcessBackend | ContainerBackend = (
            ContainerBackend(self, config) if etcd.kind == "container" else ProcessBackend(self)
        )

    @contextmanager
    def coming_up(self, name: str) -> Iterator[None]:
        """Remove everything if the start in the block fails.

        Raises:
            ClusterStartError: instead of an error of the system.
        """
        try:
            yield
        except BaseException as error:
            self.remove()
            # ValueError: a value with a NUL, in a command line or a path.
            told = isinstance(error, (OSError, ValueError, NotVerifiedError))
            why = str(error) if told else blocked_sockets(error)
            if isinstance(error, OSError):
                why += open_files_advice(error)
            if why:
                raise ClusterStartError(f"{name} did not start: {why}") from error
            raise
        if self.keep:
            self.watchdog.dismiss()

    def claim(self, ports: int) -> tuple[int, ...]:
        """Claim further ports, until the end."""
        claim = claim_ports(ports, self._address, skip=len(self._claims))
        self._claims.append(claim)
        return claim.ports

    def start(self, ports: int, start: Callable[[Sequence[int]], None]) -> None:
        """Call ``start`` with that many ports, and again with others if one of them turns out to be taken."""
        for attempt in range(_ATTEMPTS):
            self.backend.prepare()
            try:
                start(self.claim(ports))
            except PortTakenError:
                if attempt == _ATTEMPTS - 1:
                    raise
                self.discard()
                for directory in self.path.iterdir():
                    if directory != self.pki:
                        shutil.rmtree(directory, ignore_errors=True)
                self.release_ports()
            else:
                return

    def server(self, launch: Launch) -> Server:
        """Return an etcd that can be started. It goes on with the data and the log of a stopped namesake."""
        directory = self.path / launch.name
        directory.mkdir(mode=0o700, exist_ok=True)
        if launch.config_file is not None:
            write_files(directory, {PurePosixPath("etcd.conf.yml"): launch.config_file.encode()})
        before, server = self._servers.get(launch.name), self.backend.server(self.etcd.location, launch)
        if isinstance(server, EtcdContainer) and isinstance(before, EtcdContainer):
            server.take_over(before)
        self._servers[launch.name] = server
        return server

    def stop_servers(self, names: Iterable[str]) -> None:
        """Stop etcds together: terminate, and kill after half a second. Their data is kept."""
        stop_all([self._servers[name] for name in names])

    def drop(self, name: str) -> None:
        """Stop one etcd for good, and remove its directories."""
        self._servers.pop(name).remove()
        for directory in (self.path, self.pki):
            shutil.rmtree(directory / name, ignore_errors=True)

    def abandon(self) -> None:
        """Leave the etcds to others, which stop and remove them."""
        for server in self._servers.values():
            server.forget()

    def discard(self) -> None:
        """Stop the etcds for good. Their files on this host are kept."""
        if isinstance(self.backend, ContainerBackend):
            self.abandon()
            self.backend.remove()
        else:
            stop_all(self._servers.values())

    def release_ports(self) -> None:
        """Release the ports, which are etcd's or free from now on. It may be called repeatedly."""
        for claim in self._claims:
            claim.release()

    def stop(self) -> None:
        """Stop every etcd within one second and remove every file; do nothing to those that are kept."""
        if self.keep:
            self.abandon()
            self.release_ports()
        else:
            self.remove()

    def remove(self) -> None:
        """Remove everything. It may be called repeatedly, also after an interruption."""
        self.discard()
        self.release_ports()
        super().remove()

    def stop_command(self) -> str:
        """Return the shell command that stops the etcds that are kept, and removes their files."""
        if isinstance(self.backend, ContainerBackend):
            stop = self.backend.stop_command()
        else:
            pids = (server.pid for server in self._servers.values() if isinstance(server, EtcdProcess))
            stop = pasted("kill", *map(str, pids))
        return f"{stop}; {pasted('rm', '-rf', str(self.path))}"


def stop_all(servers: Iterable[Server]) -> None:
    """Stop etcds together: terminate, and kill after half a second. It may be called repeatedly."""
    servers = list(servers)
    for server in servers:
        server.terminate()
    deadline = system_clock() + _STOP_SECONDS
    for server in servers:
        server.stop(max(0.0, deadline - system_clock()))


def why_ended(name: str, server: Server) -> str:
    """Return why an etcd that had served is not running, empty if it runs. Its last words may not say it."""
    try:
        if server.running:
            return ""
        return with_last_line(f"{name} ended with status {server.exit_status}", server.log())
    except OSError as error:
        return f"{name} cannot be found: {error}"


class Start:
    """One start of one or more etcds.

    Args:
        name: of the start, for messages.
        seconds: time that the whole start may take.
        is_given_up: returns whether nobody waits for the start any more, which then fails.
    """

    def __init__(self, name: str, seconds: float, is_given_up: Callable[[], bool] = bool) -> None:
        self._name = name
        self._seconds = seconds
        self._is_given_up = is_given_up
        self._deadline = system_clock() + seconds

    def run(self, servers: Sequence[Server], *, one_by_one: bool = False) -> None:
        """Start etcds and wait until etcd's own log says that they serve clients.

        Args:
            servers: the etcds.
            one_by_one: start each when the peer port of the previous one answers; for members without
                data. Each asks the others whether it was a member before, and a bound port that does not
                answer yet delays it by one second.

        Raises:
            PortTakenError: if a port is taken.
            EtcdFailedError: if one ends, or the deadline passes.
        """
        for server in servers:
            try:
                server.start()
            except OSError as error:
                why = f"{error}{open_files_advice(error)}"
                raise self._failure(server, f"it cannot be run: {why}") from error
            if one_by_one and server is not servers[-1]:
                self._await(
                    [server], lambda readiness: readiness.serves_peers, "its peer port does not answer"
                )
        self.await_served(servers)

    def await_served(self, servers: Sequence[Server]) -> None:
        """Wait until the log of every etcd says that it serves. It raises as :meth:`run` does."""
        self._await(servers, lambda readiness: readiness.ready, "it does not serve clients")

    def await_health(self, health: Mapping[Server, Callable[[], str | None]]) -> None:
        """Wait until every etcd reports itself healthy: the function returns no problem.

        Raises:
            EtcdFailedError: if one ends, the deadline passes, or the function raises an error with which
                etcd refuses the client. It serves with the files that it keeps, so the next handshake would
                end alike.
        """
        for server, problem_of in health.items():
            while True:
                try:
                    problem = problem_of()
                except (ssl.SSLError, ConnectionResetError) as error:
                    problem = f"{type(error).__name__}: {error}"
                    # Revocation lists and allowed names are compared after the handshake, without an alert.
                    if isinstance(error, ssl.SSLError) or _REJECTED in server.log():
                        happened = f"it refuses the client of this cluster ({problem})"
                        advice = "; expects_health=False starts it nevertheless"
                        raise self._failure(server, happened, advice) from error
                if problem is None:
                    break
                if _CANNOT_CONNECT in problem and (why := local_ports_taken()):
                    raise self._failure(server, why)
                if self._is_over():
                    raise self._failure(server, f"not healthy after {self._seconds:g} s: {problem}")
                if server.wait(_HEALTH_GLANCE_SECONDS):
                    raise self._failure(server, f"it has ended; last answer: {problem}")

    def _await(
        self, servers: Sequence[Server], reached: Callable[[ReadinessLog], bool], problem: str
    ) -> None:
        pending = list(servers)
        while pending := [server for server in pending if not self._reached(server, reached)]:
            if self._is_over():
                raise self._failure(pending[0], f"{problem} after {self._seconds:g} s")
            # wait returns at once when etcd ends; its log is read in between.
            pending[0].wait(_GLANCE_SECONDS)

    def _is_over(self) -> bool:
        return system_clock() > self._deadline or self._is_given_up()

    def _reached(self, server: Server, reached: Callable[[ReadinessLog], bool]) -> bool:
        # In this order, so that the last lines of an etcd that has ended are read.
        ended = not server.running
        readiness = server.readiness()
        if readiness.address_in_use:
            raise PortTakenError(str(self._failure(server, "one of its ports is taken")))
        if ended:
            raise self._failure(server, f"it ended with status {server.exit_status}")
        if readiness.cannot_connect and (why := local_ports_taken()):
            raise self._failure(server, why)
        return reached(readiness)

    def _failure(self, server: Server, happened: str, advice: str = "") -> EtcdFailedError:
        """Return an error that ends with the last lines of etcd's log. A moved clock needs other advice."""
        happened += moved_clock() or advice
        log = server.log()
        tail = log.splitlines()[-_LOG_LINES:]
        end = "its log is empty" if not tail else "\n".join(["its log ends:", *tail])
        return EtcdFailedError(
            f"{self._name}, {server.launch.label} did not start: {happened}; {end}",
            why_not_started(server.launch.name, happened, log),
        )
