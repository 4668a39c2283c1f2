"""SIGINT and SIGTERM during a run of the suite: it ends early, and its report is written all the same."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

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
