"""A cluster of etcd processes on this host."""

from __future__ import annotations

import os
import select
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from pytest_etcdtls.cluster.command_line import (
    FileNames,
    FlagSet,
    MemberAddresses,
    MemberPaths,
    command_line,
    render,
)
from pytest_etcdtls.cluster.owned import OwnedCluster, farewell
from pytest_etcdtls.cluster.owned_member import ReachableMember, ReadinessLog, Served
from pytest_etcdtls.cluster.sources import binary_flags, clean_environment
from pytest_etcdtls.cluster.watchdog import Watchdog

_STOP_SECONDS = 0.5
"""Seconds that etcd may take to stop. A leader would wait longer for a successor that is stopping too."""


class EtcdProcess:
    """A running or ended etcd process.

    Attributes:
        pid: id of the process, which leads its own session and process group.
    """

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        """Start etcd. Its output is appended to the log.

        Raises:
            OSError: if the system cannot start it.
        """
        self._log = log
        self._position = log.stat().st_size if log.exists() else 0
        with open(log, "ab", opener=_private) as output:
            # A separate session: Ctrl-C in the terminal does not reach etcd. This process stops it.
            self._process = subprocess.Popen(
                argv,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=log.parent,
            )
        self.pid = self._process.pid
        self._exit = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else None

    @property
    def running(self) -> bool:
        """Whether the process is running."""
        return self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """The exit status, as in :attr:`subprocess.Popen.returncode`."""
        return self._process.poll()

    def new_lines(self) -> list[str]:
        """Return the complete lines written since the last call."""
        with self._log.open("rb") as log:
            log.seek(self._position)
            text = log.read()
        end = text.rfind(b"\n") + 1
        self._position += end
        return text[:end].decode(errors="replace").splitlines()

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, at most this long; return whether it has ended."""
        if self._exit is not None:
            select.select([self._exit], [], [], max(0.0, seconds))
            return not self.running
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, seconds))
        return not self.running

    def reap(self) -> None:
        """Wait without limit until it has ended, after a kill."""
        self._process.wait()
        self._close()

    def abandon(self) -> None:
        """Leave it running when this process ends."""
        self._close()
        # Popen warns when it is garbage-collected before its process has ended, unless a return code is set.
        self._process.returncode = 0

    def _close(self) -> None:
        if self._exit is not None:
            os.close(self._exit)
            self._exit = None


def stop_all(processes: Iterable[EtcdProcess]) -> None:
    """Stop processes together: terminate, and kill after half a second. It may be called repeatedly."""
    alive = [process for process in processes if process.running]
    for process in alive:
        _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    for process in alive:
        if not process.wait(deadline - time.monotonic()):
            _signal(process, signal.SIGKILL)
    for process in alive:
        process.reap()


def _signal(process: EtcdProcess, number: signal.Signals) -> None:
    # Signal the group, since the binary may be a wrapper script that does not exec.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@dataclass(kw_only=True)
class ProcessMember(ReachableMember):
    """An etcd server that runs as a process on this host.

    Attributes:
        environment: its complete environment.
        directory: the member's directory, with its data and its log.
        watchdog: the watchdog that its process is registered with.
    """

    environment: Mapping[str, str] = field(repr=False)
    directory: Path
    watchdog: Watchdog = field(repr=False)
    process: EtcdProcess | None = field(default=None, repr=False)
    _progress: ReadinessLog = field(default_factory=lambda: ReadinessLog(()), repr=False)

    @property
    def running(self) -> bool:
        """Whether its process is running."""
        return self.process is not None and self.process.running

    @property
    def ready(self) -> bool:
        """Whether it is running and has logged since its last start that it serves clients."""
        return self.running and self.progress().ready

    @property
    def exit_status(self) -> int | None:
        """The exit status of its process; ``None`` while it runs."""
        return None if self.process is None else self.process.exit_status

    @property
    def log_file(self) -> Path:
        """Path of its log."""
        return self.directory / "etcd.log"

    def log(self) -> str:
        """Return the whole log so far."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def start(self) -> None:
        """Start its process. On return the listeners may not be served yet.

        Raises:
            OSError: if the system cannot start it.
        """
        listen = (*self.addresses.listen_client, *self.addresses.listen_client_http)
        self._progress = ReadinessLog(Served.from_urls(listen))
        self.process = EtcdProcess(self.argv, self.environment, self.log_file)
        self.watchdog.guard_group(self.process.pid)

    def wait(self, seconds: float) -> bool:
        """Wait until its process has ended, at most this long; return whether it has ended."""
        return self.process is None or self.process.wait(seconds)

    def progress(self) -> ReadinessLog:
        """Read the log lines since the last call, and return the member's readiness."""
        if self.process is not None:
            self._progress.feed(self.process.new_lines())
        return self._progress

    def forget(self) -> None:
        """Remove the data and the log of a process that has ended."""
        shutil.rmtree(self.directory, ignore_errors=True)


class ProcessCluster(OwnedCluster[ProcessMember]):
    """Local etcd processes, started by the constructor. The source is the path of a binary."""

    origin: Literal["process", "container"] = "process"

    def farewell(self) -> str:
        """Return the commands to use a kept cluster and to stop it."""
        pids = " ".join(str(process.pid) for process in _processes(self.members))
        stop = f"kill {pids}; rm -rf {shlex.quote(str(self.directory))}"
        password_file = self._password_file if self.user else None
        return farewell(self, self.directory, stop, password_file=password_file)

    def _known_flags(self) -> FlagSet:
        return binary_flags(Path(self.source))

    def _member(self, addresses: Sequence[MemberAddresses], index: int) -> ProcessMember:
        own = addresses[index]
        directory = self.directory / own.name
        place = MemberPaths(
            data=PurePosixPath(directory, "data"),
            pki=PurePosixPath(self.pki_directory),
            config_file=PurePosixPath(directory, "etcd.conf.yml"),
        )
        flags = self._member_flags(addresses, index, place)
        directory.mkdir(mode=0o700)
        config_file = Path(place.config_file) if self.config.config_file else None
        if config_file is not None:
            config_file.write_text(render(flags, self.config, place))
        extra = {name: place.fill_in(value) for name, value in self.config.environment.items()}
        return ProcessMember(
            addresses=own,
            argv=command_line(self.source, flags, self.config, place),
            environment=clean_environment({**extra, **self._watchdog.mark}),
            directory=directory,
            watchdog=self._watchdog,
            pki_root=self.pki_directory,
            files=FileNames.of_member(self.pki, own.name),
            variables=extra,
            config_file=config_file,
        )

    def _stop(self, members: Sequence[ProcessMember]) -> None:
        stop_all(_processes(members))

    def _discard(self) -> None:
        stop_all(_processes(self.members))
        for member in self.members:
            member.forget()

    def _abandon(self) -> None:
        for process in _processes(self.members):
            process.abandon()


def _processes(members: Sequence[ProcessMember]) -> list[EtcdProcess]:
    return [member.process for member in members if member.process is not None]
