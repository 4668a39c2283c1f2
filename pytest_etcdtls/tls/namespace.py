"""Connections in the network namespace of a process: ``--etcd-pid``.

A container has its own addresses and its own loopback interface, so the listener of an etcd in it is another
one than that of the same URL on the machine (network_namespaces(7)). A socket belongs to the namespace that
its thread is in when it is made (setns(2)), whatever its thread does afterwards. So the thread enters the
namespace of the process, makes the connection, and returns. Other threads stay where they are.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pytest_etcdtls.untrusted.process_user import check_same

_OF_NETWORK: Final = 0x40000000
"""``CLONE_NEWNET``. Python has ``os.setns`` since 3.12."""
_FIRST: Final[dict[tuple[int, int], int]] = {}
"""The namespace in which a process was first, by its ID and start.

A thread in another namespace that executes a program becomes the process, which is as old as before.
"""


def is_own_network(process: int) -> bool:
    """Return whether a process is in the network namespace of this one.

    Raises:
        OSError: if there is no such process, or this user may not look at it.
    """
    ours, theirs = os.stat("/proc/self/ns/net"), os.stat(f"/proc/{process}/ns/net")
    return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)


@contextmanager
def network_of(process: int) -> Iterator[None]:
    """Make this thread's sockets in the network namespace of a process.

    Raises:
        OSError: if there is no such process, this user may not enter its namespace (``CAP_SYS_ADMIN``), or
            it is another namespace than the first time.
    """
    theirs, own = (_opened(f"/proc/{one}/ns/net") for one in (process, "thread-self"))
    try:
        there = os.fstat(theirs).st_ino
        if _FIRST.setdefault((process, check_same(process)), there) != there:
            raise PermissionError(errno.EPERM, "has another network than before: run again")
        if there == os.fstat(own).st_ino:
            yield
            return
        _set(theirs)
        try:
            yield
        finally:
            _set(own)
    finally:
        os.close(theirs)
        os.close(own)


def _opened(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _set(descriptor: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _OF_NETWORK) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
