"""The backend that runs etcd as processes on this host.

Each etcd leads a session: Ctrl-C in a terminal goes to the tests, which stop etcd. Its output goes to a file
of mode 0600, which is read to know when it serves.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Literal

from pytest_etcdtls.cluster.config import FlagSet, MemberAddresses, MemberPaths
from pytest_etcdtls.cluster.sources import binary_flags
from pytest_etcdtls.cluster.watchdog import GuardedDirectory, Watchdog, child_environment
from pytest_etcdtls.pki.profile import MemberNames

_STOP_SECONDS = 0.5
"""Seconds that etcd may take to stop. A leader would wait longer for a successor that is stopping too."""

_EXIT_SECONDS = 1.0
"""Seconds that an exiting process may take to become one whose status can be read."""

_PF_EXITING = 0x4
"""Of the flags in /proc/PID/stat (proc_pid_stat(5), include/linux/sched.h)."""


class EtcdProcess:
    """An etcd that runs as a process, once or several times with the same data.

    Attributes:
        log_file: path of its log.
    """

    def __init__(
        self, argv: Sequence[str], environment: Mapping[str, str], log_file: Path, watchdog: Watchdog
    ) -> None:
        """Store the settings; :meth:`start` starts the process.

        Args:
            argv: the command line.
            environment: its complete environment.
            log_file: the file that its output is appended to. Its directory is the working directory.
            watchdog: kills the process if this one dies.
        """
        self.log_file = log_file
        self._argv = argv
        self._environment = {**environment, **watchdog.mark}
        self._watchdog = watchdog
        self._position = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._exit: int | None = None

    def start(self) -> None:
        """Start the process, which leads its own session and process group.

        Raises:
            OSError: if the system cannot start it.
        """
        self._close()
        self._position = self.log_file.stat().st_size if self.log_file.exists() else 0
        with open(self.log_file, "ab", opener=_private) as output:
            # A separate session: Ctrl-C in the terminal does not reach etcd. This process stops it.
            self._process = subprocess.Popen(
                self._argv,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.log_file.parent,
            )
        self._exit = os.pidfd_open(self._process.pid) if hasattr(os, "pidfd_open") else None
        self._watchdog.guard_group(self._process.pid)

    @property
    def pid(self) -> int | None:
        """Id of the process and of its group; ``None`` before the first start."""
        return None if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is running. One that is exiting, with its sockets closed, is waited for."""
        if self._process is None or self._process.poll() is not None:
            return False
        if _is_exiting(self._process.pid):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_EXIT_SECONDS)
        return self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """The exit status, as in :attr:`subprocess.Popen.returncode`."""
        return None if self._process is None else self._process.poll()

    def log(self) -> str:
        """Return the whole log so far."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def new_lines(self) -> list[str]:
        """Return the complete lines written since the last call."""
        if self._process is None:
            return []
        with self.log_file.open("rb") as log:
            log.seek(self._position)
            text = log.read()
        end = text.rfind(b"\n") + 1
        self._position += end
        return text[:end].decode(errors="replace").splitlines()

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, at most this long; return whether it has ended."""
        if self._exit is not None:
            select.select([self._exit], [], [], max(0.0, seconds))
        elif self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(max(0.0, seconds))
        return not self.running

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its process group, since the binary may be a wrapper script that does not exec."""
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def pause(self) -> None:
        """Stop it for now: it keeps its connections and answers nothing."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue it after :meth:`pause`."""
        self.signal(signal.SIGCONT)

    def reap(self) -> None:
        """Wait without limit until it has ended, and release what the system keeps of it."""
        if self._process is not None:
            self._process.wait()
        self._close()

    def copy_files(self) -> None:
        """Do nothing: a process sees the files of this host."""

    def abandon(self) -> None:
        """Leave it running when this process ends."""
        self._close()
        if self._process is not None:
            # Popen warns when it is garbage-collected before its process has ended, unless a return code is
            # set.
            self._process.returncode = 0

    def _close(self) -> None:
        if self._exit is not None:
            os.close(self._exit)
            self._exit = None


def stop_all(processes: Iterable[EtcdProcess]) -> None:
    """Stop processes together: terminate, and kill after half a second. It may be called repeatedly."""
    processes = list(processes)
    alive = [process for process in processes if process.running]
    for process in alive:
        process.signal(signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    for process in alive:
        if not process.wait(deadline - time.monotonic()):
            process.signal(signal.SIGKILL)
    for process in processes:
        process.reap()


def _is_exiting(pid: int) -> bool:
    """Return whether Linux is ending a process: its sockets may be closed before its status can be read."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return bool(int(fields[6]) & _PF_EXITING)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class ProcessBackend:
    """Runs the members of one cluster as processes of a binary."""

    origin: Literal["process", "container"] = "process"
    sees_host_files = True

    def __init__(self, binary: str, home: GuardedDirectory) -> None:
        """Run nothing yet."""
        self.source = self.program = binary
        self._home = home
        self._servers: dict[str, EtcdProcess] = {}

    def use(self, binary: str, version: str) -> None:
        """Run another binary from now on."""
        self.source = self.program = binary

    def flags(self) -> FlagSet:
        """Return the flags of this etcd."""
        return binary_flags(Path(self.source))

    def names(self, member: str) -> MemberNames:
        """Return the names and addresses that a member's certificates are issued for."""
        return MemberNames(member)

    def reached_at(self, addresses: MemberAddresses) -> MemberAddresses:
        """Return a member's URLs as seen from this host."""
        return addresses

    def listens_on(self, addresses: MemberAddresses) -> MemberAddresses:
        """Return a member's URLs as etcd gets them."""
        return addresses

    def paths(self, member: str) -> MemberPaths:
        """Return the paths of a member's files as etcd sees them."""
        directory = PurePosixPath(self._home.path, member)
        return MemberPaths(
            data=directory / "data",
            pki=PurePosixPath(self._home.path, "pki"),
            config_file=directory / "etcd.conf.yml",
        )

    def prepare(self) -> None:
        """Do nothing: processes share nothing but the PKI."""

    def server(
        self,
        addresses: MemberAddresses,
        argv: Sequence[str],
        variables: Mapping[str, str],
        config_file: Path | None,
        ports: Sequence[int] = (),
    ) -> EtcdProcess:
        """Return an etcd that can be started. Its directory exists, and its configuration file.

        ``config_file`` and ``ports`` are for containers: a process sees the files and ports of this host.
        """
        log = self._home.path / addresses.name / "etcd.log"
        server = EtcdProcess(argv, {**child_environment(), **variables}, log, self._home.watchdog)
        self._servers[addresses.name] = server
        return server

    def stop(self, members: Iterable[str]) -> None:
        """Stop members together. Their data is kept."""
        stop_all([self._servers[name] for name in members])

    def drop(self, member: str) -> None:
        """Stop one member for good."""
        stop_all([self._servers.pop(member)])

    def discard(self) -> None:
        """Remove all members. It may be called repeatedly, also after an interruption."""
        stop_all(self._servers.values())

    def abandon(self) -> None:
        """Leave the members running after this process ends."""
        for server in self._servers.values():
            server.abandon()

    def stop_command(self) -> str:
        """Return the shell command that stops a kept cluster."""
        return f"kill {' '.join(str(server.pid) for server in self._servers.values())}"
