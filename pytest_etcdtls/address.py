"""Host addresses: which are IP addresses, loopback, or none of a machine of a cluster."""

from __future__ import annotations

import ipaddress
import re


def is_address(name: str) -> bool:
    """Return whether a host is an IP address rather than a name; a zone is ignored."""
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether a host is a loopback address or name (RFC 6761 section 6.3 for names)."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


_METADATA = frozenset(map(ipaddress.ip_address, ("100.100.100.200", "168.63.129.16", "fd00:ec2::254")))
"""Addresses of metadata services of clouds that are not link-local."""

_TRANSLATED = tuple(map(ipaddress.IPv6Network, ("::/96", "64:ff9b::/96", "64:ff9b:1::/48")))
"""IPv6 networks with an IPv4 address in the last 32 bits (RFC 4291 section 2.5.5.1, RFC 6052, RFC 8215)."""


def no_machine(address: str) -> str:
    """Return why an address leads to no machine of a cluster; empty if it may lead to one.

    Loopback is no such address: it leads to a member on the member's own machine.

    Args:
        address: an IP address without brackets.
    """
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address) and not parsed.is_loopback and not parsed.is_unspecified:
        if parsed.ipv4_mapped is not None:
            return no_machine(str(parsed.ipv4_mapped))
        inside = _inside(parsed)
        if inside is not None and (inside.is_loopback or no_machine(str(inside))):
            return f"{address} holds {inside}, which some resolvers read"
    if parsed.is_unspecified:
        return f"{address} means every address of the client's own machine"
    if parsed.is_multicast or str(parsed) == "255.255.255.255":
        return f"{address} is not the address of one machine"
    if parsed.is_link_local or parsed in _METADATA:
        return f"{address} is link-local, or the address of a cloud's metadata service"
    return ""


def _inside(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 address holds, other than an IPv4-mapped one."""
    if any(address in network for network in _TRANSLATED):
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.sixtofour


def is_number(host: str) -> bool:
    """Return whether a host that is no IP address is read as one by some resolvers: ``127.1``, ``0x7f.1``.

    Its last label is then a decimal or hexadecimal number (inet_aton(3); WHATWG URL, "ends in a number").
    """
    return re.fullmatch(r"[0-9]+|0[xX][0-9a-fA-F]*", host.rstrip(".").rpartition(".")[2]) is not None
