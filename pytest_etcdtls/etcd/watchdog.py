"""Cleans up after a killed owner: kills its processes, removes its directories, runs its commands.

This file contains the owner's side (:class:`Watchdog`, :class:`GuardedDirectory`). Run as a script with the
standard library only, it is the watchdog process. The process has its own session, so that Ctrl-C in a
terminal does not reach it. It reads orders from a socket whose only other end is the owner's. If that end
closes before the owner has sent the final order, the owner has died, possibly by SIGKILL. Linux's
parent-death signal is not suitable: it is sent when the *thread* that started the child ends.

A process is killed only if it is ours: each of its user IDs is ours, and its environment has the secret of
its owner, which nobody else can read there. It is killed by its descriptor, alone, since a process group may
have processes of others.
"""

from __future__ import annotations

import _socket
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

PREFIX = "pytest-etcdtls-"
"""What the name of a guarded directory, and of a network, begins with."""

MARK = "PYTEST_ETCDTLS_OWNER"
"""Environment variable of every guarded process: the secret of its owner, and the path of the record."""

OWNER = "PYTEST_ETCDTLS_OWNER_PROCESS"
"""Label of a container, with the process that owns it (:func:`this_process`)."""

RECORD = "owner"
"""Name of the record in a guarded directory: the process that owns it, and its secret. It is 0600."""

_LONGEST_ENVIRONMENT = 8 * 1024 * 1024
"""Octets. Linux passes at most 6 MiB to a program (execve(2))."""

_GRACE_SECONDS = 5.0
_SWEEPS = 5
_MOST_SWEEPS = 250
_PAUSE_SECONDS = 0.02


def command(function: Callable[[str], object], argument: str) -> tuple[str, ...]:
    """Return a command line that calls a module's function with one argument.

    It runs in any directory, and imports nothing from it.

    Args:
        function: a function that can be imported by name. It may call :func:`sys.exit`.
        argument: the argument. It must not be a secret, since other users can read command lines.
    """
    here = str(Path(__file__).parents[2])
    module, name = function.__module__, function.__name__
    program = f"import sys; sys.path.insert(0, {here!r}); from {module} import {name}; {name}({argument!r})"
    return (sys.executable, "-P", "-c", program)


def this_process() -> str:
    """Return a text by which :func:`is_dead` recognises this process; empty if the system has no /proc.

    It has the name of the host, the boot, the namespace of process ids, the process id and when it started.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return " ".join((os.uname().nodename, boot, os.readlink("/proc/self/ns/pid"), *_started(os.getpid())))
    except OSError:
        return ""


def is_dead(owner: str) -> bool:
    """Return whether an owner has certainly ended. One of another host or namespace may live."""
    here, parts = this_process().split(" "), owner.split(" ")
    if len(here) != len(parts) or here[0] != parts[0]:
        return False
    if here[1] != parts[1]:
        return True  # the host was started again
    try:
        return here[2] == parts[2] and _started(int(parts[3])) != (parts[3], parts[4])
    except ValueError:
        return False
    except OSError:  # it has ended, or is another user's, which /proc may hide (hidepid)
        try:
            os.kill(int(parts[3]), 0)
        except (OSError, OverflowError) as error:
            return isinstance(error, ProcessLookupError)
        return False


def _started(process: int) -> tuple[str, str]:
    """Return a process id, and when the process started in ticks since the boot (proc_pid_stat(5))."""
    return str(process), Path(f"/proc/{process}/stat").read_text(
        encoding="utf-8", errors="replace"
    ).rpartition(")")[2].split()[19]


class Watchdog:
    """The owner's side. Start it before the processes that it guards.

    Attributes:
        mark: environment variable that guarded processes must be started with.
        secret: what no other user knows of it.
        pid: process id of the watchdog; ``None`` after :meth:`dismiss`.
    """

    def __init__(self, record: str = "") -> None:
        """Start the watchdog.

        Args:
            record: path of the owner's record; empty if there is none.
        """
        from pytest_etcdtls.children import child_environment  # the process that runs this file lacks it

        self.secret = os.urandom(16).hex()
        self.mark = {MARK: f"{self.secret} {record}"}
        # Not socket.socketpair: plugins that forbid tests the network replace socket.socket.
        ours, theirs = _socket.socketpair()
        try:
            with closing(theirs):
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", __file__, str(os.getpid())],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                    cwd="/",
                    env=child_environment(engine=True),
                )
        except BaseException:
            ours.close()
            raise
        self._channel: _socket.socket | None = ours
        self.pid: int | None = self._process.pid
        self.order(mark=self.mark[MARK])

    def dismiss(self) -> None:
        """Send the final order and wait until the watchdog ends. It may be called repeatedly."""
        self.order(done=True)
        if self._channel is not None:
            self._channel.close()
            self._process.wait()
            self._channel = self.pid = None

    def order(self, **order: object) -> None:
        """Send an order for the case that the owner dies.

        A ``directory`` is removed, a ``process`` that is being started and has no mark yet is waited for, a
        ``command`` is run after everything else.
        """
        if self._channel is not None:
            # A watchdog that was killed is not an error.
            with suppress(BrokenPipeError, ConnectionResetError):
                self._channel.sendall(json.dumps(order).encode() + b"\n")


class GuardedDirectory:
    """A new directory (0700) that its watchdog removes if the owner dies.

    The watchdog is told of the directory before it is made, so that none is left at any moment.

    Attributes:
        token: a token that is unique to the directory and its owner; the directory's name.
        path: the directory.
        owner: this process (:func:`this_process`); empty if what it starts may live longer.
        watchdog: the watchdog, for the processes that the owner starts.
    """

    def __init__(self, parent: Path | None = None, *, keep: bool = False) -> None:
        """Make the directory.

        Args:
            parent: the directory that it is made in (default: the system's temporary directory).
            keep: it may live longer than this process.

        Raises:
            OSError: if it cannot be made, or the watchdog cannot be started.
        """
        self.token = f"{PREFIX}{os.urandom(8).hex()}"
        self.owner = "" if keep else this_process()
        import tempfile  # the watchdog process, which runs this file too, does not need it

        self.path = (parent or Path(tempfile.gettempdir())).absolute() / self.token
        self.watchdog = Watchdog(str(self.path / RECORD) if self.owner else "")
        try:
            self.watchdog.order(directory=str(self.path))
            self.path.mkdir(mode=0o700)
            if self.owner:
                record = self.path / RECORD
                record.touch(mode=0o600)
                record.write_text(f"{self.owner}\n{self.watchdog.secret}", encoding="utf-8")
        except OSError:
            self.watchdog.dismiss()
            raise

    def remove(self) -> None:
        """Remove the directory, and end the watchdog. It may be called repeatedly."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.watchdog.dismiss()


def watch(pipe: int, owner: int) -> None:
    """Read the owner's orders from a descriptor to their end, and clean up if the final order is missing."""
    mark = ""
    started: set[int] = set()
    directories: list[str] = []
    commands: list[list[str]] = []
    # If the owner is not our parent it has already ended; only what it has written is left to read.
    for line in _orders(pipe, owner, None if os.getppid() == owner else 0):
        order = json.loads(line)
        if "done" in order:
            return
        mark = order.get("mark", mark)
        if "process" in order:
            started.add(order["process"])
        if "directory" in order:
            directories.append(order["directory"])
        if "command" in order:
            commands.append(order["command"])
    for sweep in range(_MOST_SWEEPS if mark else 0):
        # Repeat: a process that was being started when the owner died has no environment to recognise it by
        # until the kernel has completed exec.
        kill(lambda other: other == mark)
        if sweep >= _SWEEPS and not any(_is_starting(process) for process in started):
            break
        select.select([], [], [], _PAUSE_SECONDS)
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)
    for command in commands:
        subprocess.run(command, check=False, stdin=subprocess.DEVNULL, env=dict(os.environ))


def _orders(pipe: int, owner: int, timeout: int | None) -> Iterator[bytes]:
    """Yield complete lines until the pipe is closed or the owner has ended.

    A child that the owner forked without exec keeps the pipe open after the owner has ended.
    """
    waiting = select.poll()
    waiting.register(pipe, select.POLLIN)
    with suppress(OSError):  # it has ended
        waiting.register(os.pidfd_open(owner), select.POLLIN)
    pending = b""
    while any(descriptor == pipe for descriptor, _ in waiting.poll(timeout)):
        chunk = b""
        with suppress(ConnectionResetError):  # the owner ended before it had read everything
            chunk = os.read(pipe, 65536)
        if not chunk:
            return
        *lines, pending = (pending + chunk).split(b"\n")
        yield from lines


def _is_starting(process: int) -> bool:
    """Whether a process exists without environment, as between exec and the program's first instruction."""
    with suppress(OSError):
        if (Path("/proc") / str(process) / "environ").read_bytes():
            return False
        descriptor = os.pidfd_open(process)
        ended = bool(select.select([descriptor], [], [], 0)[0])
        os.close(descriptor)
        return not ended
    return False


def kill(is_meant: Callable[[str], bool]) -> list[int]:
    """Kill the processes of this user whose mark is meant, and wait until they have ended.

    Returns:
        Their process IDs.
    """
    killed: dict[int, int] = {}
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            # First the descriptor: if the process ends now, another one that gets its ID is not killed.
            descriptor = os.pidfd_open(int(directory.name))
            try:
                if is_meant(_mark(directory)):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                    killed[int(directory.name)] = os.dup(descriptor)
            finally:
                os.close(descriptor)
    for descriptor in killed.values():
        select.select([descriptor], [], [], _GRACE_SECONDS)
        os.close(descriptor)
    return [*killed]


def _mark(process: Path) -> str:
    """Return the mark of a process of this user; empty if it has none, or is of another user.

    A program that changes its user, such as ``sudo``, is of two, and its environment is of the other one.

    Raises:
        OSError: if the process has ended.
    """
    if process.stat().st_uid != os.geteuid():
        return ""
    ids = re.search(rb"^Uid:(.*)$", (process / "status").read_bytes(), re.MULTILINE)
    if ids is None or {*map(int, ids[1].split())} != {os.geteuid()}:
        return ""
    with open(process / "environ", "rb") as file:  # which a process can place anywhere in its memory
        variables = file.read(_LONGEST_ENVIRONMENT)
    mark = re.search(rb"(?:^|\0)%s=([^\0]*)" % MARK.encode(), variables)
    return os.fsdecode(mark[1]) if mark else ""


if __name__ == "__main__":
    watch(sys.stdin.fileno(), int(sys.argv[1]))
