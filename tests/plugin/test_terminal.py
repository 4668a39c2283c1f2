"""The output of a run: the header, the certificates, the summary, and what is awaited."""

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
from plugin.runs import Runner, url_of
from programs import run_program

SOME = "--etcd-check=listener,cert.trusted,cert.valid-now,mtls.no-certificate"


def test_listeners_credentials_and_certificates_are_shown(run: Runner, live: Live) -> None:
    ran = run(*live.options, SOME, "-v")
    head = ran.out.partition("collected")[0]
    assert re.search(r"^etcd TLS: pytest-etcdtls \S+, OpenSSL \d\S* .*, \d+ checks$", head, re.MULTILINE)
    for words in (live.client, live.peer, "client.crt", "server-ca.crt", "peer-client.crt"):
        assert words in head
    assert "client.key" not in head
    text = ran.out.partition("= etcd TLS conformance =")[2]
    assert re.search(r"  client-\S+: CN=etcd-server, issued by CN=etcd client-port CA\n +\d{4}-", text)
    assert "ECDSA P-256, sha256; digitalSignature; serverAuth, clientAuth\n" in text
    assert re.search(r"SHA-256 [0-9a-f]{64}\s+on\s+https://", text)


@pytest.mark.parametrize("arguments", [["--tb=no"], ["-q"], ["-qq"], ["-n1"], ["--color=yes"]], ids=" ".join)
def test_a_fault_is_shown_with_any_option(run: Runner, live: Live, arguments: list[str]) -> None:
    ran = run(*live.wrong_anchor, SOME, *arguments)
    assert ran.exit_code == 1
    assert "1. cert.trusted (high) on " in ran.out
    assert "etcd TLS: NOT CLEAN: 1 fault (1 check) (https" in ran.out
    assert ("SHA-256" in ran.out.partition("short test summary info")[2]) is (arguments != ["-qq"])
    assert ("\x1b" in ran.out) is ("--color=yes" in arguments)


def test_a_ca_that_was_not_passed_is_asked_for(run: Runner, live: Live) -> None:
    assert "--etcd-cacert (" in " ".join(run(f"--etcd-endpoint={live.client}").out.split())


@pytest.mark.parametrize("plugin", ["no:terminal", "no:terminalreporter"])
def test_without_a_terminal_reports_are_written(run: Runner, live: Live, plugin: str) -> None:
    ran = run(*live.options, SOME, "-p", plugin)
    assert ran.exit_code == 0
    assert ran.out.strip() == ""
    assert ran.counts["conforms"]


def test_the_worst_outcome_is_shown_first(run: Runner, live: Live) -> None:
    run.with_house()
    text = run(*live.options, "--etcd-check=house", "-p", "no:randomly").out
    expected = (
        "= ERRORS =",
        "broken: the check house.broken itself failed",
        "ZeroDivisionError",
        "inconclusive: nobody answered the door",
        "= FAILURES =",
        "house.violates on client-",
        "the house is on fire",
        "expected: no fire",
        "observed: fire",
        "colour: orange",
        "curl https://house/fire",
        "requires: The house does not burn.",
        "why:      Fire destroys houses.",
        "remedy:   put it out with --water-file.",
        "see:      House rules, 2",
        "1 violates, 1 broken, 1 inconclusive, 1 warns, 1 not verified, 1 not applicable,",
        "2 conform; ",
        "warnings",
        "there is smoke (observed: some)",
        "1. house.violates (critical) on client-",
        "remedy: put it out with --water-file.",
        "! house.warns on client-",
        "exit code 1: 1 fault, 2 checks without evidence",
        "etcd TLS: NOT CLEAN: 1 fault (1 check)",
    )
    position = 0
    for words in expected:
        assert words in text[position:], words
        position = text.index(words, position) + len(words)


def test_paths_of_reports_are_lines_of_their_own(run: Runner) -> None:
    turned = "\u202e" if sys.getfilesystemencoding() == "utf-8" else ""
    report = f"r\n::error::x\x1b[2J{turned}.json"
    dead = ("--etcd-endpoint=https://127.0.0.1:1", "--etcd-timeout=1", "--etcd-check=listener")
    ran = run("--pyargs", "pytest_etcdtls", *dead, f"--etcd-report={report}", report=False)
    assert (run.directory / report).exists()
    assert repr(report)[1:-1] in ran.out
    assert not [line for line in ran.out.splitlines() if line.startswith("::") or not line.isprintable()]


# A terminal is never silent for long: a line says what the run waits for.

SILENT = 2.0
"""Longest time without output, in seconds."""
BUSY = 1.0
"""What a busy machine may add."""
COMMAND = [sys.executable, "-m", "pytest", "--pyargs", "pytest_etcdtls", "-p", "no:randomly"]


def on_a_terminal(directory: Path, *arguments: str, term: str) -> list[tuple[float, bytes]]:
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
    written = on_a_terminal(
        tmp_path, f"--etcd-endpoint={url}", *live.credentials, "--etcd-timeout=2", term=term
    )
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
