"""Whether names fit the name constraints of a CA, as Go's crypto/x509 compares them (its constraints.go).

Go sorts the subtrees, drops those that lie in others, and looks for the nearest one. That decides some odd
cases, such as an address range that does not begin at its first address, and is therefore done likewise.
"""

from __future__ import annotations

import ipaddress
import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from urllib.parse import unquote

from pytest_etcdtls.pki.go_parser import DNS, EMAIL, IP, URI

Names = tuple[tuple[int, bytes], ...]
"""Tag and content of GeneralNames."""

_KINDS = {DNS: "DNS name", EMAIL: "mailbox", URI: "URI", IP: "address"}
_MAPPED = bytes(10) + b"\xff\xff"
"""What an IPv4 address in IPv6 form begins with."""


def fault(names: Names, permitted: Names, excluded: Names) -> str:
    """Return which of the names is not permitted or is excluded, empty if none is.

    Args:
        names: the subjectAltName of a certificate.
        permitted: subtrees of a CA above it; a kind of which there is none is not restricted.
        excluded: likewise.
    """
    for tag, content in names:
        if tag in (URI, EMAIL) and _domain_of(tag, content) is None:
            return f"{_shown(tag, content)} cannot be compared with the name constraints of its CA"
    for tag in (IP, DNS, URI, EMAIL):
        allowed, forbidden = _Subtrees(tag, permitted, permit=True), _Subtrees(tag, excluded, permit=False)
        for content in _of(tag, names):
            domain = _domain_of(tag, content)
            if tag != IP and (domain is None or not is_domain(domain)):
                return f"{_shown(tag, content)} cannot be compared with the name constraints of its CA"
            if allowed and not allowed.hold(content):
                return f"{_shown(tag, content)} is not among the names that its CA may certify"
            if forbidden and forbidden.hold(content):
                return f"{_shown(tag, content)} is excluded by its CA"
    return ""


def is_domain(text: str) -> bool:
    """Return whether Go takes it for a domain name; it does not ask for more."""
    return not text or all(re.fullmatch(r"[!-~]+", label) for label in text.split("."))


def _of(tag: int, names: Names) -> list[bytes]:
    return [content for kind, content in names if kind == tag]


def _shown(tag: int, content: bytes) -> str:
    if tag == IP:
        # One of another length is malformed, which is for others to say.
        return f"the address {ipaddress.ip_address(content) if len(content) in (4, 16) else content.hex()}"
    return f"the {_KINDS[tag]} {content.decode('latin-1')}"


def _domain_of(tag: int, content: bytes) -> str | None:
    """Return what of a name is compared, ``None`` if there is nothing."""
    text = content.decode("latin-1")
    if tag in (DNS, IP):
        return text
    if tag == EMAIL:
        mailbox = _mailbox(text)
        return mailbox[1] if mailbox else None
    return uri_domain(text)


def uri_domain(text: str) -> str | None:
    """Return the host of a URI without port, ``None`` if it has none or that is an address."""
    match = re.match(r"[^:/?#]*:?//([^/?#]*)", text)
    host = unquote(match[1].rpartition("@")[2]) if match else ""
    if ":" in host and not host.endswith("]"):
        host, _, _ = host.rpartition(":")
        if ":" in host and not (host.startswith("[") and host.endswith("]")):
            return None
        host = host.strip("[]")
    else:
        host = host.lower()
    if not host or host.startswith("["):
        return None
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host
    return None


_QUOTED = r'"((?:[\x01-\x08\x0b\x0c\x0e-\x1f !#-\[\]-\x7f]|\\[\x01-\x09\x0b\x0c\x0e-\x7f])*)"'
_ATOM = r"((?:[0-9A-Za-z!#$%&'*+\-/=?^_`{|}~.]|\\[0-9A-Za-z!#$%&'*+\-/=?^_`{|}~.])+)"


def _mailbox(text: str) -> tuple[str, str] | None:
    """Return local part and domain, the domain in lower case (RFC 2821 section 4.1.2)."""
    match = re.match(rf"(?:{_QUOTED}|{_ATOM})@(.*)\Z", text, re.DOTALL)
    if match is None:
        return None
    quoted, atom, domain = match.groups()
    local = re.sub(r"\\(.)", r"\1", quoted if quoted is not None else atom, flags=re.DOTALL)
    if quoted is None and (local.startswith(".") or local.endswith(".") or ".." in local):
        return None
    # Here an empty label at the end is one too many, and no domain at all is none.
    return (local, domain.lower()) if is_domain(domain) else None


# -- subtrees ----------------------------------------------------------------------------------------


class _Subtrees:
    """The subtrees of one kind."""

    def __init__(self, tag: int, names: Names, *, permit: bool) -> None:
        self._tag = tag
        self._all = _of(tag, names)
        texts = [content.decode("latin-1") for content in self._all] if tag != IP else []
        self._mailboxes = {_mailbox(text) for text in texts if tag == EMAIL and "@" in text}
        domains = [text for text in texts if tag != EMAIL or "@" not in text]
        self._domains = _Domains(domains, permit=permit) if domains else None

    def __bool__(self) -> bool:
        return bool(self._all)

    def hold(self, content: bytes) -> bool:
        """Return whether a name lies in one of them."""
        if self._tag == IP:
            ranges = [found for found in self._all if len(found) == 2 * len(content)]
            return _holds_address(ranges, content)
        if self._tag == EMAIL and _mailbox(content.decode("latin-1")) in self._mailboxes:
            return True
        domain = _domain_of(self._tag, content)
        return self._domains is not None and domain is not None and self._domains.hold(domain)


def _nearest(subtrees: Sequence[str], name: str, key: Callable[[str], list[int]]) -> tuple[str, bool]:
    """Return the subtree that would stand before the name, or the first one, and whether it is the name."""
    place = bisect_left([key(found) for found in subtrees], key(name))
    if place < len(subtrees) and key(subtrees[place]) == key(name):
        return subtrees[place], True
    return subtrees[max(0, place - 1)], False


def _order(domain: str) -> list[int]:
    """Return what domains are sorted by: from the end, periods first, whatever the case."""
    return [0 if character == "." else ord(character) for character in reversed(_lower(domain))]


def _lower(text: str) -> str:
    return "".join(character.lower() if character.isascii() else character for character in text)


def _lies_in(subtree: str, domain: str) -> bool:
    """Return whether a domain ends with a subtree; with a leading period that is at least one label more."""
    subtree, domain = _lower(subtree), _lower(domain)
    if not domain.endswith(subtree):
        return False
    before = domain[: len(domain) - len(subtree)]
    return subtree.startswith(".") or not before or before.endswith(".")


class _Domains:
    def __init__(self, subtrees: Sequence[str], *, permit: bool) -> None:
        self._everything = "" in subtrees
        kept: list[str] = []
        for subtree in sorted(subtrees, key=_order) if not self._everything else ():
            if not kept or not _lies_in(kept[-1], subtree):
                kept.append(subtree)
        self._kept = kept
        # A wildcard stands for the name that is excluded as well: *.example.com for db.example.com.
        parents = {_lower(found).partition(".") for found in kept} if not permit else set()
        self._parents = {f".{rest}" for _, period, rest in parents if period}

    def hold(self, domain: str) -> bool:
        if self._everything:
            return True
        nearest, same = _nearest(self._kept, domain, _order)
        if same or _lies_in(nearest, domain):
            return True
        first, period, rest = _lower(domain).partition(".")
        return first.startswith("*") and bool(period) and f".{rest}" in self._parents


def _holds_address(ranges: Sequence[bytes], address: bytes) -> bool:
    kept: list[bytes] = []
    for found in sorted(ranges):
        if not kept or not _is_subset(kept[-1], found):
            kept.append(found)
    if not kept:
        return False
    starts = [found[: len(address)] for found in kept]
    place = bisect_left(starts, address)
    if place < len(kept) and starts[place] == address:
        return True
    return _contains(kept[max(0, place - 1)], address)


def _contains(subtree: bytes, address: bytes) -> bool:
    half = len(subtree) // 2
    start, mask = subtree[:half], subtree[half:]
    if start.startswith(_MAPPED):
        start, mask = start[12:], mask[12:]
    if len(address) == 16 and address.startswith(_MAPPED):
        address = address[12:]
    return len(start) == len(address) and all(
        a & m == b & m for a, b, m in zip(start, address, mask, strict=True)
    )


def _is_subset(one: bytes, other: bytes) -> bool:
    half = len(other) // 2
    last = bytes(start | ~mask & 0xFF for start, mask in zip(other[:half], other[half:], strict=True))
    return _contains(one, other[:half]) and _contains(one, last)
