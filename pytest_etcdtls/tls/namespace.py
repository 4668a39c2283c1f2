"""Connections in the network namespace of a process: ``--etcd-pid``.

A container has its own addresses and its own loopback interface, so the listener of an etcd in it is another
one than that of the same URL on the machine (network_namespaces(7)). A socket belongs to the namespace that
its thread is in when it is made (setns(2)), whatever its thread does afterwards. So the thread enters the
namespace of the process, makes the connection, and returns. Other threads stay where they are.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_OF_NETWORK: Final = 0x40000000
"""``CLONE_NEWNET``. Python has ``os.setns`` since 3.12."""


def is_own_network(process: int) -> bool:
    """Return whether a process is in the network namespace of this one.

    Raises:
        OSError: if there is no such process, or this user may not look at it.
    """
    ours, theirs = os.stat("/proc/self/ns/net"), os.stat(_namespace(process))
    return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)


@contextmanager
def network_of(process: int) -> Iterator[None]:
    """Make this thread's sockets in the network namespace of a process.

    Raises:
        OSError: if there is no such process, or this user may not enter its namespace (``CAP_SYS_ADMIN``).
    """
    if is_own_network(process):
        yield
        return
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(_namespace(process))
        try:
            yield
        finally:
            _set(own)
    finally:
        os.close(own)


def _namespace(process: int) -> str:
    return f"/proc/{process}/ns/net"


def _enter(namespace: str) -> None:
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _set(descriptor)
    finally:
        os.close(descriptor)


def _set(descriptor: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _OF_NETWORK) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
