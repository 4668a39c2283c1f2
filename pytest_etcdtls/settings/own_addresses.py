"""Which addresses are this machine's, found out without sending anything.

Asks the kernel about single addresses; looks up no name.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from contextlib import suppress

_NOBODYS = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""Addresses for documentation (RFC 5737, RFC 3849), which no machine has."""


def own_among(hosts: Iterable[str]) -> frozenset[str]:
    """Return those of the hosts that are an address or the name of this machine; no name is looked up."""
    name = socket.gethostname()
    return frozenset(host for host in hosts if host == name or is_own(host))


def is_own(address: str) -> bool:
    """Return whether an IP address is one of this machine's; ``False`` for a name.

    One can bind to the machine's own addresses alone. Where the system lets bind to any
    (``net.ipv4.ip_nonlocal_bind``, as set beside keepalived), one is taken for its own if packets to it would
    come from it.
    """
    family = _family(address)
    if family is None:
        return False
    if _binds(family, _NOBODYS[family]):
        return _source(family, address) == address
    return _binds(family, address)


def _family(address: str) -> socket.AddressFamily | None:
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            socket.inet_pton(family, address)
            return family
    return None


def _binds(family: socket.AddressFamily, address: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _source(family: socket.AddressFamily, address: str) -> str | None:
    """Return the address that packets would be sent from; connecting a datagram socket sends none."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return None
