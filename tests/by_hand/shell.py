"""A shell as a reader uses it: blocks are pasted one after the other, and variables stay set."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_SECONDS = 60.0
"""How long one block may take; one that waits for a keyboard takes longer."""

_LOOP = 'while read -r block; do . "$block" <>"$0" >"$block.out" 2>&1; echo "$?"; done'
"""The terminal, ``$0``, is a pipe opened for both ends: it never ends and never has anything to read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """The result of a block.

    Attributes:
        output: standard output and standard error, as on a terminal.
        status: the exit status of its last command.
    """

    output: str
    status: int


class Shell:
    """A ``sh`` in its own directory."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self.directory = directory
        self._blocks = directory.with_name(f"{directory.name}-blocks")
        self._blocks.mkdir()
        self._count = 0
        terminal = self._blocks / "terminal"
        os.mkfifo(terminal)
        self._process = subprocess.Popen(
            ["sh", "-c", _LOOP, terminal],
            env=environment,
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            bufsize=1,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def run(self, code: str) -> Ran:
        """Paste a block and wait for its end.

        Raises:
            TimeoutError: if it does not end.
        """
        self._count += 1
        block = self._blocks / f"{self._count}.sh"
        block.write_text(code, encoding="utf-8")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{block}\n")
        ready, _, _ = select.select([self._process.stdout], [], [], _SECONDS)
        output = Path(f"{block}.out")
        status = self._process.stdout.readline() if ready else ""
        if not status:
            said = output.read_text(encoding="utf-8") if output.exists() else ""
            raise TimeoutError(f"in {_SECONDS:g} s this did not end, or ended the shell:\n{code}\n{said}")
        return Ran(output=output.read_text(errors="replace", encoding="utf-8"), status=int(status))

    def value(self, name: str) -> str:
        """Return the value of a variable."""
        return self.run(f'printf %s "${name}"').output

    def _end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # The whole session, since a command that hangs is a child of the shell's.
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
