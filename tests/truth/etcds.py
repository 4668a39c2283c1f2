"""The etcds of a draw, which run until the end of a block."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from pytest_etcdtls.children import child_environment

_DEADLINE = 60.0
_SERVES = re.compile(r"serving (?:insecure )?client (?:requests on|traffic)")
_ENDS = re.compile(r'"level":"(?:fatal|panic)"|^panic: | [CF] \| ', re.MULTILINE)


class _Etcd:
    """An etcd that runs, and what it has logged so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process, self._lines = process, list[str]()
        self._reader: threading.Thread | None = None

    @property
    def text(self) -> str:
        return "".join(self._lines)

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def failed(self) -> bool:
        """Whether it ended for a reason of its own, which may be after it has logged that it serves."""
        return self.ended and bool(_ENDS.search(self.text))

    def serves(self, within: float) -> bool:
        """Read until it serves clients or ends."""
        assert self._process.stdout is not None
        watchdog = threading.Timer(within, self._process.kill)
        watchdog.start()
        try:
            for line in self._process.stdout:
                self._lines.append(line)
                if _SERVES.search(line):
                    # An etcd whose log nobody reads stops when the pipe is full.
                    self._reader = threading.Thread(target=self._read, daemon=True)
                    self._reader.start()
                    return True
            return False
        finally:
            watchdog.cancel()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self._lines.extend(self._process.stdout)

    def stop(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        assert self._process.stdout is not None
        if self._reader is not None:
            self._reader.join()
        else:
            self._read()
        self._process.stdout.close()
        self._process.wait()


@contextmanager
def _running(binary: Path, arguments: Sequence[str], directory: Path) -> Iterator[_Etcd]:
    process = subprocess.Popen(
        [binary, *arguments],
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        cwd=directory,
        start_new_session=True,
    )
    etcd = _Etcd(process)
    try:
        yield etcd
    finally:
        etcd.stop()


class Etcds:
    """The etcds of a draw."""

    def __init__(self, every: Sequence[_Etcd]) -> None:
        self._every = every

    @classmethod
    @contextmanager
    def started(cls, binary: Path, arguments: Sequence[Sequence[str]], directory: Path) -> Iterator[Etcds]:
        with ExitStack() as stack:
            # The last one leads, and no other can be elected before it is.
            every = [stack.enter_context(_running(binary, one, directory)) for one in reversed(arguments)]
            yield cls(every)

    @property
    def serve(self) -> bool:
        """Whether all of them serve clients, which is waited for."""
        within = _DEADLINE if len(self._every) == 1 else _JOINS
        return all(one.serves(within) for one in self._every)

    @property
    def ended(self) -> bool:
        return any(one.ended for one in self._every)

    @property
    def failed(self) -> bool:
        return any(one.failed for one in self._every)

    @property
    def text(self) -> str:
        return "".join(one.text for one in self._every)


_JOINS = 6.0
"""Seconds in which a member joins the others, or never does."""
