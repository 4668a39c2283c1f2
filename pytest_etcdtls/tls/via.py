"""A connection that a process carries: ``--etcd-via``, as ssh's ProxyCommand.

Standard input and output of the process are ends of socket pairs. The other ends are the connection, so
everything above it is as on a TCP connection, but for addresses, which the process alone knows. Its standard
error is quoted where the connection ends too early.

The process ends with the connection: its group is killed when that is closed. The group is all ours, since
only children of the process are in its session. The process is not waited for before its group is killed, so
that no process of others gets its ID, which is that of the group. What an interrupted run leaves to threads
that nobody waits for is killed at the end of the program. A program that is killed itself leaves a process
whose input has ended, and so does a command that becomes another user, such as ``sudo``, since only that user
may kill it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import shlex
import signal
import socket
import subprocess
import threading
from typing import TYPE_CHECKING, Final

from pytest_etcdtls.children import child_environment
from pytest_etcdtls.declared.declaration import authority
from pytest_etcdtls.errors import escaped
from pytest_etcdtls.target import Carrier

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_LONGEST_TEXT: Final = 300
"""Characters of its standard error that are quoted, the last ones: a reason comes last."""
_END_SECONDS: Final = 0.2
"""How long a process may take to end after its output has ended, or after it is killed."""

_PEEK: Final = os.WEXITED | os.WNOHANG | os.WNOWAIT
"""Options of ``waitid`` that leave a process to be waited for."""

_running: Final[set[subprocess.Popen[bytes]]] = set()
"""The processes of connections that are open."""
_left: Final[set[subprocess.Popen[bytes]]] = set()
"""Those of closed connections that have not ended, because another user has to kill them."""


def words_of(command: str, host: str, port: int) -> list[str]:
    """Return the words of a command, with ``{host}`` and ``{port}`` replaced.

    An IPv6 address has brackets where ``{host}:{port}`` is written, and none where ``{host}`` stands alone.

    Raises:
        ValueError: if a quotation is not closed.
    """
    return [
        word.replace("{host}:{port}", authority(host, port))
        .replace("{host}", host)
        .replace("{port}", str(port))
        for word in shlex.split(command)
    ]


class CarriedSocket(socket.socket):
    """Our end of a connection that a process carries.

    Args:
        carrier: the command, and what it inherits.
        host: host to connect to, as the process resolves it.
        port: port to connect to.

    Raises:
        OSError: if the process cannot be started.
    """

    def __init__(self, carrier: Carrier, host: str, port: int) -> None:
        # One pair for each direction, since a process may close its output and still read.
        ours, output = socket.socketpair()
        self._input, theirs = socket.socketpair()
        self._errors, errors = socket.socketpair()
        super().__init__(ours.family, ours.type, fileno=ours.detach())
        self._received = False
        self._said = b""
        # A process that writes much would stand still if nobody read it.
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        try:
            with output, theirs, errors:
                self._reader.start()
                self._process = subprocess.Popen(
                    words_of(carrier.command, host, port),
                    env=child_environment(carrier.variables),
                    stdin=theirs.fileno(),
                    stdout=output.fileno(),
                    stderr=errors.fileno(),
                    start_new_session=True,
                )
        except BaseException:
            self._input.close()
            super().close()
            raise
        _running.add(self._process)

    def _read_errors(self) -> None:
        with self._errors, contextlib.suppress(OSError):
            while data := self._errors.recv(65536):
                self._said = (self._said + data)[-4 * _LONGEST_TEXT :]

    def settimeout(self, value: float | None, /) -> None:
        """Set the time-out of both directions."""
        super().settimeout(value)
        self._input.settimeout(value)

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Read the output of the process."""
        data = super().recv(bufsize, flags)
        self._received |= bool(data)
        return data

    def send(self, data: ReadableBuffer, flags: int = 0, /) -> int:
        """Write to the input of the process."""
        return self._input.send(data, flags)

    def sendall(self, data: ReadableBuffer, flags: int = 0, /) -> None:
        """Write to the input of the process."""
        self._input.sendall(data, flags)

    def shutdown(self, how: int, /) -> None:
        """Close the input of the process; its output stays open."""
        if how != socket.SHUT_RD:
            self._input.shutdown(socket.SHUT_WR)

    def why_ended(self) -> str:
        """Return what is known of the process after its output has ended."""
        if _status(self._process, _END_SECONDS) is not None:
            self._reader.join(_END_SECONDS)
        if said := self.said():
            return said
        if status := _status(self._process):
            return f"the command of --etcd-via {_ended(status)}"
        if not self._received:
            return "the command of --etcd-via passed on nothing"
        return "the command of --etcd-via may have dropped an alert, as OpenBSD's nc does: use socat"

    def said(self) -> str:
        """Return the end of what the process has written to its standard error; may be empty."""
        text = escaped(" ".join(self._said.decode(errors="replace").split()))
        if not text:
            return ""
        quoted = text if len(text) <= _LONGEST_TEXT else f"…{text[1 - _LONGEST_TEXT :]}"
        status = _status(self._process)
        how = "said" if status is None else _ended(status)
        return f"the command of --etcd-via {how}: {quoted}"

    def close(self) -> None:
        """Close the connection and kill the process with its children."""
        super().close()
        self._input.close()
        if self._process in _running:
            _running.remove(self._process)
            try:
                self._process.wait(_END_SECONDS if _kill(self._process) else 0)
            except subprocess.TimeoutExpired:
                _left.add(self._process)
            # A child that left the session may hold the other end.
            with contextlib.suppress(OSError):
                self._errors.shutdown(socket.SHUT_RDWR)
        _left.difference_update([process for process in tuple(_left) if process.poll() is not None])


def _status(process: subprocess.Popen[bytes], seconds: float = 0) -> int | None:
    """Return how a process has ended within that time, as ``Popen.poll`` does; its ID remains its own."""
    if process.returncode is not None:
        return process.returncode
    with contextlib.suppress(OSError):  # somebody else has waited for it
        descriptor, end = os.pidfd_open(process.pid), select.poll()
        try:
            end.register(descriptor, select.POLLIN)
            end.poll(1000 * seconds)
        finally:
            os.close(descriptor)
        if ended := os.waitid(os.P_PID, process.pid, _PEEK):
            return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
    return None


def _ended(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    return f"was ended by signal {-status}"


def _kill(process: subprocess.Popen[bytes]) -> bool:
    """Kill the processes of its group; return whether we may."""
    try:
        os.waitid(os.P_PID, process.pid, _PEEK)
        os.killpg(process.pid, signal.SIGKILL)
    except (ChildProcessError, ProcessLookupError):
        pass  # somebody else has waited for it, and its ID may be that of another process
    except PermissionError:
        return False
    return True


@atexit.register
def _kill_all() -> None:
    for process in tuple(_running):
        _kill(process)
    for process in _left:
        process.poll()  # it may have ended since
