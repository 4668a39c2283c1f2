"""etcds that do not behave: a program between whoever starts it and a real etcd, or in the place of one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

Unruly = Callable[[Path, Path], Path]
"""Makes a program of an etcd, in a directory."""

_HERE = Path(__file__).parent


def deaf(*flags: str, **further: str) -> Unruly:
    """Return an etcd that never hears of some flags.

    Args:
        flags: without dashes in front, left out.
        further: flags with underscores for dashes that are added.
    """
    added = [f"{name.replace('_', '-')}={value}" for name, value in further.items()]
    return _program("deaf.py", [",".join(flags), ",".join(added)])


def misled(pattern: str, replacement: str) -> Unruly:
    """Return an etcd that hears something else than it is told.

    Args:
        pattern: a regular expression, looked for in each argument.
        replacement: for what it matches, as in :func:`re.sub`.
    """
    return _program("misled.py", [pattern, replacement])


def forgetful() -> Unruly:
    """Return an etcd that goes on using the files that it was first started with, also after a restart."""
    return _program("forgetful.py", [])


def nervous() -> Unruly:
    """Return an etcd that is restarted whenever one of its files changes, as some operators do."""
    return _program("nervous.py", [])


def gullible() -> Unruly:
    """Return a server of ours in the place of an etcd, whose gateway serves everybody."""
    return _program("gullible.py", [])


def recorded(record: Path) -> Unruly:
    """Return an etcd as it is, that writes its process id into a file whenever it is started."""
    return _program("recorded.py", [str(record)])


def _program(script: str, arguments: Sequence[str]) -> Unruly:
    def make(etcd: Path, directory: Path) -> Path:
        program = directory / script.removesuffix(".py")
        words = (sys.executable, "-I", "-S", str(_HERE / script), str(etcd), *arguments)
        quoted = " ".join(f"'{word}'" for word in words)
        program.write_text(f'#!/bin/sh\nexec {quoted} "$@"\n')
        program.chmod(0o755)
        return program

    return make
