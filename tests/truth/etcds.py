"""The etcds of a draw, which run until the end of a block."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pytest_etcdtls.children import child_environment

_SERVES = re.compile(r"serving (?:insecure )?client (?:requests on|traffic)")
_ENDS = re.compile(r'"level":"(?:fatal|panic)"|^panic: | [CF] \| ', re.MULTILINE)
_ALONE, _JOINS = 60.0, 18.0
"""Seconds in which a single etcd serves, and in which three have found each other or never do."""


@dataclass(frozen=True)
class _Etcd:
    """An etcd that runs, and the file that it logs to."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def logged(self, pattern: re.Pattern[str]) -> bool:
        return bool(pattern.search(self.log.read_text(encoding="utf-8", errors="replace")))


class Etcds:
    """The etcds of a draw."""

    def __init__(self, every: Sequence[_Etcd]) -> None:
        self._every = every

    @classmethod
    @contextmanager
    def started(cls, binary: Path, arguments: Sequence[Sequence[str]], directory: Path) -> Iterator[Etcds]:
        with ExitStack() as stack:
            # The last one leads, and no other can be elected before it is.
            every = [
                stack.enter_context(_running(binary, one, directory, directory / f"log-{number}"))
                for number, one in reversed([*enumerate(arguments)])
            ]
            yield cls(every)

    def serve(self) -> bool:
        """Wait until all serve clients, and return whether they do."""
        until = time.monotonic() + (_ALONE if len(self._every) == 1 else _JOINS)
        while time.monotonic() < until and not self.ended:
            if all(one.logged(_SERVES) for one in self._every):
                return True
            time.sleep(0.05)
        return False

    @property
    def ended(self) -> bool:
        return any(one.ended for one in self._every)

    @property
    def failed(self) -> bool:
        """Whether one ended for a reason of its own, which may be after it has logged that it serves."""
        return any(one.ended and one.logged(_ENDS) for one in self._every)


@contextmanager
def _running(binary: Path, arguments: Sequence[str], directory: Path, log: Path) -> Iterator[_Etcd]:
    with log.open("wb") as file:
        process = subprocess.Popen(
            [binary, *arguments],
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=directory,
            start_new_session=True,
        )
    try:
        yield _Etcd(process, log)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
