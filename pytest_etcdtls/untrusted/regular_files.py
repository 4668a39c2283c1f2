"""Untrusted files are opened and read within bounds.

A path may be that of a pipe without a writer, which blocks, or of a device, which has no end. Only regular
files are opened. Each problem is an :class:`~pytest_etcdtls.errors.UnreadableFileError` that names it. A path
below ``/proc/PID/root`` is looked up inside that root (:mod:`pytest_etcdtls.untrusted.process_root`).

A file of the kernel, such as ``/proc/kmsg``, is called regular and is none: it may wait, have no end, or lose
what is read. So nothing is read in such file systems, but of a process what proc(5) describes. A file of FUSE
is not read either: the program that serves it decides how long that takes.
"""

from __future__ import annotations

import os
import re
import select
import stat
import struct
import sys
import time
from pathlib import Path
from typing import BinaryIO, Final

from pytest_etcdtls.errors import UnreadableFileError
from pytest_etcdtls.untrusted.process_root import looked_up, not_readable, status_of

PIPE_SECONDS: Final = 10.0
"""Seconds within which the pipe of a shell's process substitution, ``<(vault read ...)``, must end."""

_CHUNK: Final = 65536
_KINDS: Final = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISSOCK, "a socket"),
)
_OF_THE_KERNEL: Final = frozenset(
    {
        *(0x9FA0, 0x62656572, 0x64626720, 0x74726163),  # proc, sysfs, debugfs, tracefs
        *(0x73636673, 0x27E0EB, 0x63677270, 0xCAFE4A11),  # securityfs, cgroup 1 and 2, bpf
        *(0x6165676C, 0x62656570, 0xDE5E81E4),  # pstore, configfs, efivarfs
        *(0x19800202, 0x65735546),  # mqueue, FUSE
    }
)
"""File systems whose files are not stored content (linux/magic.h)."""
_OF_A_PROCESS = re.compile(r"/proc/(?:[0-9]+|self)/(?:(?!exe$)[a-z]+|net/(?:tcp6?|unix))")
_DESCRIPTORS: Final = ("/dev/fd", "/proc/self/fd")
_FLAGS: Final = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


def open_regular(path: Path) -> BinaryIO:
    """Return a regular file, opened for reading; the caller closes it. Links are followed.

    Raises:
        UnreadableFileError: if there is no such file, it may not be read, or it is not a regular one.
    """
    return open(_descriptor(path), "rb")


def read_regular(path: Path, maximum: int) -> bytes:
    """Return the content of a regular file, or of a pipe that a shell's process substitution passes.

    Args:
        path: the file. Links are followed.
        maximum: octets that it may have. No more is kept in memory.

    Raises:
        UnreadableFileError: as :func:`open_regular`; also if the file is larger, or a pipe does not end
            within :data:`PIPE_SECONDS`.
    """
    if str(path.parent) in _DESCRIPTORS and (data := _read_pipe(path, maximum)) is not None:
        return data
    with open_regular(path) as file:
        try:
            data = file.read(maximum + 1)
        except (OSError, ValueError) as error:
            raise UnreadableFileError(f"cannot be read ({error})", "check the path") from error
    return _within(data or b"", maximum)  # None if a read would wait


def _within(data: bytes, maximum: int) -> bytes:
    if len(data) > maximum:
        size = f"{maximum // 1024**2} MiB" if maximum >= 1024**2 else f"{maximum // 1024} KiB"
        raise UnreadableFileError(f"is larger than {size}", "check that it is the file meant")
    return data


def _descriptor(path: Path) -> int:
    try:
        with looked_up(path, reads=True) as here:
            _check_regular(os.stat(here))
            descriptor = os.open(here, _FLAGS)
        try:
            _check_regular(os.fstat(descriptor))  # another file may have the path by now
            if not _OF_A_PROCESS.fullmatch(str(path)):
                _check_stored(descriptor)
        except UnreadableFileError:
            os.close(descriptor)
            raise
    except FileNotFoundError as error:
        raise UnreadableFileError("does not exist", "check the path") from error
    except PermissionError as error:
        raise UnreadableFileError(*not_readable(path)) from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UnreadableFileError(f"cannot be read ({why})", "check the path") from error
    return descriptor


def _check_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise UnreadableFileError("is a directory", "name the file in it")
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for applies, name in _KINDS if applies(status.st_mode)), "something else")
        raise UnreadableFileError(
            f"is no regular file but {kind}", "write the content to a file, and name that"
        )


def _check_stored(descriptor: int) -> None:
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    status = ctypes.create_string_buffer(512)  # struct statfs begins with f_type (statfs(2))
    if ctypes.CDLL(None).fstatfs(descriptor, status) == 0:
        (kind,) = struct.unpack_from("@l", status)
        if kind & 0xFFFFFFFF in _OF_THE_KERNEL:
            raise UnreadableFileError(
                "is a file of the kernel or of FUSE, not one with stored content",
                "write the content to a file, and name that",
            )


def _read_pipe(path: Path, maximum: int) -> bytes | None:
    """Return the data of an open pipe of this process; ``None`` if it is not a pipe."""
    try:
        if not stat.S_ISFIFO(os.stat(path).st_mode):
            return None
        descriptor = os.open(path, _FLAGS)
    except OSError:
        return None
    deadline, data = time.monotonic() + PIPE_SECONDS, bytearray()
    try:
        while len(data) <= maximum:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise UnreadableFileError(
                    f"is a pipe that has not ended after {PIPE_SECONDS:g} s",
                    "write the content to a file that only you can read, and name that",
                )
            chunk = os.read(descriptor, _CHUNK)
            if not chunk:
                break
            data += chunk
    except OSError as error:
        raise UnreadableFileError(f"cannot be read ({error.strerror})", "check the path") from error
    finally:
        os.close(descriptor)
    return _within(bytes(data), maximum)


def is_there(path: Path) -> bool:
    """Return whether the path exists; ``False`` also for one that cannot be looked up."""
    try:
        status_of(path)
    except (OSError, ValueError):
        return False
    return True
