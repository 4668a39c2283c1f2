"""Runs every block of the page in one shell with one etcd, and keeps the results."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from by_hand.document import Block, Step
from by_hand.ours import Ours
from by_hand.shell import Ran, Shell

TOOLS = ("curl", "diff", "grep", "openssl", "sed")
"""The programs that every step of the page may run."""

_LOG_SECONDS = 10.0
_INTERFERING = ("PYTEST", "ETCD", "CURL_", "OPENSSL_", "SSL_")


@dataclass(slots=True, kw_only=True)
class Walk:
    """The results of the page's commands.

    Attributes:
        version: of the etcd.
        ran: what each block printed, by its line; those whose program is missing are not there.
        ours: the report that the page's own command wrote.
        left: what is still there after the last step.
    """

    version: str
    ran: dict[int, Ran] = field(default_factory=dict)
    ours: Ours | None = None
    left: list[Path] = field(default_factory=list)


def can_run(block: Block) -> bool:
    """Return whether the block's program is on PATH, if it needs one that not every machine has."""
    return block.needs is None or shutil.which(block.needs) is not None


def require_etcdctl(binary: Path) -> None:
    """Skip the test, with the reason, if that etcd has no etcdctl beside it."""
    if not binary.with_name("etcdctl").exists():
        pytest.skip(f"needs etcdctl beside {binary}")


def environment(binary: Path, home: Path) -> dict[str, str]:
    """Return a reader's environment, with that etcd and its etcdctl first on PATH."""
    programs = home / "bin"
    programs.mkdir()
    for name in ("etcd", "etcdctl"):
        (programs / name).symlink_to(binary.with_name(name))
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_INTERFERING) and not name.lower().endswith("_proxy")
    }
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), ours.get("PATH", os.defpath)])
    return {**ours, "PATH": path, "LC_ALL": "C", "CURL_HOME": str(home)}


def walk_through(steps: Sequence[Step], binary: Path, version: str, home: Path) -> Walk:
    """Run every block of every step in one shell; the last step is the end of the cluster."""
    directory = home / "reader"
    directory.mkdir()
    walk = Walk(version=version)
    *before, last = steps
    with Shell(directory, environment(binary, home)) as shell:
        try:
            run_steps(shell, walk, before)
            work, cluster = Path(shell.value("WORK")), Path(shell.value("DIR"))
            walk.ours = Ours(work / "report.json")
            run_steps(shell, walk, [last])
            walk.left = [directory for directory in (work, cluster) if directory.exists()]
        finally:
            _clean_up(directory / "practice.sh")
    return walk


def run_steps(shell: Shell, walk: Walk, steps: Sequence[Step]) -> None:
    """Run the blocks of some steps."""
    for block in (block for step in steps for block in step.blocks if can_run(block)):
        if block.code.startswith("grep") and '"$LOG"' in block.code:
            shown = [*((line,) for line in block.prints or ()), *block.fragments(walk.version)]
            await_words(Path(shell.value("LOG")).read_text, [cell for cell in shown if cell != ("nothing",)])
        walk.ran[block.line] = shell.run(block.code)


def await_words(log: Callable[[], str], wanted: Sequence[Sequence[str]]) -> None:
    """Wait until a log has one text of each; return at the deadline as well."""
    deadline = time.monotonic() + _LOG_SECONDS
    while not all(any(words in log() for words in cell) for cell in wanted):
        if time.monotonic() > deadline:
            return
        time.sleep(0.02)


def _clean_up(script: Path) -> None:
    """End the cluster if the page's last step did not run."""
    if not script.exists():
        return
    lines = script.read_text(encoding="utf-8").splitlines()
    started = dict(line.split("=", 1) for line in lines if "=" in line)
    if "PID" in started:
        with suppress(ProcessLookupError):
            os.kill(int(started["PID"]), signal.SIGKILL)
    if "DIR" in started:
        shutil.rmtree(started["DIR"], ignore_errors=True)
