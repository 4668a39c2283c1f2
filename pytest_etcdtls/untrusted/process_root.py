"""Paths below ``/proc/PID/root``, the root directory of another process, such as one in a container.

Whoever controls the file system of a container can place a symbolic link in it. The kernel resolves the
absolute target of a link against the root of the process that opens it, so such a link would lead out of the
container, to a file of this machine. The same holds for ``..`` and for the links in ``/proc``. Here a path
below ``/proc/PID/root`` is looked up component by component, each relative to the directory before it and
without following a link (``O_NOFOLLOW``). The target of a link is text, which is looked up in the same way,
from the root of the process. ``openat2`` with ``RESOLVE_IN_ROOT`` does the same, but Python has no function
for it, and a container's seccomp filter may refuse it.

``O_PATH`` opens nothing: no device is touched, and no named pipe is waited for. What was found is named by
``/proc/self/fd/N``, which stays that one file whatever happens to its path afterwards.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_BELOW_ROOT = re.compile(r"(/proc/[0-9]+/root)(?:/(.*))?", re.DOTALL)
_MOST_LINKS: Final = 40
"""Symbolic links that a look-up follows, as in Linux (path_resolution(7))."""


def inside(path: str) -> str:
    """Return a path below ``/proc/PID/root`` as the process itself names it; any other path as it is."""
    below = _BELOW_ROOT.fullmatch(path)
    return f"/{below[2]}" if below and below[2] else path


@contextmanager
def looked_up(path: Path) -> Iterator[Path]:
    """Yield a path with which the file can be opened: another one for a path below ``/proc/PID/root``.

    Raises:
        OSError: if the path below ``/proc/PID/root`` does not exist, or cannot be looked up.
    """
    below = _BELOW_ROOT.fullmatch(str(path))
    if below is None:
        yield path
        return
    descriptor = _look_up(below[1], below[2] or "")
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _look_up(root: str, path: str) -> int:
    """Return an ``O_PATH`` descriptor of a path inside a root directory, for the caller to close."""
    above = [os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]
    left, links = deque(path.split("/")), 0
    try:
        while left:
            name = left.popleft()
            if name in ("", "."):
                continue
            if name == "..":
                if len(above) > 1:
                    os.close(above.pop())
                continue
            entry = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above[-1])
            if not stat.S_ISLNK(os.fstat(entry).st_mode):
                above.append(entry)
                continue
            try:
                target = os.readlink("", dir_fd=entry)
            finally:
                os.close(entry)
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if target.startswith("/"):
                _close(above[1:])
                del above[1:]
            left.extendleft(reversed(target.split("/")))
        return above.pop()
    finally:
        _close(above)


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def status_of(path: Path) -> os.stat_result:
    """Return the status of a file or directory; symbolic links are followed.

    Raises:
        OSError, ValueError: if it cannot be looked up.
    """
    with looked_up(path) as here:
        return os.stat(here)


def may_read(path: Path) -> bool:
    """Return whether this user may read a file."""
    try:
        with looked_up(path) as here:
            return os.access(here, os.R_OK)
    except (OSError, ValueError):
        return False


def names_in(directory: Path) -> list[str]:
    """Return the names in a directory, sorted; empty if it cannot be listed."""
    try:
        with looked_up(directory) as here:
            return sorted(os.listdir(here))
    except (OSError, ValueError):
        return []


def resolved(path: Path) -> Path:
    """Return the path with symbolic links resolved, as :func:`os.path.realpath` does; inside its root."""
    below = _BELOW_ROOT.fullmatch(str(path))
    if below is None:
        return Path(os.path.realpath(path))
    with looked_up(path) as here:
        inside = os.readlink(here).removeprefix(os.readlink(below[1]).rstrip("/"))
    return Path(below[1] + inside)
