"""What may interrupt a run of the suite from outside: signals, and standard output that is closed.

After SIGINT or SIGTERM the run ends early, and its report is written all the same.

Standard output may be closed while the run goes on: ``| head -1``, ``>&-``, a terminal that is gone. pytest
ends with an internal error at the first line that it cannot write, and no check after it is judged. With
:class:`LossyOutput`, every check is judged and the report files are written.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import IO, Any, Final

import pytest

PATIENCE: Final = 10.0
"""Seconds after an interruption in which further signals are only noted: Ctrl-C is often pressed twice."""

_DEFAULTS: Final[dict[signal.Signals, Callable[[int, FrameType | None], object] | signal.Handlers]] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}


class Interruption:
    """Turns SIGTERM into what Ctrl-C is, and keeps a second signal from the end of the run.

    The first signal raises KeyboardInterrupt in the main thread, and pytest ends the run (exit code 2).
    Signals that follow soon, or come while :meth:`held`, raise nothing.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        """The signal that interrupted the run."""
        self._raised_at = 0.0
        self._held = 0
        self._replaced: list[signal.Signals] = []

    def install(self) -> None:
        """Handle the two signals, unless they are ignored or somebody else handles them."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number, default in _DEFAULTS.items():
            if signal.getsignal(number) == default:
                signal.signal(number, self._on_signal)
                self._replaced.append(number)

    def restore(self) -> None:
        """Handle them as before."""
        while self._replaced:
            number = self._replaced.pop()
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, _DEFAULTS[number])

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within it no signal raises anything."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1

    def again(self) -> None:
        """Raise what a callback of a C library swallowed.

        Raises:
            KeyboardInterrupt: if there was a signal.
        """
        if self.received is not None:
            raise KeyboardInterrupt(self.received.name)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        repeated = self.received is not None and now - self._raised_at < PATIENCE
        if self._held or repeated:
            sys.stderr.write(f"etcd TLS: {signal.Signals(number).name}: the report is being written\n")
            return
        self.received, self._raised_at = signal.Signals(number), now
        raise KeyboardInterrupt(self.received.name)


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
