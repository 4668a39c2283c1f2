"""One etcd process: started with a clean environment, its output in a file, ended surely.

Does not know what the flags mean, nor when etcd is ready.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_STOP_SECONDS = 0.5
"""How long etcd may take to stop by itself; a leader waits longer for a successor that stops as well."""

_INTERFERING = ("ETCD_", "ETCDCTL_")
_INTERFERING_NAMES = frozenset({"GODEBUG", "SSL_CERT_FILE", "SSL_CERT_DIR"})


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return our environment without what changes etcd's settings or Go's TLS, and with the extra."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_INTERFERING) and name not in _INTERFERING_NAMES
    }
    return {**inherited, **extra}


class EtcdProcess:
    """A running or ended etcd.

    Attributes:
        pid: of the process, which leads a session and a process group of its own.
    """

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        """Start etcd; its output is appended to the log.

        Raises:
            OSError: if the system cannot start it.
        """
        self._log = log
        self._position = log.stat().st_size if log.exists() else 0
        with open(log, "ab", opener=_private) as output:
            # A session of its own: Ctrl-C in the terminal is for us, and etcd stops when we say so.
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
        """Whether it has not ended yet."""
        return self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """As :attr:`subprocess.Popen.returncode`."""
        return self._process.poll()

    def new_lines(self) -> list[str]:
        """Return the complete lines that were written since the last call."""
        with self._log.open("rb") as log:
            log.seek(self._position)
            text = log.read()
        end = text.rfind(b"\n") + 1
        self._position += end
        return text[:end].decode(errors="replace").splitlines()

    def wait(self, seconds: float) -> bool:
        """Wait for its end, at most so long; return whether it has ended."""
        if self._exit is not None:
            select.select([self._exit], [], [], max(0.0, seconds))
            return not self.running
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, seconds))
        return not self.running

    def reap(self) -> None:
        """Wait for its end without limit, after a kill."""
        self._process.wait()
        self._close()

    def abandon(self) -> None:
        """Leave it running when we end."""
        self._close()
        # Popen warns when it is collected before its process has ended, unless it believes that it has.
        self._process.returncode = 0

    def _close(self) -> None:
        if self._exit is not None:
            os.close(self._exit)
            self._exit = None


def stop_all(processes: Iterable[EtcdProcess]) -> None:
    """Stop processes together: ask, and after half a second kill. May be called again."""
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
    # The group, since the binary may be a wrapper script that does not exec.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
