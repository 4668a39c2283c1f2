"""Files of another process: below ``/proc/PID/root``, and what it has open, ``/proc/PID/fd/N``.

Whoever controls the file system of a container can place a symbolic link in it. The kernel resolves the
absolute target of a link against the root of the process that opens it, so such a link would lead out of the
container, to a file of this machine. The same holds for ``..`` and for the links in ``/proc``. Here a path
below ``/proc/PID/root`` is looked up component by component, each relative to the directory before it and
without following a link (``O_NOFOLLOW``). The target of a link is text, which is looked up in the same way,
from the root of the process. ``openat2`` with ``RESOLVE_IN_ROOT`` does the same, but Python has no function
for it, and a container's seccomp filter may refuse it.

``O_PATH`` opens nothing: no device is touched, and no named pipe is waited for. What was found is named by
``/proc/self/fd/N``, which stays that one file whatever happens to its path afterwards.

All of this is done with the rights of the user of the process (:mod:`pytest_etcdtls.untrusted.process_user`),
so that a process cannot have root read what it may not read itself. No other module opens anything below
``/proc/PID/root``, ``/proc/PID/cwd`` or ``/proc/PID/fd``.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_etcdtls.untrusted.process_user import OVERRIDES, rights_of, user_of

if TYPE_CHECKING:
    import socket

_OF_PROCESS = re.compile(
    r"(?P<proc>/proc/(?P<pid>[0-9]+))/(?:root(?:/(?P<below>.*))?|(?P<file>fd/[0-9]+))", re.DOTALL
)
_MOST_LINKS: Final = 40
"""Symbolic links that a look-up follows, as in Linux (path_resolution(7))."""


class RefusedError(PermissionError):
    """The user of a process may not read a file, or pass a directory above it.

    Attributes:
        place: the path of that file or directory.
        status: its status.
    """

    def __init__(self, place: Path, status: os.stat_result) -> None:
        super().__init__(errno.EACCES, os.strerror(errno.EACCES), str(place))
        self.place = place
        self.status = status


def inside(path: str) -> str:
    """Return a path below ``/proc/PID/root`` as the process itself names it; any other path as it is."""
    of_process = _OF_PROCESS.fullmatch(path)
    return f"/{of_process['below']}" if of_process and of_process["below"] else path


def not_readable(path: Path) -> tuple[str, str]:
    """Return two parts of a message: whose rights do not allow to read a path, and what to do."""
    if of_process := _OF_PROCESS.fullmatch(str(path)):
        reader = f"the user of process {of_process['pid']}"
        with suppress(OSError, ValueError):
            user = user_of(int(of_process["pid"]))
            if user.own_namespace and user.capabilities & OVERRIDES:
                return (
                    f"may not be read by {reader}, whose capabilities in its user namespace are not taken",
                    "check its owner and mode, or pass a copy that only you can read",
                )
        return (
            f"may not be read by {reader}",
            f"{reader} needs it for the next start: correct its owner and mode",
        )
    return (
        "may not be read by this user",
        "run as a user who may read it, or pass a copy that only you can read",
    )


@contextmanager
def looked_up(path: Path, *, reads: bool = False) -> Iterator[Path]:
    """Yield a path with which a file can be opened: another one for that of another process.

    Args:
        path: the path.
        reads: whether the content will be read, if it is a regular file or a directory. Of anything else,
            and without this, only the status can be.

    Raises:
        OSError: if the path of another process does not exist, cannot be looked up, or may not be read by
            the user of that process.
    """
    of_process = _OF_PROCESS.fullmatch(str(path))
    if of_process is None:
        yield path
        return
    *above, (_, descriptor) = way_with_rights(of_process, reads=reads)
    _close(above)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def connect(client: socket.socket, path: Path) -> None:
    """Connect to a Unix domain socket of another process, looked up and opened as the process's user.

    Raises:
        OSError: if it does not exist, cannot be looked up, or that user may not connect to it.
    """
    of_process = _OF_PROCESS.fullmatch(str(path))
    if of_process is None:
        raise ValueError(f"{path} is not below the root directory of a process")
    _close(way_with_rights(of_process, then=client.connect))


def way_with_rights(
    of_process: re.Match[str], *, reads: bool = False, then: Callable[[str], object] = str
) -> list[tuple[str, int]]:
    """Return names and descriptors from the root directory to a file, looked up as the process's user.

    No other function has the rights of another user. With these, ``then`` is called with a path of the file.
    """
    way: list[tuple[str, int]] = []
    with rights_of(user_of(int(of_process["pid"]))):
        try:
            if of_process["file"]:
                way.append(("", os.open(of_process[0], os.O_PATH | os.O_CLOEXEC)))
            else:
                way = _look_up(f"{of_process['proc']}/root", of_process["below"] or "")
            if reads:
                name, found = way.pop()
                status = os.fstat(found)
                try:
                    way.append((name, _opened(found)))
                except PermissionError as error:
                    root = Path(of_process["proc"], "root")
                    raise RefusedError(root.joinpath(*(each for each, _ in way), name), status) from error
            then(f"/proc/self/fd/{way[-1][1]}")
        except BaseException:
            _close(way)
            raise
    return way


def _opened(found: int) -> int:
    """Open a regular file or a directory that was found for reading, and close what was found."""
    if not stat.S_ISREG(mode := os.fstat(found).st_mode) and not stat.S_ISDIR(mode):
        return found
    try:
        return os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    finally:
        os.close(found)


def _look_up(root: str, path: str) -> list[tuple[str, int]]:
    """Return the way to a path inside a root directory: names and ``O_PATH`` descriptors, to be closed."""
    way = [("", os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))]
    left, links = deque(path.split("/")), 0
    try:
        while left:
            name = left.popleft()
            if name in ("", "."):
                continue
            if name == "..":
                if len(way) > 1:
                    os.close(way.pop()[1])
                continue
            try:
                entry = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=way[-1][1])
            except PermissionError as error:
                place = Path(root).joinpath(*(each for each, _ in way))
                raise RefusedError(place, os.fstat(way[-1][1])) from error
            if not stat.S_ISLNK(os.fstat(entry).st_mode):
                way.append((name, entry))
                continue
            try:
                target = os.readlink("", dir_fd=entry)
            finally:
                os.close(entry)
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if target.startswith("/"):
                _close(way[1:])
                del way[1:]
            left.extendleft(reversed(target.split("/")))
    except BaseException:
        _close(way)
        raise
    return way


def _close(way: Sequence[tuple[str, int]]) -> None:
    for _, descriptor in way:
        os.close(descriptor)


def way_to(path: Path) -> list[tuple[Path, os.stat_result]]:
    """Return a file and the directories above it up to its root, the file first, without symbolic links.

    Raises:
        OSError, ValueError: if it cannot be looked up.
    """
    of_process = _OF_PROCESS.fullmatch(str(path))
    if of_process is None or of_process["below"] is None:
        here = Path(os.path.realpath(path))
        return [(place, os.stat(place)) for place in (here, *here.parents)]
    root = Path(f"{of_process['proc']}/root")
    way = way_with_rights(of_process)
    try:
        places = accumulate((name for name, _ in way[1:]), Path.__truediv__, initial=root)
        statuses = [os.fstat(descriptor) for _, descriptor in way]
    finally:
        _close(way)
    return list(zip(places, statuses, strict=True))[::-1]


def status_of(path: Path) -> os.stat_result:
    """Return the status of a file or directory; symbolic links are followed.

    Raises:
        OSError, ValueError: if it cannot be looked up.
    """
    with looked_up(path) as here:
        return os.stat(here)


def may_read(path: Path) -> bool:
    """Return whether this user may read a file; of another process, whether its user may, too."""
    try:
        with looked_up(path, reads=True) as here:
            return os.access(here, os.R_OK)
    except (OSError, ValueError):
        return False


def names_in(directory: Path) -> list[str]:
    """Return the names in a directory, sorted; empty if it cannot be listed."""
    try:
        with looked_up(directory, reads=True) as here:
            return sorted(os.listdir(here))
    except (OSError, ValueError):
        return []
