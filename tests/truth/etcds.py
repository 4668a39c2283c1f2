"""The etcds of a draw, which run until the end of a block."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from starting import SERVES, RunningEtcd, running_etcd

_ENDS = re.compile(r'"level":"(?:fatal|panic)"|^panic: | [CF] \| ', re.MULTILINE)
_ALONE, _JOINS = 60.0, 18.0
"""Seconds in which a single etcd serves, and in which three have found each other or never do."""


class Etcds:
    """The etcds of a draw."""

    def __init__(self, every: Sequence[RunningEtcd]) -> None:
        self._every = every

    @classmethod
    @contextmanager
    def started(cls, binary: Path, arguments: Sequence[Sequence[str]], directory: Path) -> Iterator[Etcds]:
        with ExitStack() as stack:
            # The last one leads, and no other can be elected before it is.
            every = [
                stack.enter_context(running_etcd([binary, *one], directory / f"log-{number}"))
                for number, one in reversed([*enumerate(arguments)])
            ]
            yield cls(every)

    def serve(self) -> bool:
        """Wait until all serve clients, and return whether they do."""
        until = time.monotonic() + (_ALONE if len(self._every) == 1 else _JOINS)
        while time.monotonic() < until and not self.ended:
            if all(SERVES.search(one.text) for one in self._every):
                return True
            time.sleep(0.05)
        return False

    @property
    def ended(self) -> bool:
        return any(one.ended for one in self._every)

    @property
    def failed(self) -> bool:
        """Whether one ended for a reason of its own, which may be after it has logged that it serves."""
        return any(one.ended and _ENDS.search(one.text) for one in self._every)
