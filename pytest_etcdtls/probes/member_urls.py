"""The URLs that members advertise, whoever wrote them: which lead to a TCP port of one machine, and why not.

Syntax only: no name is looked up, nothing is connected to.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal, cast
from urllib.parse import SplitResult, urlsplit

from pytest_etcdtls.pki.names import is_address

LONGEST = 512
"""Characters of a URL that is looked at."""

_SHOWN = 80
_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")


class LocalURLError(ValueError):
    """The URL leads to the member on the member's own machine alone."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a URL leads to; ``host`` is a name in lower case or an address in its canonical form."""

    scheme: Literal["https", "http"]
    host: str
    port: int


def shown(text: str) -> str:
    """Return a text of a stranger's for people: short, and with nothing that a terminal would act upon."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in text[: _SHOWN + 1])
    return printable if len(printable) <= _SHOWN else f"{printable[:_SHOWN]}..."


def parse(text: str) -> Place:
    """Return where an advertised URL leads to.

    Raises:
        LocalURLError: for a Unix socket.
        ValueError: if it leads to no TCP port of one machine.
    """
    if len(text) > LONGEST:
        raise ValueError(f"it has {len(text)} characters")
    if not text.isprintable() or " " in text:
        raise ValueError("it holds blanks or control characters")
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise ValueError(f"it is no URL: {error}") from error
    if parts.scheme in ("unix", "unixs"):
        raise LocalURLError("a Unix socket leads to it on its own machine alone")
    if parts.scheme not in ("https", "http"):
        raise ValueError("it begins with neither https:// nor http://")
    if "@" in parts.netloc or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("it has more than scheme, host and port")
    return Place(cast("Literal['https', 'http']", parts.scheme), _host(parts), _port(parts))


def canonical(host: str) -> str:
    """Return a host in the one form in which it can be compared."""
    return str(ipaddress.ip_address(host)) if is_address(host) and "%" not in host else host.lower()


def _host(parts: SplitResult) -> str:
    if parts.netloc.count(":") > 1 and "[" not in parts.netloc:
        raise ValueError("an IPv6 address stands in brackets")
    host = parts.hostname or ""
    if not is_address(host):
        if not _NAME.fullmatch(host):
            raise ValueError("it has no host" if not host else "its host is neither a name nor an address")
        return host
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id:
            raise ValueError("its zone means something on one machine alone")
        address = address.ipv4_mapped or address
    if address.is_unspecified:
        raise ValueError(f"{address} is every address of whoever connects, and no other machine's")
    if address.is_multicast or str(address) == "255.255.255.255":
        raise ValueError(f"{address} is not the address of one machine")
    return str(address)


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError as error:
        raise ValueError("its port is not a number up to 65535") from error
    if not port:
        raise ValueError("it has no port")
    return port
