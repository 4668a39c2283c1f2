"""Free ports, which are claimed against other processes on this host.

A port is free or not only when etcd binds it. So a start that finds one taken is made again with others.
"""

from __future__ import annotations

import _socket
import errno
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from msgspec import Struct

from pytest_etcdtls.errors import ClusterStartError

MOST = 32
"""Ports of one claim: enough for five members with five listeners, with some ports taken by others."""

_BLOCK = 1 + MOST
_FIRST_PORT = 20000
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


class PortTakenError(ClusterStartError):
    """Another program listens on a port that was free before."""


class PortClaim(Struct, frozen=True):
    """Free ports that are reserved until :meth:`release`, or until this process ends."""

    ports: tuple[int, ...]
    _guard: socket.socket | None

    def release(self) -> None:
        """Release the ports. It may be called repeatedly."""
        if self._guard is not None:
            self._guard.close()


def claim_ports(count: int, host: str, *, skip: int = 0) -> PortClaim:
    """Claim free ports on an address.

    A block of ports is claimed by binding its first port. The system releases it at the latest when this
    process ends, and nothing is left in a file system.

    Args:
        count: number of ports, at most 32.
        host: IP literal that they will be bound to.
        skip: number of blocks to skip; increased when a claimed port turns out to be taken.

    Raises:
        ClusterStartError: if every block is taken, or this host does not have the address.
    """
    if _any_port(host) not in (0, errno.EADDRINUSE):
        raise ClusterStartError(
            f"no port can be bound on {host}: this host does not have that address; the other one is "
            f"host={'127.0.0.1' if ':' in host else '::1'!r}"
        )
    for start in _blocks(skip):
        guard = _guard(host, start)
        if guard is None:
            continue
        free = [port for port in range(start + 1, start + _BLOCK) if _is_free(host, port)]
        if len(free) >= count:
            return PortClaim(tuple(free[:count]), guard)
        guard.close()
    raise ClusterStartError(
        f"no block of {count} free ports on {host} from {_FIRST_PORT} to {_end_of_range() - 1}: all are in "
        "use: end what listens there, which ss -tlnp shows"
    )


def _blocks(skip: int) -> Iterator[int]:
    """Yield the first port of every block. Concurrent processes begin at different blocks."""
    starts = range(_FIRST_PORT, _end_of_range() - _BLOCK + 1, _BLOCK)
    first = os.getpid() * 7 + skip
    for number in range(len(starts)):
        yield starts[(first + number) % len(starts)]


def _end_of_range() -> int:
    try:
        ephemeral = int(_EPHEMERAL.read_text(encoding="utf-8").split()[0])
    except (OSError, ValueError, IndexError):
        ephemeral = 32768
    # If an administrator has lowered the ephemeral range, only retries help.
    return ephemeral if ephemeral >= _FIRST_PORT + _BLOCK * 16 else 32768


def local_ports_taken() -> str:
    """Return that this host has no port left for a connection, and what to do; empty if it has one."""
    if _any_port("127.0.0.1") != errno.EADDRINUSE:
        return ""
    try:
        ports = "-".join(_EPHEMERAL.read_text(encoding="utf-8").split())
    except OSError:
        ports = "unknown"
    return (
        f"every local port for connections is in use (net.ipv4.ip_local_port_range: {ports}): end what holds "
        "them, which ss -tan shows, or widen the range"
    )


def _any_port(address: str) -> int:
    """Return why no port that the system chooses can be bound on an address, as errno; 0 if one can."""
    try:
        # Not socket.socket: plugins that forbid tests the network replace it.
        with closing(_socket.socket(_family(address), _socket.SOCK_STREAM)) as probe:
            probe.bind((address, 0))
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _guard(host: str, port: int) -> socket.socket | None:
    """Return a socket that holds the port; ``None`` if another program has it.

    Without SO_REUSEADDR and without listening: no other program can bind the port, even with that option.
    """
    guard = socket.socket(_family(host), socket.SOCK_STREAM)
    try:
        guard.bind((host, port))
    except OSError:
        guard.close()
        return None
    return guard


def _is_free(host: str, port: int) -> bool:
    try:
        with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
            # As etcd does: without this option a port with connections in TIME_WAIT appears taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)
            probe.bind((host, port))
    except OSError:
        return False
    return True


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
