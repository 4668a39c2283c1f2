"""Which process listens on a port of another one's network: ``--etcd-pid``.

etcd ends if it cannot listen on one of its URLs (embed.StartEtcd). One that runs listens on all that it was
started with. But its configuration file may have been changed since, and a stranger's process may declare the
port of another one. Whether the process itself listens there is in ``/proc/PID/net/tcp``, which has the inode
of each socket, and in ``/proc/PID/fd``, which has those that a process has open (proc(5)).
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address

from pytest_etcdtls.declared.declaration import authority
from pytest_etcdtls.declared.running import (
    PROC,
    SECONDS,
    Process,
    listening,
    process_ids,
    program_of,
    sockets_of,
)
from pytest_etcdtls.errors import UnreadableFileError
from pytest_etcdtls.tls.namespace import network_of
from pytest_etcdtls.untrusted.in_time import each_in_time
from pytest_etcdtls.untrusted.printable import printable
from pytest_etcdtls.untrusted.regular_files import open_regular


def opened_by(process: Process) -> dict[int | str, str]:
    """Return where a process itself listens: each port with one of its addresses, and paths of sockets."""
    sockets = sockets_of(process.pid)
    ports: dict[int | str, str] = {
        int(fields[1].rpartition(b":")[2], 16): str(_address(fields[1]))
        for fields in listening(process.pid)
        if fields[9] in sockets
    }
    return ports | {path: path for inode, path in _named_sockets(process.pid) if inode in sockets}


def _named_sockets(pid: int) -> Iterator[tuple[bytes, str]]:
    """Yield inode and path of each Unix domain socket that listens in the network of a process.

    The flag is ``SO_ACCEPTCON`` of Linux (unix_seq_show in net/unix/af_unix.c).
    """
    with suppress(UnreadableFileError, OSError), open_regular(PROC / str(pid) / "net/unix") as file:
        for line in file:
            fields = line.rstrip(b"\n").split(maxsplit=7)
            if len(fields) == 8 and fields[3] == b"00010000":  # noqa: PLR2004 - with a path
                yield fields[6], os.fsdecode(fields[7])


def held_by_another(process: Process, host: str, port: int) -> str:
    """Return which other process listens where this one does not, in its network; empty if none does.

    Args:
        process: the process.
        host: an IP address, or ``localhost``; empty for every address.
        port: the port.
    """
    try:
        there = ip_address("127.0.0.1" if host == "localhost" else host or "0.0.0.0")  # noqa: S104 - compared
    except ValueError:
        return ""
    held = {
        fields[9]: address
        for fields in listening(process.pid)
        if fields[1].endswith(b":%04X" % port) and _overlap(address := _address(fields[1]), there)
    }
    if not held or sockets_of(process.pid) & held.keys():
        return ""
    inode, address = next(iter(held.items()))
    if (
        there.version != address.version
        and not there.is_unspecified
        and _is_free(process.pid, str(there), port)
    ):
        return ""  # the other socket is for IPv6 alone
    pids = process_ids()
    every = zip(pids, each_in_time(sockets_of, pids, SECONDS), strict=True)
    holders = [pid for pid, sockets in every if not isinstance(sockets, Exception) and inode in sockets]
    who = "another process, which this user cannot see,"
    if holders:
        who = f"process {holders[0]} ({printable(program_of(holders[0]))})"
    return f"{who} listens on {authority(str(address), port)}"


def _address(text: bytes) -> IPv4Address | IPv6Address:
    """Return the address of a socket, whose words have the order of this machine (proc_pid_net(5))."""
    words = (text[start : start + 8] for start in range(0, text.index(b":"), 8))
    address = ip_address(b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words))
    return (address.version == 6 and address.ipv4_mapped) or address


def _overlap(one: IPv4Address | IPv6Address, there: IPv4Address | IPv6Address) -> bool:
    """Return whether a socket that listens on an address receives what is for the other one, or otherwise."""
    same = one.version == there.version
    return (
        one == there
        or (one.is_unspecified and (same or one.version == 6))
        or (there.is_unspecified and (same or there.version == 6))
    )


def _is_free(pid: int, host: str, port: int) -> bool:
    """Return whether a process could listen on an address of IPv4, as Go does (net/sockopt_posix.go)."""
    with suppress(OSError), network_of(pid), socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        return True
    return False
