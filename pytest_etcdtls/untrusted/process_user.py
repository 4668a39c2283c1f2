"""The user of another process, and file access with no more than that user's rights.

A run as root that opens what a process names would lend the process root's rights: any local user can start
a process that names root's files. So such a file is looked up and opened with the file-system user ID, group
ID and groups of that process (setfsuid(2), credentials(7)), and without the capabilities that override file
modes unless the process has them too. Linux keeps these for each thread: other threads are not affected.

This holds only if the process is what its user started. A set-user-ID program has arguments and variables of
the user who started it, and root's IDs. Four things tell it apart, and :func:`user_of` refuses it:

- Its real, effective, saved and file-system IDs differ (proc_pid_status(5)).
- It was started with other effective IDs than real ones, as the kernel noted in its auxiliary vector
  (getauxval(3), ``AT_UID``, ``AT_EUID``, ``AT_GID``, ``AT_EGID``). ``sudo`` makes all four IDs root's, and
  cannot change these.
- ``AT_SECURE`` is set. A change of domain of SELinux sets it too, so it does not count with a security label.
- Its program has a set-user-ID or set-group-ID bit, or capabilities of its own (capabilities(7)).
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

OVERRIDES: Final = 1 << 1 | 1 << 2
"""The capabilities ``CAP_DAC_OVERRIDE`` and ``CAP_DAC_READ_SEARCH``, by which root reads files of others."""

_AT_UID, _AT_EUID, _AT_GID, _AT_EGID, _AT_SECURE = 11, 12, 13, 14, 23
_SETGROUPS: Final = {"x86_64": 116, "aarch64": 159, "riscv64": 159, "ppc64le": 81, "s390x": 206}
"""Numbers of the system call, which changes one thread (asm/unistd.h). The function of libc changes all."""
_CAPABILITY_VERSION: Final = 0x20080522
"""``_LINUX_CAPABILITY_VERSION_3`` (linux/capability.h)."""
_LARGEST: Final = 1024 * 1024
_UNCHANGED: Final = -1

STARTED: Final[dict[int, int]] = {}
"""The start of each process that was found, by its process ID, which the kernel may use again."""


class BorrowedRightsError(PermissionError):
    """A process may act for another user than the one who started it."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EPERM, why)


class ProcessUser(NamedTuple):  # this module is imported by every run of pytest, msgspec is not
    """Whose rights a process has.

    Attributes:
        uid: its user ID, as this process sees it.
        gid: its group ID.
        groups: its further groups.
        capabilities: its effective capabilities, as bits.
        own_namespace: it has another user namespace than this process.
        umask: its file mode creation mask.
        label: that of a security module, as written to ``attr/exec`` to keep it; empty if it has none.
        secure: its loader ignored variables such as ``LD_PRELOAD``.
        seen: another text once the process has executed another program, or is another process.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    capabilities: int
    own_namespace: bool
    umask: int
    label: str
    secure: bool
    seen: str


def user_of(pid: int) -> ProcessUser:
    """Return the user of a process.

    Raises:
        BorrowedRightsError: if it may act for another user than the one who started it.
        OSError: if there is no such process, or this user may not look at it.
    """
    here = Path(f"/proc/{pid}")
    status, seen, vector = _look(pid)
    program = os.open(here / "exe", os.O_PATH | os.O_CLOEXEC)
    try:
        mode = os.fstat(program).st_mode
        gives_capabilities = "security.capability" in os.listxattr(f"/proc/self/fd/{program}")
    finally:
        os.close(program)
    label = label_of(here)
    if any(len(set(status[name].split())) > 1 for name in ("Uid", "Gid")):
        raise BorrowedRightsError("its real, effective, saved and file-system IDs differ")
    if (
        vector.get(_AT_UID) != vector.get(_AT_EUID)
        or vector.get(_AT_GID) != vector.get(_AT_EGID)
        or (vector.get(_AT_SECURE) and not label)
    ):
        raise BorrowedRightsError("it was started with more rights than its user has")
    if mode & (stat.S_ISUID | stat.S_ISGID) or gives_capabilities:
        raise BorrowedRightsError("its program gives more rights than its user has")
    again, seen_again, _ = _look(pid)
    if seen_again != seen or any(again[name] != status[name] for name in ("Uid", "Gid", "Groups")):
        raise BorrowedRightsError("it executed another program meanwhile")
    return ProcessUser(
        uid=int(status["Uid"].split()[0]),
        gid=int(status["Gid"].split()[0]),
        groups=tuple(map(int, status["Groups"].split())),
        capabilities=int(status["CapEff"], 16),
        own_namespace=os.readlink(here / "ns/user") != os.readlink("/proc/self/ns/user"),
        umask=int(status["Umask"], 8),
        label=label,
        secure=bool(vector.get(_AT_SECURE)),
        seen=seen,
    )


def state_of(pid: int) -> tuple[str, int]:
    """Return the state of a process and its start, in clock ticks since the machine's (proc_pid_stat(5)).

    Raises:
        OSError: if there is no such process.
    """
    # The second field, the name in parentheses, may contain anything.
    state, *fields = _read(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()
    return state.decode("ascii"), int(fields[18])


def check_same(pid: int) -> int:
    """Check that an ID is still that of the process that was found, and return when that was started.

    Raises:
        OSError: if it is that of another process, or of none.
    """
    _, started = state_of(pid)
    if STARTED.get(pid, started) != started:
        raise ProcessLookupError(errno.ESRCH, "ended, and another process has its ID: run again")
    return started


def _look(pid: int) -> tuple[dict[str, str], str, dict[int, int]]:
    """Return the status of a process, a text that changes when it executes a program, and its auxv."""
    here = Path(f"/proc/{pid}")
    lines = _read(here / "status").decode("utf-8", "replace").splitlines()
    data = _read(here / "auxv")
    size = struct.calcsize("@L")
    words = struct.unpack(f"@{len(data) // size}L", data[: len(data) // size * size])
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    seen = (data + b"%d" % check_same(pid)).hex()
    return status, seen, dict(zip(words[::2], words[1::2], strict=False))


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _LARGEST)
    finally:
        os.close(descriptor)


def label_of(here: Path) -> str:
    """Return the label of a process as in :class:`ProcessUser`."""
    try:
        label = _read(here / "attr/current").decode("utf-8", "replace").strip("\0\n")
    except OSError:
        return ""
    if label in ("", "unconfined", "kernel"):
        return ""
    profile, mode, _ = label.partition(" (")
    return f"exec {profile}" if mode else label


@contextmanager
def rights_of(user: ProcessUser) -> Iterator[None]:
    """Give this thread the rights of a process's user for access to files, and take them away again.

    A run that is not root has no rights to lend. Nothing may be imported meanwhile.

    Raises:
        PermissionError: if this thread cannot take these rights (``CAP_SETUID``, ``CAP_SETGID``).
    """
    if os.geteuid() != 0:
        yield
        return
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    sets = ctypes.create_string_buffer(24)
    libc.capget(header, sets)
    ours = list(struct.unpack("=6I", sets.raw))  # effective, permitted, inheritable: low, then high
    groups = os.getgroups()
    kept = ours[0] & OVERRIDES & (0 if user.own_namespace else user.capabilities)
    try:
        if groups != [*user.groups]:
            _set_groups(libc, user.groups)
        libc.setfsgid(user.gid)
        libc.setfsuid(user.uid)
        theirs = [ours[0] & ~OVERRIDES | kept, *ours[1:]]
        lacking = libc.capset(header, struct.pack("=6I", *theirs))
        if lacking or (libc.setfsuid(_UNCHANGED), libc.setfsgid(_UNCHANGED)) != (user.uid, user.gid):
            why = f"the rights of user {user.uid} cannot be taken (CAP_SETUID, CAP_SETGID)"
            raise PermissionError(errno.EPERM, why)
        yield
    finally:
        libc.setfsuid(os.geteuid())
        libc.setfsgid(os.getegid())
        if groups != [*user.groups]:
            _set_groups(libc, groups)
        libc.capset(header, struct.pack("=6I", *ours))


def _set_groups(libc: object, groups: tuple[int, ...] | list[int]) -> None:
    """Set the groups of this thread alone.

    Raises:
        PermissionError: if that is not possible.
    """
    import ctypes

    number = _SETGROUPS.get(os.uname().machine)
    array = (ctypes.c_uint32 * len(groups))(*groups)
    if number is None or libc.syscall(number, len(groups), array) != 0:  # type: ignore[attr-defined]
        raise PermissionError(errno.EPERM, "the groups of another user cannot be taken (CAP_SETGID)")
