"""What a run waits for, on a terminal on which nothing else was written for a while.

A check waits for its facts, and a far or silent server takes seconds for each. Then a line below pytest's
progress says what is awaited, and how long. It is a line of its own that the next output erases, written with
the terminal's own commands (ECMA-48), so pytest's reporter need not know of it. A terminal without them gets
lines that stay. Nothing is written to a file or a pipe.

While an item runs, pytest captures what is written to the descriptor of standard output. So the line is
written to a copy of the descriptor that is made before.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from pytest_etcdtls.errors import escaped_line
from pytest_etcdtls.options import ROOT
from pytest_etcdtls.run.runner import Run
from pytest_etcdtls.suite.interruptions import LossyOutput
from pytest_etcdtls.untrusted.printable import plural

_QUIET: Final = 1.4
"""Seconds without output after which a line is written. With :data:`_LOOK` it is less than two."""
_LOOK: Final = 0.3
"""Seconds between two looks."""


class Waiting:
    """A plugin for pytest that shows what is awaited.

    Args:
        config: pytest's configuration.
        run: the run.
        everything: what is awaited while no item runs in this process; ``None`` for nothing.
    """

    def __init__(self, config: pytest.Config, run: Run, everything: Callable[[], str] | None) -> None:
        self._config = config
        self._run = run
        self._everything = everything
        self._awaited: list[Callable[[], str]] = []
        self._ended = threading.Event()
        self._output: LossyOutput | None = None

    @classmethod
    def register(cls, config: pytest.Config, run: Run, everything: Callable[[], str] | None = None) -> None:
        """Register the plugin."""
        waiting = cls(config, run, everything)
        config.add_cleanup(waiting._end)
        config.pluginmanager.register(waiting, "etcdtls-waiting")

    @contextmanager
    def _during(self, awaited: Callable[[], str]) -> Iterator[None]:
        """Within it the terminal is never silent for two seconds."""
        self._awaited.append(awaited)
        try:
            yield
        finally:
            self._awaited.pop()

    def _end(self) -> None:
        self._ended.set()
        if self._output is not None:
            self._output.close_below()

    @pytest.hookimpl
    def pytest_sessionstart(self) -> None:
        """Begin to watch, if pytest writes to a terminal."""
        if not self._config.pluginmanager.has_plugin("terminalreporter"):
            return
        output: object = self._config.get_terminal_writer()._file
        if isinstance(output, LossyOutput) and output.isatty():
            output.open_below()
            self._output = output
            threading.Thread(target=self._watch, args=[output], name="etcdtls_waiting", daemon=True).start()

    def _watch(self, output: LossyOutput) -> None:
        writer = self._config.get_terminal_writer()
        moves = writer.hasmarkup or os.environ.get("TERM", "dumb") != "dumb"
        shown_at = 0.0
        while not self._ended.wait(_LOOK):
            now = time.monotonic()
            awaited = "".join(describe() for describe in self._awaited[-1:])
            if not awaited or now - max(output.written_at, shown_at) < _QUIET:
                continue
            shown_at = now
            made = self._run.connected
            count = f", {plural(made, 'connection')} so far" if made else ""
            text = f"etcd TLS: {awaited} ({now - output.written_at:.0f} s{count})"
            output.write_below(escaped_line(text)[: writer.fullwidth - 1], moves=moves)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_make_collect_report(self) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Show that members are discovered."""
        with self._during(lambda: self._run.awaited or "waiting for the member list"):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """Show that clusters of a list are contacted, or judged by workers of pytest-xdist."""
        if self._everything is None:
            return (yield)
        with self._during(self._everything):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Show for what an item of the suite waits."""
        is_ours = item.nodeid.startswith(f"{ROOT}::")
        with self._during(lambda: self._run.awaited or f"judging {item.name}" if is_ours else ""):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self) -> Generator[None, object, object]:
        """Show that the reports are written."""
        with self._during(lambda: "writing the reports"):
            return (yield)
