"""Ports for listeners that must be known before etcd is started, claimed against other processes of ours.

A claim is a block of ports below the ephemeral range, where the system gives none to outgoing connections,
held by a file lock. It does not bind anything for longer than a moment; who finds a port taken all the same
gives the block back and claims another. This module does not know what the ports are for.
"""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from pytest_etcdtls.errors import ClusterStartError

_BLOCK = 32
"""Ports in a block: five members with five listeners fit, and some may be taken by others."""

_FIRST_PORT = 20000
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


@dataclass(frozen=True, slots=True)
class PortClaim:
    """Free ports, ours until :meth:`release`."""

    ports: tuple[int, ...]
    _lock: BaseFileLock | None

    def release(self) -> None:
        """Give the ports back; may be called again."""
        if self._lock is not None:
            self._lock.release()


def claim_ports(count: int, host: str, *, skip: int = 0) -> PortClaim:
    """Claim free ports on an address.

    Args:
        count: how many, at most 32.
        host: IP literal that they will be bound on.
        skip: number of blocks to leave out first; counts up when a claim turned out to be taken.

    Raises:
        ClusterStartError: if every block is taken.
    """
    directory = _lock_directory()
    for start in _blocks(skip):
        lock = _lock(directory, start)
        if lock is None and directory is not None:
            continue
        free = [port for port in range(start, start + _BLOCK) if _is_free(host, port)]
        if len(free) >= count:
            return PortClaim(tuple(free[:count]), lock)
        if lock is not None:
            lock.release()
    raise ClusterStartError(f"no block of {count} free ports on {host} from {_FIRST_PORT} on: all are in use")


def _blocks(skip: int) -> Iterator[int]:
    """Yield the first port of every block; concurrent processes begin at different ones."""
    starts = range(_FIRST_PORT, _end_of_range(), _BLOCK)
    first = os.getpid() * 7 + skip
    for number in range(len(starts)):
        yield starts[(first + number) % len(starts)]


def _end_of_range() -> int:
    try:
        ephemeral = int(_EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        ephemeral = 32768
    # An administrator may have moved the ephemeral range down; then retrying must do.
    return ephemeral if ephemeral >= _FIRST_PORT + _BLOCK * 16 else 32768


def _lock_directory() -> Path | None:
    """Return a directory that all of this user's processes share; ``None`` if its name is somebody else's."""
    directory = Path(tempfile.gettempdir()) / f"pytest-etcdtls-ports-{os.getuid()}"
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        status = directory.lstat()
    except OSError:
        return None
    ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    return directory if ours else None


def _lock(directory: Path | None, start: int) -> BaseFileLock | None:
    if directory is None:
        return None
    lock = FileLock(directory / f"{start}.lock", thread_local=False)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return None
    return lock


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As etcd binds: without this a port whose connections are in TIME_WAIT would look taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
