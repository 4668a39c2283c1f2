"""Standard output that may be closed while the run goes on: ``| head -1``, ``>&-``, a terminal that is gone.

pytest ends with an internal error at the first line that it cannot write, and no check after it is judged.
With this, every check is judged and the report files are written all the same.
"""

from __future__ import annotations

import os
import sys
from typing import IO, Any

import pytest


class LossyOutput:
    """A text file that no longer writes, and raises nothing, once writing to it has failed.

    Args:
        file: the file; ``None`` for a standard output that was closed before Python started.
    """

    def __init__(self, file: IO[str] | None) -> None:
        self._file = file
        self.lost = file is None

    def write(self, text: str) -> int:
        """Write the text, or lose it."""
        try:
            if self._file is not None and not self.lost:
                return self._file.write(text)
        except UnicodeEncodeError:
            raise  # pytest's writer has an answer to that
        except (OSError, ValueError):
            self.lost = True
        return len(text)

    def flush(self) -> None:
        """Flush, unless the output is lost."""
        try:
            if self._file is not None and not self.lost:
                self._file.flush()
        except (OSError, ValueError):
            self.lost = True

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return self._file is not None and not self._file.closed and self._file.isatty()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the file has it
        return getattr(self._file, name)


def replace_missing_output() -> None:
    """Send standard output to the null device, if Python was started without one (``>&-``).

    Neither pytest's terminal reporter nor the end of its ``main`` can do without.
    """
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the process ends
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the process ends


def outlive_output(config: pytest.Config) -> None:
    """Let the run go on when what pytest's terminal reporter writes to is closed."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and not isinstance(reporter._tw._file, LossyOutput):
        reporter._tw._file = LossyOutput(reporter._tw._file)


def is_output_lost(config: pytest.Config) -> bool:
    """Return whether a line of the terminal reporter could not be written."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return reporter is not None and getattr(reporter._tw._file, "lost", False) is True
