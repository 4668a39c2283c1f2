"""Matches host names by the rules of Go's ``x509.Certificate.VerifyHostname`` (RFC 6125).

Trust is not checked. The common name is ignored.
"""

from __future__ import annotations

import ipaddress
import re

from cryptography import x509

from pytest_etcdtls.pki.certificate import extension
from pytest_etcdtls.pki.go_parser import DNS, IP
from pytest_etcdtls.pki.go_verify import details
from pytest_etcdtls.untrusted import printable


def subject_alt_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the names for people: ``DNS:localhost``, ``IP:127.0.0.1``, others with the name of their type.

    Each is printable and bounded; :func:`names_host` compares the names themselves.
    """
    names = extension(certificate, x509.SubjectAlternativeName)
    return tuple(printable(_show(name)) for name in names or ())


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
        return f"{address} means something on one link alone, or is a metadata service's"
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


def names_host(certificate: x509.Certificate, host: str) -> bool:
    """Return whether the subjectAltName covers a host.

    Args:
        certificate: the server's certificate.
        host: a DNS name, or an IP address without brackets; a zone is ignored.
    """
    found = details(certificate)
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return any(_matches(pattern, host) for pattern in found.texts(DNS))
    return _whole(address.packed) in {_whole(content) for tag, content in found.names if tag == IP}


def _whole(packed: bytes) -> bytes:
    """Return an IPv4-mapped IPv6 address as IPv4. Go treats the two as equal."""
    return packed[12:] if len(packed) == 16 and packed.startswith(bytes(10) + b"\xff\xff") else packed


def _matches(pattern: str, host: str) -> bool:
    if not (_is_hostname(host.removesuffix("."), wildcard=False) and _is_hostname(pattern, wildcard=True)):
        # Go compares a name that is not a valid host name literally: db.example.com. matches itself only.
        return _lower(pattern) == _lower(host) not in ("", ".")
    wanted, given = _lower(host.removesuffix(".")).split("."), _lower(pattern).split(".")
    # A wildcard matches exactly the whole leftmost label (RFC 6125 section 6.4.3).
    return len(wanted) == len(given) and given[0] in ("*", wanted[0]) and given[1:] == wanted[1:]


def _is_hostname(text: str, *, wildcard: bool) -> bool:
    first, *others = text.split(".")
    labels = others if wildcard and first == "*" and others else [first, *others]
    return all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", label) for label in labels)


def _lower(text: str) -> str:
    """Return the name with ASCII letters in lower case and other characters unchanged."""
    return re.sub("[A-Z]", lambda found: found[0].lower(), text)


def _show(name: x509.GeneralName) -> str:
    match name:
        case x509.DNSName():
            return f"DNS:{name.value}"
        case x509.IPAddress():
            return f"IP:{name.value}"
        case x509.UniformResourceIdentifier():
            return f"URI:{name.value}"
        case x509.RFC822Name():
            return f"email:{name.value}"
    return type(name).__name__
