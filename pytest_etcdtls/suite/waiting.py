"""What an item of the suite waits for, on a terminal, after less than two seconds.

A check waits for its facts, and a far or silent server takes seconds for each. Then a line below pytest's
progress says what is awaited, and how long. It is erased when the wait ends, before pytest writes again. Both
are the terminal's own commands (ECMA-48), so a terminal without them gets nothing, as a file or a pipe does.

While an item runs, pytest captures what is written to the descriptor of standard output. So the line is
written to a copy of the descriptor that is made before.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Final

import pytest

from pytest_etcdtls.errors import escaped_line
from pytest_etcdtls.options import ROOT
from pytest_etcdtls.run.runner import Run
from pytest_etcdtls.untrusted.printable import plural

_QUIET: Final = 1.5
"""Seconds until the line is written, and until it is updated."""
_BELOW: Final = "\x1bD\x1b[A\x1b7\x1b[B\r{}\x1b[K\x1b8"
"""Index and up (which makes room), save the cursor, down, the text, erase the rest of the line, restore."""
_ERASE_BELOW: Final = "\x1b7\x1b[B\r\x1b[K\x1b8"


class Waiting:
    """A plugin for pytest that shows what is awaited.

    Args:
        run: the run.
        terminal: a descriptor that pytest does not capture.
    """

    def __init__(self, run: Run, terminal: int) -> None:
        self._run = run
        self._terminal = terminal

    @classmethod
    def register(cls, config: pytest.Config, run: Run) -> None:
        """Register the plugin, if pytest writes to a terminal on which the cursor can be moved."""
        moves = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        if moves and config.pluginmanager.has_plugin("terminal"):
            terminal = os.dup(sys.stdout.fileno())
            config.add_cleanup(lambda: os.close(terminal))
            config.pluginmanager.register(cls(run, terminal), "etcdtls-waiting")

    @contextmanager
    def _during(self, otherwise: str) -> Iterator[None]:
        """Within it pytest writes nothing, and the terminal is never silent for two seconds."""
        ended = threading.Event()
        watcher = threading.Thread(
            target=self._watch, args=[otherwise, ended], name="etcdtls_waiting", daemon=True
        )
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    def _watch(self, otherwise: str, ended: threading.Event) -> None:
        began, is_below = time.monotonic(), False
        while not ended.wait(_QUIET):
            is_below = True
            seconds, made = time.monotonic() - began, self._run.connected
            count = f", {plural(made, 'connection')} so far" if made else ""
            text = escaped_line(f"etcd TLS: {self._run.awaited or otherwise} ({seconds:.0f} s{count})")
            self._write(_BELOW.format(text[: shutil.get_terminal_size().columns - 1]))
        if is_below:
            self._write(_ERASE_BELOW)

    def _write(self, text: str) -> None:
        with suppress(OSError):  # the terminal is gone
            os.write(self._terminal, text.encode())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Show what is awaited while the members are discovered, at the collection of the session."""
        discovers = isinstance(collector, pytest.Session)
        with self._during("waiting for the member list") if discovers else nullcontext():
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        """Show for what an item of the suite waits."""
        is_ours = item.nodeid.startswith(f"{ROOT}::")
        with self._during(f"judging {item.name}") if is_ours else nullcontext():
            return (yield)
