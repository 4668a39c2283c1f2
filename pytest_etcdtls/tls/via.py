"""A connection that a process carries: ``--etcd-via``, as ssh's ProxyCommand.

Standard input and output of the process are ends of socket pairs. The other ends are the connection, so
everything above it is as on a TCP connection, but for addresses, which the process alone knows. Its standard
error is quoted where the connection ends too early. The process ends with the connection: it is killed when
that is closed, and reads the end of its input when this program is killed.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import tempfile
from typing import TYPE_CHECKING

from pytest_etcdtls.untrusted import printable

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_LONGEST_TEXT = 300
"""Characters of its standard error that are quoted."""


def words_of(command: str, host: str, port: int) -> list[str]:
    """Return the words of a command, with ``{host}`` and ``{port}`` replaced.

    Raises:
        ValueError: if a quotation is not closed.
    """
    return [word.replace("{host}", host).replace("{port}", str(port)) for word in shlex.split(command)]


class CarriedSocket(socket.socket):
    """Our end of a connection that a process carries.

    Args:
        command: with ``{host}`` and ``{port}``.
        host: host to connect to, as the process shall resolve it.
        port: port to connect to.

    Raises:
        OSError: if the process cannot be started.
    """

    def __init__(self, command: str, host: str, port: int) -> None:
        # One pair for each direction, since a process may close its output and still read.
        ours, output = socket.socketpair()
        self._input, theirs = socket.socketpair()
        super().__init__(ours.family, ours.type, fileno=ours.detach())
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - until it is closed
        try:
            with output, theirs:
                self._process = subprocess.Popen(
                    words_of(command, host, port),
                    stdin=theirs.fileno(),
                    stdout=output.fileno(),
                    stderr=self._said,
                    start_new_session=True,
                )
        except BaseException:
            self._input.close()
            super().close()
            self._said.close()
            raise

    def settimeout(self, value: float | None, /) -> None:
        """Set the time-out of both directions."""
        super().settimeout(value)
        self._input.settimeout(value)

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
        """Return the exit status of the process, if it has ended, and what it said; may be empty."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        end = os.fstat(self._said.fileno()).st_size
        text = os.pread(self._said.fileno(), 4 * _LONGEST_TEXT, max(0, end - 4 * _LONGEST_TEXT))
        status = self._process.returncode
        said = printable(" ".join(text.decode(errors="replace").split()), _LONGEST_TEXT)
        ended = f"ended with status {status}" if status else ""
        parts = ": ".join(filter(None, [ended, said]))
        return f"the command of --etcd-via {parts if ended else f'said: {said}'}" if parts else ""

    def close(self) -> None:
        """Close the connection and kill the process with its children."""
        super().close()
        self._input.close()
        if not self._said.closed:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._said.close()


_END_SECONDS = 0.2
"""How long a process may take to end after its output has ended."""
