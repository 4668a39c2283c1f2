"""Endpoint URLs and the listeners that they name."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Literal, cast
from urllib.parse import SplitResult, urlsplit

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.declared.declaration import Declaration, DeclaredListener, advertised, declared_listeners
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.role import Role
from pytest_etcdtls.settings import Source, option
from pytest_etcdtls.target import ConnectTo, Listener, safe, unique

ROLES = {
    "etcd_endpoint": Role.CLIENT,
    "etcd_peer_endpoint": Role.PEER,
    "etcd_metrics_endpoint": Role.METRICS,
    "etcd_client_http_endpoint": Role.CLIENT_HTTP,
}
"""The role of the listeners that each option names."""

_EXAMPLE = "write it as etcdctl does, https://10.0.0.11:2379 or https://[fd00::11]:2379"


def read_named(source: Source) -> list[Listener]:
    """Return the listeners that options name, in the order of roles and then of the command line.

    Raises:
        UsageError: if a URL cannot be used.
    """
    return [
        parse_endpoint(name, text, role)
        for name, role in ROLES.items()
        for text in source.texts(name, commas=True)
    ]


def complete(source: Source, listeners: Sequence[Listener]) -> tuple[Listener, ...]:
    """Return all listeners with unique labels and with the addresses to connect to.

    Raises:
        UsageError: if a listener is given twice, or a rule of ``--etcd-connect-to`` matches no listener and
            no others can be discovered.
    """
    _refuse_duplicates(listeners)
    rules = read_connect_to(source)
    return tuple(_connect_to(_label(listeners), rules, more=source.flag("etcd_discover")))


def read_connect_to(source: Source) -> tuple[ConnectTo, ...]:
    """Return the rules of ``--etcd-connect-to`` in the order in which they are given.

    Raises:
        UsageError: if a rule is not valid.
    """
    return tuple(_parse_connect_to(text) for text in source.texts("etcd_connect_to"))


def parse_endpoint(name: str, text: str, role: Role) -> Listener:
    """Return the listener of one URL. Its label is not yet unique.

    Raises:
        UsageError: if the URL cannot be used.
    """
    where = f"{option(name)} {text!r}"
    parts = _split(where, text)
    host = _host(where, parts)
    port = _port(where, parts)
    scheme = cast("Literal['https', 'http']", parts.scheme)
    label = f"{role}-{safe(host)}-{port}"
    return Listener(role=role, scheme=scheme, host=host, port=port, member=safe(host), label=label)


def _split(where: str, text: str) -> SplitResult:
    if "://" not in text:
        raise UsageError(f"{where} has no scheme: {_EXAMPLE}")
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise UsageError(f"{where} is not a URL ({error}): {_EXAMPLE}") from error
    if parts.scheme not in ("https", "http"):
        raise UsageError(f"{where}: the scheme is https or http, not {parts.scheme!r}")
    if parts.username is not None or parts.password is not None:
        named_by = where.partition(" ")[0]  # without the value, which has a secret
        raise UsageError(
            f"{named_by} carries a user or a password in its URL: use --etcd-user and --etcd-password-file"
        )
    if parts.netloc.count(":") > 1 and "[" not in parts.netloc:
        raise UsageError(f"{where}: an IPv6 address is written in brackets: {_EXAMPLE}")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise UsageError(f"{where} has something behind the port: an endpoint is scheme, host and port alone")
    return parts


def _host(where: str, parts: SplitResult) -> str:
    host = parts.hostname
    if not host:
        raise UsageError(f"{where} has no host: {_EXAMPLE}")
    if ":" in host:
        try:
            ipaddress.IPv6Address(host)
        except ValueError as error:
            raise UsageError(f"{where}: {host!r} is not an IPv6 address: {error}") from error
    elif not re.fullmatch(r"[A-Za-z0-9._-]+", host):
        raise UsageError(f"{where}: {host!r} is not a host name or an address")
    return host


def _port(where: str, parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error
    if not port:
        raise UsageError(f"{where} has no port, and etcdctl assumes none either: {_EXAMPLE}")
    return port


def _refuse_duplicates(listeners: Sequence[Listener]) -> None:
    seen: dict[tuple[str, int], Listener] = {}
    for listener in listeners:
        first = seen.setdefault((listener.host, listener.port), listener)
        if first is listener:
            continue
        if first.role is not listener.role:
            raise UsageError(f"{listener.authority} is given as {first.role} and as {listener.role} listener")
        if first.scheme == listener.scheme:
            raise UsageError(f"{listener.url} is given twice as {listener.role} listener")


def _label(listeners: Sequence[Listener]) -> list[Listener]:
    """Make labels unique, for http and https on one port and for hosts that differ in replaced characters."""
    often = Counter(listener.label for listener in listeners)
    taken: set[str] = set()
    labelled = []
    for listener in listeners:
        label = listener.label
        if often[label] > 1 and listener.scheme == "http":
            label = f"{label}-http"
        label = unique(label, taken)
        taken.add(label)
        labelled.append(replace(listener, label=label))
    return labelled


def _connect_to(listeners: Sequence[Listener], rules: Sequence[ConnectTo], *, more: bool) -> list[Listener]:
    """Apply the first matching rule to each listener. With ``more``, a rule may match a later listener."""
    used: set[str] = set()
    result = []
    for listener in listeners:
        for rule in rules:
            if there := rule.redirected(listener.host, listener.port):
                used.add(rule.text)
                listener = replace(listener, connect_to=there)
                break
        result.append(listener)
    for rule in rules:
        if rule.text not in used and not more:
            raise UsageError(f"--etcd-connect-to {rule.text!r} matches none of the endpoints given")
    return result


_PLACE = r"(\[[0-9A-Fa-f:.%]+\]|[^:\[\]]*):(\d*)"


def _parse_connect_to(text: str) -> ConnectTo:
    match = re.fullmatch(f"{_PLACE}:{_PLACE}", text)
    if not match:
        raise UsageError(f"--etcd-connect-to {text!r}: HOST:PORT:ADDR:PORT, an IPv6 address in brackets")
    host, port, address, to_port = match.groups()
    ports = [int(number or 0) for number in (port, to_port)]
    if max(ports) > 65535:
        raise UsageError(f"--etcd-connect-to {text!r}: a port is at most 65535")
    return ConnectTo(
        text=text,
        host=host.strip("[]").lower(),
        port=ports[0],
        to_host=address.strip("[]"),
        to_port=ports[1],
    )


_DOCUMENTATION_ADDRESSES = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""Documentation addresses (RFC 5737, RFC 3849), which no machine has."""


def own_hosts(hosts: Iterable[str]) -> frozenset[str]:
    """Return the hosts that are an address or the name of this machine, without DNS look-ups."""
    name = socket.gethostname()
    return frozenset(host for host in hosts if host == name or is_own(host))


def is_own(address: str) -> bool:
    """Return whether an IP address belongs to this machine; ``False`` for a name.

    Usually, only the machine's own addresses can be bound. If the system allows binding any address
    (``net.ipv4.ip_nonlocal_bind``, as used with keepalived), an address is the machine's own if it is also
    the source address of packets sent to it.
    """
    family = _family(address)
    if family is None:
        return False
    if _binds(family, _DOCUMENTATION_ADDRESSES[family]):
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
    """Return the source address of packets to an address. Connecting a datagram socket sends none."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerAddress:
    """How to connect to a declared listener from this machine.

    Attributes:
        declared: the listener.
        host: the host to connect to and to verify names against; ``None`` if it is not reachable.
        reason: why it is not reachable, and what to do; empty if it is reachable.
    """

    declared: DeclaredListener
    host: str | None = None
    reason: str = ""

    @property
    def port(self) -> int:
        """The port to connect to."""
        return self.declared.url.port


def listener_addresses(declaration: Declaration, own_addresses: Iterable[str]) -> tuple[ListenerAddress, ...]:
    """Return how to connect to each declared listener.

    A listener on the unspecified address is reached at the advertised address. A listener on loopback is
    reachable only if the member runs on this machine, which its advertised addresses show.

    Args:
        declaration: the declaration of one member.
        own_addresses: the addresses of this machine without loopback.
    """
    here = runs_here(declaration, own_addresses)
    return tuple(_address(listener, declaration, here) for listener in declared_listeners(declaration))


def runs_here(declaration: Declaration, own_addresses: Iterable[str]) -> bool:
    """Return whether the member runs on this machine, according to its advertised addresses.

    A member that advertises only loopback is assumed to run on this machine.
    """
    urls = [url for role in (Role.CLIENT, Role.PEER) for url in advertised(declaration, role)]
    own = set(own_addresses)
    return any(url.host in own for url in urls) or (bool(urls) and all(url.is_loopback for url in urls))


def _address(listener: DeclaredListener, declaration: Declaration, here: bool) -> ListenerAddress:
    url = listener.url
    if url.is_socket:
        return ListenerAddress(
            declared=listener, reason=f"{url} is a socket in the file system, which is not probed"
        )
    if url.is_wildcard:
        return _by_advertised(listener, declaration)
    if url.is_loopback and not here:
        return ListenerAddress(
            declared=listener,
            reason=f"{url} is declared on loopback, and no advertised address is one of this machine's: run "
            "pytest there",
        )
    return ListenerAddress(declared=listener, host=url.host)


def _by_advertised(listener: DeclaredListener, declaration: Declaration) -> ListenerAddress:
    """Return how to connect to a listener on the unspecified address."""
    roles = (Role.PEER, Role.CLIENT) if listener.role is Role.PEER else (Role.CLIENT, Role.PEER)
    for role in roles:
        for url in advertised(declaration, role):
            if not url.is_wildcard:
                return ListenerAddress(declared=listener, host=url.host)
    return ListenerAddress(
        declared=listener,
        reason=f"{listener.url} is every address of a machine that is not named: pass its URL",
    )
