"""etcds that behave differently: programs that start a real etcd in another way, or stand in for one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

Unruly = Callable[[Path, Path], Path]
"""Makes a program of an etcd, in a directory."""

_HERE = Path(__file__).parent


def changed_flags(*flags: str, **further: str) -> Unruly:
    """Return an etcd that is started without some flags, and with others.

    Args:
        flags: those that are left out, without dashes in front.
        further: those that are added, with underscores for dashes.
    """
    added = [f"{name.replace('_', '-')}={value}" for name, value in further.items()]
    return _program("changed_flags.py", [",".join(flags), ",".join(added)])


def rewritten_arguments(pattern: str, replacement: str) -> Unruly:
    """Return an etcd that is started with rewritten arguments.

    Args:
        pattern: a regular expression, searched for in each argument.
        replacement: for what it matches, as in :func:`re.sub`.
    """
    return _program("rewritten_arguments.py", [pattern, replacement])


def copied_flag(source: str, target: str) -> Unruly:
    """Return an etcd that is started with the value of one flag for another; names without dashes."""
    return _program("copied_flag.py", [source, target])


def first_files() -> Unruly:
    """Return an etcd that uses the files of its first start, also after a restart."""
    return _program("first_files.py", [])


def restarted_on_change() -> Unruly:
    """Return an etcd that is restarted whenever one of its files changes."""
    return _program("restarted_on_change.py", [])


def open_gateway() -> Unruly:
    """Return a server in the place of an etcd, whose gateway serves every client."""
    return _program("open_gateway.py", [])


def killed(line: str) -> Unruly:
    """Return an etcd that is killed as soon as its log has a line with that text."""
    return _program("killed.py", [line])


def recorded(record: Path) -> Unruly:
    """Return an etcd that writes its process id into a file whenever it is started."""
    return _program("recorded.py", [str(record)])


def _program(script: str, arguments: Sequence[str]) -> Unruly:
    def make(etcd: Path, directory: Path) -> Path:
        program = directory / script.removesuffix(".py")
        words = (sys.executable, "-I", "-S", str(_HERE / script), str(etcd), *arguments)
        quoted = " ".join(f"'{word}'" for word in words)
        program.write_text(f'#!/bin/sh\nexec {quoted} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
        return program

    return make
