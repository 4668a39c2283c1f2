"""What dead owners have left: etcds, directories with keys, containers and networks.

A watchdog removes what its owner leaves. If both are killed, a later run does it, on the same host and as the
same user: a directory, a process, a container and a network each name the process that owns them. They are
removed only if that process has ended for certain (:func:`~pytest_etcdtls.cluster.watchdog.is_dead`). What
``--etcd-keep`` leaves names no owner.
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from pytest_etcdtls.cluster.engine import LABEL, engine, remove_all
from pytest_etcdtls.cluster.watchdog import OWNER, OWNER_FILE, PREFIX, guarded, is_dead, kill
from pytest_etcdtls.errors import UsageError

_LONGEST = 4096


@functools.cache
def remove_what_is_here() -> tuple[str, ...]:
    """Kill the etcds of dead owners and remove their directories, once for each process.

    Returns:
        What was removed, in words.
    """
    dead = [(group, marks) for group, marks in guarded() if is_dead(marks.get(OWNER, ""))]
    kill({group for group, _ in dead})
    directories = [path for path in _directories() if is_dead(_owner_of(path))]
    for path in directories:
        shutil.rmtree(path, ignore_errors=True)
    return (
        *(f"process group {group}" for group in sorted({group for group, _ in dead})),
        *(f"directory {path}" for path in directories if not path.exists()),
    )


@functools.cache
def remove_containers() -> tuple[str, ...]:
    """Remove the containers and networks of dead owners, once for each process, if an engine answers.

    Returns:
        What was removed, in words.
    """
    removed: list[str] = []
    with suppress(UsageError):
        with engine() as client:
            filters: dict[str, str | list[str] | bool] = {"label": [LABEL, OWNER]}
            made = [
                *client.containers.list(all=True, filters=filters, ignore_removed=True),
                *client.networks.list(filters=filters),
            ]
        tokens = {
            labels[LABEL]
            for one in made
            if is_dead((labels := one.attrs.get("Labels") or one.attrs["Config"]["Labels"])[OWNER])
        }
        removed += [f"containers and networks of {token}" for token in sorted(tokens) if remove_all(token)]
    return tuple(removed)


def _directories() -> list[Path]:
    """Return the guarded directories of this user in the system's temporary directory."""
    found: list[Path] = []
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            if path.lstat().st_uid == os.geteuid() and path.is_dir() and not path.is_symlink():
                found.append(path)
    return found


def _owner_of(directory: Path) -> str:
    with suppress(OSError, ValueError), open(directory / OWNER_FILE, encoding="utf-8") as file:
        return file.read(_LONGEST)
    return ""
