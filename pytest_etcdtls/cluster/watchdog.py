"""Cleans up after an owner that was killed: ends its processes, runs its commands, removes its directories.

The same file is the owner's side (:class:`Watchdog`) and, run as a script with the standard library alone,
the watchdog itself. It is a process of its own session, so that Ctrl-C in a terminal does not reach it, and
reads orders from a pipe whose only write end is the owner's: when that end closes without the word that all
is done, the owner is gone, killed with -9 included. Linux's parent-death signal would not do: it comes when
the *thread* that started the child ends. This module does not know what the processes are.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path


def command(function: Callable[[str], object], argument: str) -> tuple[str, ...]:
    """Return a command line that calls a module's function with one argument, wherever it is run.

    Args:
        function: importable by its name; it may end the program with :func:`sys.exit`.
        argument: no secret, as command lines can be read by others.
    """
    here = str(Path(__file__).parents[2])
    module, name = function.__module__, function.__name__
    program = f"import sys; sys.path.insert(0, {here!r}); from {module} import {name}; {name}({argument!r})"
    return (sys.executable, "-c", program)


MARK = "PYTEST_ETCDTLS_OWNER"
"""Environment variable of every process to watch over; its value tells them from all others."""

_GRACE_SECONDS = 5.0
_SWEEPS = 5
_MOST_SWEEPS = 250
_PAUSE_SECONDS = 0.02


class Watchdog:
    """The owner's side; start it before what it shall watch over.

    Attributes:
        mark: environment that the processes to watch over must be started with.
    """

    def __init__(self, token: str) -> None:
        """Start the watchdog.

        Args:
            token: unique to this owner.
        """
        self.mark = {MARK: token}
        self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, token, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            bufsize=0,
        )

    @property
    def pid(self) -> int | None:
        """Its process id; ``None`` when it is dismissed."""
        return None if self._process is None else self._process.pid

    def guard_directory(self, path: Path) -> None:
        """Have a directory removed if the owner dies."""
        self._tell(directory=str(path))

    def guard_group(self, group: int) -> None:
        """Have a process group killed if the owner dies; on Linux the mark alone would do."""
        self._tell(group=group)

    def guard_command(self, argv: Sequence[str]) -> None:
        """Have a command run if the owner dies, after processes have been killed."""
        self._tell(command=list(argv))

    def dismiss(self) -> None:
        """Tell it that nothing is left to do, and wait for its end. May be called again."""
        if self._process is None:
            return
        self._tell(done=True)
        process, self._process = self._process, None
        if process.stdin is not None:
            process.stdin.close()
        process.wait()

    def _tell(self, **order: object) -> None:
        if self._process is None or self._process.stdin is None:
            return
        # A watchdog that somebody has killed cannot help any more, and is no reason to fail.
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(order).encode() + b"\n")


def watch(pipe: int, token: str, owner: int) -> None:
    """Follow the owner's orders to their end, and clean up if it does not say that all is done.

    Args:
        pipe: file descriptor that the orders are read from.
        token: of the owner.
        owner: its process id.
    """
    groups: set[int] = set()
    directories: list[str] = []
    commands: list[list[str]] = []
    for line in _orders(pipe, owner):
        order = json.loads(line)
        if "done" in order:
            return
        if "group" in order:
            groups.add(order["group"])
        if "directory" in order:
            directories.append(order["directory"])
        if "command" in order:
            commands.append(order["command"])
    if not Path("/proc/self/environ").exists():
        _kill(groups)
    for sweep in range(_MOST_SWEEPS):
        # Again and again, since one that was being started at the very moment of the owner's death has no
        # environment of its own, and is known by nothing, before the kernel has made it etcd.
        _kill(_marked(token))
        if sweep >= _SWEEPS and not any(_is_becoming(group) for group in groups):
            break
        select.select([], [], [], _PAUSE_SECONDS)
    for command in commands:
        subprocess.run(command, check=False, stdin=subprocess.DEVNULL)
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


def _orders(pipe: int, owner: int) -> Iterator[bytes]:
    """Yield complete lines until the pipe ends, or the owner does.

    A child that the owner forked, and that never called exec, keeps the pipe open beyond the owner's end.
    """
    waiting = select.poll()
    waiting.register(pipe, select.POLLIN)
    if (process := _pidfd(owner)) is not None:
        waiting.register(process, select.POLLIN)
    # An owner that is not our parent was gone before we looked: only what it has written is left to read.
    timeout = None if os.getppid() == owner else 0
    pending = b""
    while any(descriptor == pipe for descriptor, _ in waiting.poll(timeout)):
        chunk = os.read(pipe, 65536)
        if not chunk:
            return
        *lines, pending = (pending + chunk).split(b"\n")
        yield from lines


def _pidfd(process: int) -> int | None:
    """Return a descriptor that tells when a process ends, where the system has such."""
    if not hasattr(os, "pidfd_open"):
        return None
    with suppress(ProcessLookupError):
        return os.pidfd_open(process)
    return None


def _marked(token: str) -> set[int]:
    """Return the process groups of everything that carries the token, on Linux."""
    mark = f"{MARK}={token}".encode()
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        # Gone meanwhile, or not ours to look into.
        with suppress(OSError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.add(os.getpgid(int(entry.name)))
    return found


def _is_becoming(process: int) -> bool:
    """Whether a process lives and has no environment, as between exec and the program's first instruction."""
    with suppress(OSError):
        if (Path("/proc") / str(process) / "environ").read_bytes():
            return False
        if (descriptor := _pidfd(process)) is not None:
            ended = bool(select.select([descriptor], [], [], 0)[0])
            os.close(descriptor)
            return not ended
    return False


def _kill(groups: Iterable[int]) -> None:
    """Kill process groups and wait until their leaders are gone, so that they write nothing any more."""
    leaders = []
    for group in groups:
        with suppress(OSError):
            if hasattr(os, "pidfd_open"):
                leaders.append(os.pidfd_open(group))
        with suppress(OSError):
            os.killpg(group, signal.SIGKILL)
    for leader in leaders:
        select.select([leader], [], [], _GRACE_SECONDS)
        os.close(leader)


if __name__ == "__main__":
    watch(sys.stdin.fileno(), sys.argv[1], int(sys.argv[2]))
