"""What dead owners have left: etcds, directories with keys, containers and networks.

A watchdog removes what its owner leaves. If both are killed, a later run does it, on the same host and as the
same user. A directory has a record, which only this user can read: the process that owns it, and a secret. A
process names its record and has the secret; a container and a network name the process that owns them. They
are removed only if that process has ended for certain (:func:`~pytest_etcdtls.etcd.watchdog.is_dead`), each
by its own labels, and not those of its image. What ``--etcd-keep`` leaves names no owner.
"""

from __future__ import annotations

import functools
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd.engine import LABEL, engine, labels_of, made_here, remove
from pytest_etcdtls.etcd.watchdog import OWNER, PREFIX, RECORD, is_dead, kill

_LONGEST = 4096


@functools.cache
def remove_what_is_here() -> tuple[str, ...]:
    """Kill the etcds of dead owners and remove their directories, once for each process.

    Returns:
        What was done, in words: what is removed, and what is left because its record is not ours.
    """
    said: list[str] = []

    def is_of_dead_owner(mark: str) -> bool:
        secret, _, path = mark.partition(" ")
        if not path:
            return False  # that of a cluster which is kept
        record = _record(Path(path))
        if record is None or record[1] != secret:
            said.append(f"left: a process whose mark names {path}, but not the secret in that file")
            return False
        return is_dead(record[0])

    said += [f"removed: process {process}" for process in kill(is_of_dead_owner)]
    for path in _directories():
        if not os.path.lexists(path / RECORD):
            continue
        if (record := _record(path / RECORD)) is None:
            said.append(
                f"left: directory {path}: its file {RECORD} is no record that only this user can write"
            )
        elif is_dead(record[0]):
            shutil.rmtree(path, ignore_errors=True)
            said += [] if path.exists() else [f"removed: directory {path}"]
    return tuple(said)


def _record(path: Path) -> tuple[str, str] | None:
    """Return owner and secret of a record; ``None`` if it is not one that only this user can write."""
    with suppress(OSError, ValueError), open(path, opener=_regular, encoding="utf-8") as file:
        status = os.fstat(file.fileno())
        owner, secret = file.read(_LONGEST).split("\n")
        if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) == 0o600 and secret:
            return owner, secret
    return None


def _regular(path: str, flags: int) -> int:
    """Open a file that is no link and no device, which may act when it is opened."""
    there = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    try:
        if not stat.S_ISREG(os.fstat(there).st_mode):
            raise FileNotFoundError(path)
        return os.open(f"/proc/self/fd/{there}", flags)
    finally:
        os.close(there)


@functools.cache
def remove_containers() -> tuple[str, ...]:
    """Remove the containers and networks of dead owners, once for each process, if an engine answers.

    Returns:
        What was removed, in words.
    """
    said: list[str] = []
    with suppress(UsageError), engine() as client:
        dead = [one for one in made_here(client, LABEL, OWNER) if is_dead(labels_of(one)[OWNER])]
        remove(dead)
        tokens = {labels_of(one)[LABEL] for one in dead}
        said += [f"removed: containers and networks of {token}" for token in sorted(tokens)]
    return tuple(said)


def _directories() -> list[Path]:
    """Return the guarded directories of this user in the system's temporary directory."""
    directories: list[Path] = []
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            if path.lstat().st_uid == os.geteuid() and path.is_dir() and not path.is_symlink():
                directories.append(path)
    return directories
