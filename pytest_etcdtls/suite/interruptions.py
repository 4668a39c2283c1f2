"""What a run of the suite survives: signals, standard output that is closed, a report that cannot be written.

After SIGINT or SIGTERM the run ends early, and its report is written all the same.

Standard output may be closed while the run goes on: ``| head -1``, ``>&-``, a terminal that is gone. pytest
ends at the first line that it cannot write. Of a run on a faulty etcd with ``| head -1``, no report file was
left, and an exit code that a fault has too. So the file of pytest's terminal writer is replaced by
:class:`LossyOutput`, with which every check is judged and the report files are written. pytest has no public
way to give its writer another file, and ``sys.stdout`` would be replaced for the user's tests as well.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, Final, Self, TextIO, cast

import pytest

from pytest_etcdtls.untrusted.printable import error_text
from pytest_etcdtls.untrusted.process_root import way_with_rights

_REPEATED: Final = 10.0
"""Seconds after an interruption in which further signals raise nothing: Ctrl-C is often pressed twice."""

_LENDS: Final = way_with_rights.__code__
"""Takes the rights of another user, and gives them back."""
_DEFAULTS: Final[dict[signal.Signals, Callable[[int, FrameType | None], object] | signal.Handlers]] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}


class Interruption:
    """A plugin for pytest that handles SIGINT and SIGTERM, and the loss of standard output.

    The first signal raises an exception in the main thread, and pytest ends the run (exit code 2). It is the
    exception of pytest's own interruptions, which pytest shows in one line; with ``--full-trace`` it is a
    KeyboardInterrupt, of which pytest shows where it came. Signals that follow soon, or come while
    :meth:`held`, raise nothing.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self.received: signal.Signals | None = None
        """The signal that interrupted the run."""
        self._raised_at = 0.0
        self._held = 0

    @classmethod
    def register(cls, config: pytest.Config) -> Self:
        """Register the plugin; it handles the signals until the end of the session.

        A signal that is ignored or has another handler keeps it.
        """
        _replace_missing_output()
        interruption = cls(config)
        for number, default in _DEFAULTS.items():
            in_main = threading.current_thread() is threading.main_thread()
            if in_main and signal.getsignal(number) == default:
                signal.signal(number, interruption._on_signal)
                config.add_cleanup(partial(interruption._restore, number))
        config.pluginmanager.register(interruption, "etcdtls-interruption")
        return interruption

    def _restore(self, number: signal.Signals) -> None:
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

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionstart(self) -> Generator[None, object, object]:
        """Replace the output of pytest's reporter, which exists now and has written nothing yet."""
        if self._config.pluginmanager.has_plugin("terminalreporter"):
            writer = self._config.get_terminal_writer()
            writer._file = cast("TextIO", LossyOutput(writer._file))
        return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        """End the run if there was a signal: a callback of a C library swallows the exception."""
        if self.received is not None:
            raise self._exception(self.received)

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Keep the last entry of the traceback, the one that pytest shows; to render all takes long."""
        if not self._config.getoption("fulltrace", False):
            excinfo.traceback = excinfo.traceback[-1:]

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        repeated = self.received is not None and now - self._raised_at < _REPEATED
        if self._held or repeated:
            sys.stderr.write(f"etcd TLS: {signal.Signals(number).name}: the report is being written\n")
            return
        self.received, self._raised_at = signal.Signals(number), now
        while frame is not None and frame.f_code is not _LENDS:
            frame = frame.f_back
        if frame is not None:  # this thread would keep the rights; the run ends before the next check
            return
        raise self._exception(self.received)

    def _exception(self, received: signal.Signals) -> KeyboardInterrupt:
        with_trace = self._config.getoption("fulltrace", False)
        return (KeyboardInterrupt if with_trace else pytest.Session.Interrupted)(received.name)


class LossyOutput:
    """A text file that no longer writes, and raises nothing, once writing to it has failed."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.lost = False

    def write(self, text: str) -> int:
        """Write the text, or lose it."""
        try:
            return len(text) if self.lost else self._file.write(text)
        except UnicodeEncodeError:
            raise  # pytest's writer has an answer to that
        except (OSError, ValueError):
            self.lost = True
        return len(text)

    def flush(self) -> None:
        """Flush, unless the output is lost."""
        try:
            if not self.lost:
                self._file.flush()
        except (OSError, ValueError):
            self.lost = True

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the file has it
        return getattr(self._file, name)


def _replace_missing_output() -> None:
    """Send standard output to the null device, if Python was started without one (``>&-``).

    Neither pytest's terminal reporter nor the end of its ``main`` can do without.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - until the process ends


def not_written(name: str, error: Exception) -> str:
    """Return the sentence that a file could not be written, with the reason."""
    if isinstance(error, OSError):
        return f"The {name} could not be written: {error.strerror or error}."
    return f"The {name} could not be written: {error_text(error)}."
