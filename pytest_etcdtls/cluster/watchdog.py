"""Cleans up after a killed owner: kills its processes, runs its commands, removes its directories.

This file contains the owner's side (:class:`Watchdog`, :class:`GuardedDirectory`). Run as a script with the
standard library only, it is the watchdog process. The process has its own session, so that Ctrl-C in a
terminal does not reach it. It reads orders from a socket whose only other end is the owner's. If that end
closes before the owner has sent the final order, the owner has died, possibly by SIGKILL. Linux's
parent-death signal is not suitable: it is sent when the *thread* that started the child ends.

An owner may leave what is guarded to a later one. The watchdog then listens on a socket in the file system
for a while. The first process of this user that connects is the next owner, and no other process can connect
from then on. If none does in time, the watchdog cleans up as if the owner had died.
"""

from __future__ import annotations

import _socket
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

MARK = "PYTEST_ETCDTLS_OWNER"
"""Environment variable of every guarded process. Its value identifies the owner."""

_GRACE_SECONDS = 5.0
_SWEEPS = 5
_MOST_SWEEPS = 250
_PAUSE_SECONDS = 0.02
_GLANCE_SECONDS = 30.0
_DONE = b"done"
"""The answer to an order that has one."""


_INHERITED = frozenset(
    {
        *("PATH", "HOME", "TMPDIR", "TMP", "TEMP", "LANG", "LC_ALL", "TZ", "SYSTEMROOT"),
        # A dynamically linked etcd or Python, and a container engine of this user, are found by these.
        *("LD_LIBRARY_PATH", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"),
    }
)
_OF_THE_ENGINE = frozenset(
    {
        *("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"),
        *("DOCKER_API_VERSION", "SSH_AUTH_SOCK", "TC_HOST", "TESTCONTAINERS_HOST_OVERRIDE"),
        *("TESTCONTAINERS_DOCKER_SOCKET_OVERRIDE", "TESTCONTAINERS_RYUK_DISABLED", "PYTHONPATH"),
    }
)
"""By these Python finds docker-py, and docker-py, testcontainers and ssh find the engine. None is secret."""


def child_environment(*, engine: bool = False) -> dict[str, str]:
    """Return the environment of a child process: the named variables and no other.

    A child must not inherit secrets (``ETCDTLS_KEY_PASSWORD``, ``ETCDCTL_USER``, tokens of a CI job), or
    settings of etcd and of Go's TLS (``ETCD_*``, ``GODEBUG``, ``SSL_CERT_FILE``).

    Args:
        engine: whether the child uses the container engine.
    """
    names = _INHERITED | (_OF_THE_ENGINE if engine else frozenset())
    return {name: value for name, value in os.environ.items() if name in names}


def command(function: Callable[[str], object], argument: str) -> tuple[str, ...]:
    """Return a command line that calls a module's function with one argument, from any directory.

    Args:
        function: a function that can be imported by name. It may call :func:`sys.exit`.
        argument: the argument. It must not be a secret, since other users can read command lines.
    """
    here = str(Path(__file__).parents[2])
    module, name = function.__module__, function.__name__
    program = f"import sys; sys.path.insert(0, {here!r}); from {module} import {name}; {name}({argument!r})"
    return (sys.executable, "-c", program)


class Watchdog:
    """The owner's side. Start it before the processes that it guards.

    Attributes:
        mark: environment variable that guarded processes must be started with.
        pid: process id of the watchdog; ``None`` after :meth:`dismiss`.
    """

    def __init__(self, token: str) -> None:
        """Start the watchdog. The token is unique to this owner."""
        self.mark = {MARK: token}
        # Not socket.socketpair: plugins that forbid tests the network replace socket.socket.
        ours, theirs = _socket.socketpair()
        try:
            with closing(theirs):
                self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
                    [sys.executable, "-I", "-S", __file__, token, str(os.getpid())],
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

    def __getstate__(self) -> dict[str, object]:
        """Leave out what another process cannot have; :meth:`take` replaces it."""
        return {**vars(self), "_process": None, "_channel": None, "pid": None}

    def guard_directory(self, path: Path) -> None:
        """Remove a directory if the owner dies."""
        self._send(directory=str(path))

    def guard_group(self, group: int) -> None:
        """Kill a process group if the owner dies. On Linux the mark alone is sufficient."""
        self._send(group=group)

    def guard_command(self, argv: Sequence[str]) -> None:
        """Run a command if the owner dies, after the processes are killed."""
        self._send(command=list(argv))

    def hold(self, path: Path) -> None:
        """Lock a directory as long as the watchdog runs, so that others can see that it does.

        Raises:
            OSError: if it cannot be locked.
        """
        self._send(hold=str(path))
        if self._channel is None or _line(self._channel) != _DONE:
            raise OSError(f"{path} cannot be locked")

    def dismiss(self) -> None:
        """Send the final order and wait until the watchdog ends. It may be called repeatedly."""
        self._send(done=True)
        self.give_up()

    def give_up(self) -> None:
        """Let the watchdog clean up, unless the final order was sent, and wait until it ends."""
        if self._channel is None:
            return
        end(self._channel)
        if self._process is not None:
            self._process.wait()
        self._process = self._channel = self.pid = None

    def leave(self, path: Path, seconds: float, state: str) -> bool:
        """Leave everything to a later owner; return whether the watchdog does that.

        Args:
            path: the socket at which :func:`inherit` finds the watchdog.
            seconds: time after which it cleans up.
            state: text without line breaks for the next owner. It is kept in memory.
        """
        self._send(leave={"path": str(path), "seconds": seconds, "state": state})
        if self._channel is None or _line(self._channel) != _DONE:
            return False
        self._channel.close()
        if self._process is not None:
            self._process.returncode = 0  # else Popen warns that the process has not ended
        self._process = self._channel = self.pid = None
        return True

    def take(self, channel: _socket.socket) -> None:
        """Become the owner, over a connection of :func:`inherit`."""
        self._channel, self.pid = channel, peer_of(channel)[0]

    def _send(self, **order: object) -> None:
        if self._channel is not None:
            # A watchdog that was killed is not an error.
            with suppress(BrokenPipeError, ConnectionResetError):
                self._channel.sendall(json.dumps(order).encode() + b"\n")


def inherit(path: Path) -> tuple[_socket.socket, str] | None:
    """Connect to a watchdog without owner, of which this process is the owner from then on.

    Return the connection and the state that its last owner left; ``None`` if no watchdog of this user listens
    there, or another process has become its owner.
    """
    channel = _socket.socket(socket.AF_UNIX)
    try:
        channel.settimeout(_GRACE_SECONDS)
        with _reach(path) as there:
            channel.connect(there)
        state = _line(channel) if peer_of(channel)[1] == os.geteuid() else b""
        channel.settimeout(None)
    except OSError:
        state = b""
    if not state:
        channel.close()
        return None
    return channel, state.decode()


def end(channel: _socket.socket) -> None:
    """End the orders over a connection to a watchdog, and wait until the watchdog ends."""
    with closing(channel), suppress(OSError):
        channel.shutdown(socket.SHUT_WR)
        while channel.recv(4096):
            pass


def peer_of(channel: _socket.socket) -> tuple[int, int]:
    """Return process id and user id at the other end of a connection, on Linux."""
    credentials = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    process, user, _ = struct.unpack("3i", credentials)
    return process, user


def _line(channel: _socket.socket) -> bytes:
    """Return what is sent before the first line break, nothing if the line is not complete."""
    received = b""
    with suppress(OSError):
        while not received.endswith(b"\n"):
            if not (chunk := channel.recv(65536)):
                return b""
            received += chunk
    return received.removesuffix(b"\n") if received.endswith(b"\n") else b""


@contextmanager
def _reach(path: Path) -> Iterator[str]:
    """Yield a path of a socket that is short enough for the system, which takes 107 bytes."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


class GuardedDirectory:
    """A new directory (0700) that its watchdog removes if the owner dies.

    The watchdog is told of the directory before it is made, so that none is left at any moment.

    Attributes:
        token: a token that is unique to the directory and its owner; the directory's name.
        path: the directory.
        watchdog: the watchdog, for the processes that the owner starts.
    """

    def __init__(self, parent: Path | None = None, *, held: bool = False) -> None:
        """Make the directory.

        Args:
            parent: the directory that it is made in (default: the system's temporary directory).
            held: whether it is locked as long as the watchdog runs.

        Raises:
            OSError: if it cannot be made, or the watchdog cannot be started.
        """
        self.token = f"pytest-etcdtls-{os.urandom(8).hex()}"
        import tempfile  # the watchdog process, which runs this file too, does not need it

        self.path = (parent or Path(tempfile.gettempdir())).absolute() / self.token
        self.watchdog = Watchdog(self.token)
        try:
            self.watchdog.guard_directory(self.path)
            self.path.mkdir(mode=0o700)
            if held:
                self.watchdog.hold(self.path)
        except OSError:
            self.remove()
            raise

    def remove(self) -> None:
        """Remove the directory, and end the watchdog. It may be called repeatedly."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.watchdog.dismiss()


def watch(pipe: int, token: str, owner: int) -> None:
    """Read the owner's orders from a descriptor to their end, and clean up if the final order is missing."""
    groups: set[int] = set()
    directories: list[str] = []
    commands: list[list[str]] = []
    # If the owner is not our parent it has already ended; only what it has written is left to read.
    orders = _orders(pipe, owner, None if os.getppid() == owner else 0)
    while (line := next(orders, None)) is not None:
        order = json.loads(line)
        if "done" in order:
            return
        if "group" in order:
            groups.add(order["group"])
        if "directory" in order:
            directories.append(order["directory"])
        if "command" in order:
            commands.append(order["command"])
        if "hold" in order:
            _answer(pipe, done=_lock(order["hold"]))
        if "leave" in order:
            listening = _listen(Path(order["leave"]["path"]))
            _answer(pipe, done=listening is not None)
            if listening is None:
                continue
            successor = _wait_for_successor(listening, **order["leave"])
            if successor is None:
                break
            pipe, owner = successor.fileno(), peer_of(successor)[0]
            orders = _orders(pipe, owner, None)
    if not Path("/proc/self/environ").exists():
        _kill(groups)
    for sweep in range(_MOST_SWEEPS):
        # Repeat: a process that was being started when the owner died has no environment to recognise it by
        # until the kernel has completed exec.
        _kill(_marked(token))
        if sweep >= _SWEEPS and not any(_is_starting(group) for group in groups):
            break
        select.select([], [], [], _PAUSE_SECONDS)
    for command in commands:
        subprocess.run(command, check=False, stdin=subprocess.DEVNULL)
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


def _answer(pipe: int, *, done: bool) -> None:
    with suppress(OSError):  # the owner may have ended
        os.write(pipe, (_DONE if done else b"refused") + b"\n")


def _lock(directory: str) -> bool:
    """Lock a directory until this process ends; return whether that is done."""
    try:
        fcntl.flock(os.open(directory, os.O_RDONLY | os.O_DIRECTORY), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _listen(path: Path) -> socket.socket | None:
    listening = socket.socket(socket.AF_UNIX)
    try:
        with _reach(path) as there:
            listening.bind(there)
        listening.listen(1)
    except OSError:
        listening.close()
        return None
    return listening


def _wait_for_successor(
    listening: socket.socket, path: str, seconds: float, state: str
) -> socket.socket | None:
    """Return the connection of the next owner, to which the state was sent; ``None`` if the time is over."""
    # The monotonic clock stops while the machine is suspended, and the other may be set back.
    ends = time.monotonic() + seconds, time.time() + seconds
    try:
        while (left := min(ends[0] - time.monotonic(), ends[1] - time.time())) > 0:
            listening.settimeout(min(left, _GLANCE_SECONDS))
            with suppress(TimeoutError):
                successor, _ = listening.accept()
                if peer_of(successor)[1] == os.geteuid():
                    successor.settimeout(_GRACE_SECONDS)
                    with suppress(OSError):  # one that has ended is noticed by the end of its orders
                        successor.sendall(state.encode() + b"\n")
                    successor.settimeout(None)
                    return successor
                successor.close()
        return None
    finally:
        Path(path).unlink(missing_ok=True)
        listening.close()


def _orders(pipe: int, owner: int, timeout: int | None) -> Iterator[bytes]:
    """Yield complete lines until the pipe is closed or the owner has ended.

    A child that the owner forked without exec keeps the pipe open after the owner has ended.
    """
    waiting = select.poll()
    waiting.register(pipe, select.POLLIN)
    if (process := _pidfd(owner)) is not None:
        waiting.register(process, select.POLLIN)
    pending = b""
    while any(descriptor == pipe for descriptor, _ in waiting.poll(timeout)):
        chunk = b""
        with suppress(ConnectionResetError):  # the owner ended before it had read everything
            chunk = os.read(pipe, 65536)
        if not chunk:
            return
        *lines, pending = (pending + chunk).split(b"\n")
        yield from lines


def _pidfd(process: int) -> int | None:
    """Return a descriptor that becomes readable when a process ends, if the system supports it."""
    if not hasattr(os, "pidfd_open"):
        return None
    with suppress(OSError):
        return os.pidfd_open(process)
    return None


def _marked(token: str) -> set[int]:
    """Return the process groups of all processes with the token, on Linux."""
    mark = f"{MARK}={token}".encode()
    groups = set()
    for entry in Path("/proc").glob("[0-9]*"):
        # The process has ended, or belongs to another user.
        with suppress(OSError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                groups.add(os.getpgid(int(entry.name)))
    return groups


def _is_starting(process: int) -> bool:
    """Whether a process exists without environment, as between exec and the program's first instruction."""
    with suppress(OSError):
        if (Path("/proc") / str(process) / "environ").read_bytes():
            return False
        if (descriptor := _pidfd(process)) is not None:
            ended = bool(select.select([descriptor], [], [], 0)[0])
            os.close(descriptor)
            return not ended
    return False


def _kill(groups: Iterable[int]) -> None:
    """Kill process groups and wait until their leaders have ended, so that they write no more files."""
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
