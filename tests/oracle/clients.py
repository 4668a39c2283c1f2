"""The answers of Go, as in etcd's clients, to a case."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from oracle.chains import Case

SOURCE = Path(__file__).with_name("verify")


@dataclass(frozen=True)
class GoAnswer:
    """The answer of the Go client.

    Attributes:
        phase: where it refuses: ``roots``, ``parse``, ``size``, ``verify``, ``handshake``.
        error: its words, empty if it accepts.
    """

    refused: bool
    phase: str
    error: str


def built(source: Path, directory: Path) -> Path:
    """Build a program with the installed Go, and return it; skip the test if Go is older than its go.mod."""
    binary = directory / source.name
    done = subprocess.run(
        ["go", "build", "-o", str(binary), "."],
        cwd=source,
        env={**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "", "CGO_ENABLED": "0"},
        check=False,
        capture_output=True,
        encoding="utf-8",
    )
    if "go.mod requires go" in done.stderr:
        pytest.skip(f"needs a newer Go: {done.stderr}")
    assert done.returncode == 0, done.stderr
    return binary


class GoClient:
    """The program of ``tests/oracle/verify``, built with the installed Go."""

    def __init__(self, directory: Path) -> None:
        self._binary = built(SOURCE, directory)

    def ask(self, cases: Sequence[Case]) -> list[GoAnswer]:
        """Return its answer to each case."""
        lines = "\n".join(json.dumps(_as_json(case)) for case in cases)
        done = subprocess.run([self._binary], input=lines, check=True, capture_output=True, encoding="utf-8")
        return [GoAnswer(**json.loads(line)) for line in done.stdout.splitlines()]


def _as_json(case: Case) -> dict[str, object]:
    def encoded(ders: Sequence[bytes]) -> list[str]:
        return [base64.b64encode(der).decode() for der in ders]

    return {
        "roots": encoded(case.roots),
        "chain": encoded(case.chain),
        "host": case.host,
        "time": case.now.isoformat(),
    }
