"""Where systemd keeps a unit's drop-ins, and what the unit is called (systemd.unit(5)). Reads no unit."""

from __future__ import annotations

import re
from pathlib import Path

_DIRECTORIES = (
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
)
"""Unit directories below the root, those that go before others first."""

_HEADER = re.compile(r"^# (/\S+\.service)$", re.MULTILINE)


def root_of(path: Path) -> Path:
    """Return the directory that stands for ``/`` where a unit lies in one of systemd's directories."""
    directory = path.absolute().parent.as_posix()
    for known in _DIRECTORIES:
        if directory.endswith(f"/{known}"):
            return Path(directory[: -len(known)])
    return Path("/")


def drop_ins(path: Path) -> list[Path]:
    """Return the drop-ins of a unit in the order in which systemd reads them: by name, wherever they lie.

    Of equal names the one in the directory that goes before counts. A unit that does not lie in one of
    systemd's directories has those in ``NAME.d`` beside it.
    """
    directory = path.absolute().parent
    root = root_of(path)
    inside = any(directory == root / known for known in _DIRECTORIES)
    places = [root / known for known in _DIRECTORIES] if inside else [directory]
    by_name: dict[str, Path] = {}
    for place in places:
        for name in _drop_in_directories(path.name):
            for found in sorted((place / name).glob("*.conf")):
                by_name.setdefault(found.name, found)
    return [by_name[name] for name in sorted(by_name)]


def _drop_in_directories(unit: str) -> list[str]:
    """Return the names of the directories: the unit's own, and that of the template of an instance."""
    prefix, at_sign, _ = unit.partition("@")
    template = [f"{prefix}@.service.d"] if at_sign else []
    return [f"{unit}.d", *template]


def unit_name(path: Path, text: str) -> str:
    """Return a unit's name, from the heading of ``systemctl cat`` or the file's; empty if neither is one."""
    heading = _HEADER.search(text)
    if heading is not None and text.startswith(heading[0]):
        return Path(heading[1]).name
    return path.name if path.suffix == ".service" else ""
