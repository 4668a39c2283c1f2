"""A run of pytest in a process of its own that servers, files and signals are tried on."""

from __future__ import annotations

import math
import os
import re
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HANGS = 300.0
"""Seconds after which a run hangs."""

_ADDRESS_SPACE = 3 << 30
"""Octets, so that a file without an end stops the run and not the machine."""

_PROGRAM = """
import atexit, resource, runpy, signal, sys
from pathlib import Path
_, peak, limit, *sys.argv[1:] = sys.argv
# A background job of a shell without job control starts with SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
resource.setrlimit(resource.RLIMIT_AS, (int(limit), int(limit)))
atexit.register(lambda: Path(peak).write_bytes(Path("/proc/self/status").read_bytes()))
runpy.run_module("pytest", run_name="__main__", alter_sys=True)
"""
"""As ``python -m pytest``, with a note of its memory. The kernel also counts that of the parent."""


@dataclass(frozen=True)
class Ended:
    """A run that has ended.

    Attributes:
        exit_code: negative for a signal.
        out: standard output and error.
        seconds: from its start to its end.
        processor: seconds of the processor.
        mebibytes: of resident memory, at its peak; not a number for a run that was killed.
    """

    exit_code: int
    out: bytes
    seconds: float
    processor: float
    mebibytes: float

    @property
    def output(self) -> str:
        return self.out.decode(errors="replace")


class ChildRun:
    """pytest with this plugin, started and not waited for.

    Args:
        directory: where it runs. It must exist.
        arguments: of pytest.
        environment: variables besides those of the tests.
        stdin: of the run.
        limit: whether its address space is limited.
        shell: what a shell does with its output, as ``| head -1``.
    """

    def __init__(
        self,
        directory: Path,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
        limit: bool = True,
        shell: str = "",
    ) -> None:
        self.directory = directory
        self._log = directory / "output.txt"
        self._peak = directory / "peak.txt"
        self._begin = time.monotonic()
        options = ("-p", "no:cacheprovider", "-p", "no:randomly")
        space = str(_ADDRESS_SPACE if limit else resource.RLIM_INFINITY)
        command = [sys.executable, "-c", _PROGRAM, str(self._peak), space, *options, *arguments]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                ["sh", "-c", f'"$@" {shell}', "sh", *command] if shell else command,
                cwd=directory,
                stdin=stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**inherited, "COLUMNS": "140", **(environment or {})},
            )
        self._end = os.pidfd_open(self._process.pid)

    @property
    def output(self) -> str:
        """What it has written so far."""
        return self._log.read_text(errors="replace", encoding="utf-8")

    def send(self, number: signal.Signals) -> float:
        """Send a signal, and return the time."""
        self._process.send_signal(number)
        return time.monotonic()

    def wait_until(self, reached: Callable[[], bool]) -> None:
        """Wait until something holds, or the run has ended.

        Raises:
            TimeoutError: if neither comes.
        """
        deadline = time.monotonic() + HANGS
        while not reached():
            if select.select([self._end], [], [], 0.02)[0]:
                return
            if time.monotonic() > deadline:
                self._process.kill()
                self.end()
                raise TimeoutError(self.output)

    def end(self) -> Ended:
        """Wait for its end and return what it took.

        Raises:
            TimeoutError: if it hangs; it is killed.
        """
        try:
            if not select.select([self._end], [], [], HANGS)[0]:
                self._process.kill()
                raise TimeoutError(f"the run has not ended after {HANGS:g} s:\n{self.output}")
        finally:
            os.close(self._end)
            _, status, usage = os.wait4(self._process.pid, 0)
            self._process.returncode = os.waitstatus_to_exitcode(status)
        return Ended(
            exit_code=self._process.returncode,
            out=self._log.read_bytes(),
            seconds=time.monotonic() - self._begin,
            processor=usage.ru_utime + usage.ru_stime,
            mebibytes=self._mebibytes(),
        )

    def _mebibytes(self) -> float:
        if not self._peak.exists():
            return math.nan
        noted = re.search(r"VmHWM:\s+(\d+) kB", self._peak.read_text(encoding="utf-8"))
        assert noted is not None
        return int(noted[1]) / 1024
