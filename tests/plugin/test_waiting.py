"""A terminal is never silent for long: a line says what the run waits for."""

from __future__ import annotations

import os
import re
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from plugin.live_etcd import Live
from plugin.runs import url_of
from programs import run_program

SILENT = 2.0
"""Longest time without output, in seconds."""
BUSY = 1.0
"""What a busy machine may add."""
COMMAND = [sys.executable, "-m", "pytest", "--pyargs", "pytest_etcdtls", "-p", "no:randomly"]


def terminal(directory: Path, *arguments: str, term: str) -> list[tuple[float, bytes]]:
    """Run pytest on a terminal and return what it wrote, with the seconds since what it wrote before."""
    descriptor, its_own = os.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=directory,
        env=os.environ | {"TERM": term, "COLUMNS": "80"},
        stdin=subprocess.DEVNULL,
        stdout=its_own,
        stderr=its_own,
    )
    os.close(its_own)
    written: list[tuple[float, bytes]] = []
    last = time.monotonic()
    while select.select([descriptor], [], [], 120)[0]:
        try:
            data = os.read(descriptor, 1 << 16)
        except OSError:  # the other end is closed
            break
        now = time.monotonic()
        written.append((now - last, data))
        last = now
    os.close(descriptor)
    assert process.wait(60) == 1
    return written


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_it_says_what_is_awaited(listening: socket.socket, live: Live, tmp_path: Path, term: str) -> None:
    url = url_of(listening)
    written = terminal(tmp_path, f"--etcd-endpoint={url}", *live.credentials, "--etcd-timeout=2", term=term)
    text = b"".join(data for _, data in written).decode()
    begun = next(number for number, (_, data) in enumerate(written) if b"etcdtls " in data)
    assert max(seconds for seconds, _ in written[begun + 1 :]) < SILENT + BUSY
    assert re.search(rf"etcd TLS: waiting for {url} \(\d+ s, \d+ connections? so far\)", text)
    assert ("\x1b[B\r" in text) == (term == "xterm")
    # The line is erased, and in no captured output.
    assert "waiting for" not in text.partition("= ERRORS =")[2]


def test_nothing_of_it_is_written_to_a_file(listening: socket.socket, tmp_path: Path) -> None:
    options = [f"--etcd-endpoint={url_of(listening)}", "--etcd-timeout=2", "--etcd-check=listener"]
    ran = run_program([*COMMAND, *options], tmp_path)
    assert "does not answer" in ran.stdout
    assert "waiting for" not in ran.stdout + ran.stderr
    assert "\x1b" not in ran.stdout
