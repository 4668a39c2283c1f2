"""Start-up time of pytest with the plugin installed and not used."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from timing import Timed, alternate, command


def measure(repeat: int) -> list[Timed]:
    """Time pytest with one empty test: without the plugin, with it installed and unused, and without anyio's.

    httpx brings anyio, which brings a plugin.
    """
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "test_nothing.py").write_text("def test_nothing(): pass\n", encoding="utf-8")
        return alternate(
            {
                "pytest -p no:etcdtls": lambda: command([*pytest, "-p", "no:etcdtls"], directory),
                "pytest, plugin installed and unused": lambda: command(pytest, directory),
                "the same with -p no:anyio": lambda: command([*pytest, "-p", "no:anyio"], directory),
            },
            repeat,
        )
