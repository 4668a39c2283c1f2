"""The backend that runs etcd as processes on this host.

Each etcd leads a session: Ctrl-C in a terminal goes to the tests, which stop etcd. Its output goes to a file
of mode 0600, which is read to know when it serves.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

from pytest_etcdtls.children import child_environment
from pytest_etcdtls.etcd.clocks import until
from pytest_etcdtls.etcd.launch import Launch, MemberAddresses, MemberPaths, ReadinessLog
from pytest_etcdtls.etcd.watchdog import GuardedDirectory, Watchdog
from pytest_etcdtls.pki.profile import MemberNames

_EXIT_SECONDS = 1.0
"""Seconds that an exiting process may take to become one whose status can be read."""

_PAUSE_SECONDS = 0.0005

_PF_EXITING = 0x4
"""Of the flags in /proc/PID/stat (proc_pid_stat(5), include/linux/sched.h)."""


class EtcdProcess:
    """An etcd that runs as a process, once or several times with the same data.

    Attributes:
        program: path of the binary.
        launch: what it is started with.
        log_file: the file that its output is appended to. Its directory is the working directory.
    """

    sees_host_files = True

    def __init__(self, program: str, launch: Launch, log_file: Path, watchdog: Watchdog) -> None:
        """Store the settings; :meth:`start` starts the process, which the watchdog kills if this one dies."""
        self.program = program
        self.launch = launch
        self.log_file = log_file
        self._watchdog = watchdog
        self._position = 0
        self._readiness = ReadinessLog(launch.serves)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, which leads its own session and process group.

        Raises:
            OSError: if the system cannot start it.
        """
        self._position = self.log_file.stat().st_size if self.log_file.exists() else 0
        self._readiness = ReadinessLog(self.launch.serves)
        with open(self.log_file, "ab", opener=_private) as output:
            # A separate session: Ctrl-C in the terminal does not reach etcd. This process stops it.
            self._process = subprocess.Popen(
                [self.program, *self.launch.arguments],
                env={**child_environment(), **self.launch.environment, **self._watchdog.mark},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.log_file.parent,
            )
        self._watchdog.order(process=self._process.pid)

    @property
    def pid(self) -> int | None:
        """Id of the process and of its group; ``None`` before the first start."""
        return None if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is running. One that is exiting, with its sockets closed, is waited for."""
        if self._process is None or self._process.poll() is not None:
            return False
        return not (_is_exiting(self._process.pid) and self._has_ended(_EXIT_SECONDS))

    @property
    def exit_status(self) -> int | None:
        """The exit status, as in :attr:`subprocess.Popen.returncode`."""
        return None if self._process is None else self._process.poll()

    def log(self) -> str:
        """Return the whole log so far."""
        return self.log_file.read_text(errors="replace", encoding="utf-8") if self.log_file.exists() else ""

    def readiness(self) -> ReadinessLog:
        """Read the log since the last call, and return how far the latest start is."""
        if self._process is None:
            return self._readiness
        with self.log_file.open("rb") as log:
            log.seek(self._position)
            output = log.read()
        self._position += len(output)
        return self._readiness.read(output)

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, at most this long; return whether it has ended."""
        return self._has_ended(seconds) or not self.running

    def _has_ended(self, seconds: float) -> bool:
        process = self._process
        # Popen.wait never gives up with a stopped clock.
        return process is None or until(lambda: process.poll() is not None, seconds, _PAUSE_SECONDS)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its process group, since the binary may be a wrapper script that does not exec."""
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def pause(self) -> None:
        """Stop it for now: it keeps its connections and answers nothing."""
        self.signal(signal.SIGSTOP)
        if self.pid is not None and self.running:
            # Its threads go on until each of them has seen the signal.
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Continue it after :meth:`pause`."""
        self.signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Begin to stop it."""
        if self.running:
            self.signal(signal.SIGTERM)

    def stop(self, seconds: float) -> None:
        """Wait until it has ended, and kill it after that many seconds. Its data is kept."""
        if self._process is not None:
            if not self.wait(seconds):
                self.signal(signal.SIGKILL)
            self._process.wait()

    def remove(self) -> None:
        """Kill it. Its data goes with its directory."""
        self.stop(0)

    def copy_files(self) -> None:
        """Do nothing: a process sees the files of this host."""

    def forget(self) -> None:
        """Leave it running when this process ends."""
        if self._process is not None:
            # Popen warns when it is garbage-collected before its process has ended, unless a return code is
            # set.
            self._process.returncode = 0


def _is_exiting(pid: int) -> bool:
    """Return whether Linux is ending a process: its sockets may be closed before its status can be read."""
    try:
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return False
    return bool(int(fields[6]) & _PF_EXITING)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class ProcessBackend:
    """Runs etcds of one owner as processes. They see the files and the ports of this host."""

    def __init__(self, directory: GuardedDirectory) -> None:
        """Run nothing yet."""
        self._directory = directory

    def names(self, member: str) -> MemberNames:
        """Return the names and addresses that a member's certificates are issued for."""
        return MemberNames(member)

    def listens_on(self, addresses: MemberAddresses) -> MemberAddresses:
        """Return a member's URLs as etcd gets them."""
        return addresses

    def published(self, addresses: MemberAddresses) -> Mapping[int, int]:
        """Return the ports on this host by those that etcd listens on: none, they are the same."""
        return {}

    @property
    def network(self) -> str | None:
        """Return nothing: processes are on this host."""
        return None

    def network_url(self, addresses: MemberAddresses) -> str:
        """Return the URL of a member's client listener."""
        return addresses.listen_client[0]

    def paths(self, name: str) -> MemberPaths:
        """Return the paths of an etcd's files as it sees them."""
        directory = PurePosixPath(self._directory.path, name)
        return MemberPaths(
            data=directory / "data",
            pki=PurePosixPath(self._directory.path, "pki"),
            config_file=directory / "etcd.conf.yml",
        )

    def prepare(self) -> None:
        """Do nothing: processes share nothing but the PKI."""

    def server(self, binary: str, launch: Launch) -> EtcdProcess:
        """Return an etcd that can be started. Its directory exists, and its configuration file."""
        log = self._directory.path / launch.name / "etcd.log"
        return EtcdProcess(binary, launch, log, self._directory.watchdog)
