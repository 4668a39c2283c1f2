"""Endpoint URLs and the listeners that they name."""

from __future__ import annotations

import re
import shutil
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, cast
from urllib.parse import SplitResult, urlsplit

from pytest_etcdtls.declared.declaration import (
    Declaration,
    advertised,
    declared_listeners,
    is_address,
    reached_host,
)
from pytest_etcdtls.declared.effective import is_served
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.role import Role
from pytest_etcdtls.settings import Source, option
from pytest_etcdtls.target import Carrier, ConnectTo, Listener, Unreached, safe, unique
from pytest_etcdtls.tls.via import words_of
from pytest_etcdtls.untrusted.printable import is_host

if TYPE_CHECKING:
    from pytest_etcdtls.declared.running import Process

ROLES = {role.option.removeprefix("--").replace("-", "_"): role for role in Role}
"""The role of the listeners that each option names."""

_TLS_MATERIAL = (
    *("etcd_cacert", "etcd_cert", "etcd_peer_cacert", "etcd_peer_cert"),
    *("etcd_trusted_ca", "etcd_peer_trusted_ca", "etcd_pki_dir"),
)
_TLS_VARIABLES = ("ETCDCTL_CACERT", "ETCDCTL_CERT")

_CARRIERS_VARIABLES = ("KUBECONFIG", "SSH_AUTH_SOCK")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_EXAMPLE = "write it as etcdctl does, https://10.0.0.11:2379 or https://[fd00::11]:2379"


def read_named(source: Source) -> tuple[list[Listener], tuple[str, ...]]:
    """Return the listeners that options name, in the order of roles and then of the command line.

    A client or peer endpoint without a scheme is https if TLS credentials are given, as etcdctl takes it.
    Of each such endpoint the second value says so.

    Raises:
        UsageError: if a URL cannot be used.
    """
    with_tls = any(source.text(name) for name in _TLS_MATERIAL) or any(
        map(source.environment.get, _TLS_VARIABLES)
    )
    listeners, completed = [], []
    for name, role in ROLES.items():
        for text in source.texts(name, commas=True):
            if with_tls and role in (Role.CLIENT, Role.PEER) and _lacks_scheme(text):
                completed.append(f"{text} is read as https://{text}, as etcdctl does with TLS credentials")
                text = f"https://{text}"
            listeners.append(parse_endpoint(name, text, role))
    return listeners, tuple(completed)


def _lacks_scheme(text: str) -> bool:
    return bool(text) and "://" not in text


def complete(
    listeners: Sequence[Listener], rules: Sequence[ConnectTo], via: Carrier | None = None, *, may_grow: bool
) -> tuple[Listener, ...]:
    """Return all listeners with unique labels, with the addresses to connect to and the command that does.

    Args:
        listeners: those that are known.
        rules: of ``--etcd-connect-to``.
        via: what carries connections.
        may_grow: others may be discovered, which a rule may match.

    Raises:
        UsageError: if a listener is given twice, or a rule matches no listener.
    """
    _refuse_duplicates(listeners)
    used: set[str] = set()
    completed = []
    for listener in _label(listeners):
        for rule in rules:
            if there := rule.redirected(listener.host, listener.port):
                used.add(rule.text)
                listener = replace(listener, connect_to=there)
                break
        completed.append(replace(listener, via=via))
    for rule in rules:
        if rule.text not in used and not may_grow:
            raise UsageError(f"--etcd-connect-to {rule.text!r} matches none of the given endpoints")
    return tuple(completed)


def read_via(source: Source) -> Carrier | None:
    """Return the command of ``--etcd-via`` with the variables that it inherits, ``None`` without it.

    Raises:
        UsageError: if it is not a command, names no host and port, or its program is not there; if what
            it is to inherit is not the name of a variable.
    """
    command, variables = source.text("etcd_via"), source.texts("etcd_via_env", commas=True)
    for name in variables:
        if not command:
            raise UsageError(f"--etcd-via-env {name} is for the command of --etcd-via: pass that too")
        if not _VARIABLE.fullmatch(name):
            raise UsageError(f"--etcd-via-env {name!r} is not a variable name such as AWS_PROFILE")
    if not command:
        return None
    where = f"--etcd-via {command!r}"
    try:
        words = words_of(command, "{host}", 0)
    except ValueError as error:
        raise UsageError(f"{where} is not a valid shell command ({error}): correct its quotes") from error
    if not words or "{host}" not in command or "{port}" not in command:
        raise UsageError(
            f"{where} does not name {{host}} and {{port}}, as in --etcd-via='ssh -W {{host}}:{{port}} cp1'"
        )
    if shutil.which(words[0]) is None:
        raise UsageError(f"{where}: there is no program {words[0]}")
    return Carrier(command, (*_CARRIERS_VARIABLES, *variables))


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
    if "@" in text:  # what is before it may be a password, and is not shown
        raise UsageError(
            f"{option(name)} has a user or a password in its URL (before {text.rpartition('@')[2]!r}): "
            "use --etcd-user and --etcd-password-file"
        )
    where = f"{option(name)} {text!r}"
    parts = _split(where, text)
    host = _host(where, parts)
    port = _port(where, parts)
    scheme = cast("Literal['https', 'http']", parts.scheme)
    label = f"{role}-{safe(host)}-{port}"
    return Listener(role=role, scheme=scheme, host=host, port=port, member=safe(host), label=label)


def _split(where: str, text: str) -> SplitResult:
    if _lacks_scheme(text):
        flag = where.partition(" ")[0]
        raise UsageError(f"{where} has no scheme: pass {flag}=https://{text}, or {flag}=http://{text}")
    if not text:
        raise UsageError(f"{where} is empty: {_EXAMPLE}")
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise UsageError(f"{where} is not a URL ({error}): {_EXAMPLE}") from error
    if parts.scheme not in ("https", "http"):
        raise UsageError(f"{where}: the scheme is https or http, not {parts.scheme!r}")
    if parts.netloc.count(":") > 1 and "[" not in parts.netloc:
        raise UsageError(f"{where}: an IPv6 address is written in brackets: {_EXAMPLE}")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise UsageError(f"{where} has something after the port: an endpoint is only scheme, host and port")
    return parts


def _host(where: str, parts: SplitResult) -> str:
    host = re.sub(r"%25(?=.)", "%", parts.hostname or "", count=1)  # RFC 6874 section 2
    if not host:
        raise UsageError(f"{where} has no host: {_EXAMPLE}")
    if not is_host(host):
        names = "a host name (1 to 63 characters between dots, 253 at most) or an address"
        form = "an IPv6 address" if ":" in host else names
        raise UsageError(f"{where}: {host!r} is not {form}: correct it, and {_EXAMPLE}")
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


_PLACE = r"(\[[^\[\]]+\]|[^:\[\]]*):(\d*)"


def _parse_connect_to(text: str) -> ConnectTo:
    match = re.fullmatch(f"{_PLACE}:{_PLACE}", text)
    if not match:
        raise UsageError(f"--etcd-connect-to {text!r}: HOST:PORT:ADDR:PORT, an IPv6 address in brackets")
    host, port, address, to_port = match.groups()
    for name in (host, address):
        if name and not is_host(name.strip("[]")):
            raise UsageError(f"--etcd-connect-to {text!r}: {name!r} is not a host name or an address")
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


def is_own(address: str) -> bool:
    """Return whether an IP address belongs to this machine; ``False`` for a name.

    Usually, only the machine's own addresses can be bound. If the system allows binding any address
    (``net.ipv4.ip_nonlocal_bind``, as used with keepalived), an address is the machine's own if it is also
    the source address of packets sent to it.
    """
    if not is_address(address):
        return False
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if _binds(family, _DOCUMENTATION_ADDRESSES[family]):
        return _source(family, address) == address
    return _binds(family, address)


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


def runs_here(declaration: Declaration) -> bool:
    """Return whether the member runs on this machine: it advertises its name or address, or loopback alone.

    Names are compared with that of the machine, and not looked up.
    """
    urls, name = advertised(declaration), socket.gethostname()
    hosts = [url.host for url in urls if not (url.is_loopback or url.is_wildcard or url.is_socket)]
    return any(host == name or is_own(host) for host in hosts) or (
        bool(urls) and all(url.is_loopback for url in urls)
    )


def listeners_from_here(
    member: str, declaration: Declaration, *, here: bool, process: Process | None = None
) -> Iterator[Listener | Unreached]:
    """Yield each declared listener that etcd serves: how this machine reaches it, or why it cannot.

    A listener on the unspecified address is reached at the advertised address. A listener on loopback is
    reached only if the member runs on this machine.

    Args:
        member: label of the member.
        declaration: of the member.
        here: the member runs on this machine.
        process: that of the member, by way of which a Unix domain socket is reached.
    """
    for declared in declared_listeners(declaration):
        if not is_served(declared, declaration):
            continue
        side = Role.PEER if declared.role is Role.PEER else Role.CLIENT
        told = [other.host for other in advertised(declaration, side)]
        role, url, host = declared.role, declared.url, reached_host(declared, declaration)
        reason = ""
        if url.is_socket and not url.secure:
            reason = (
                f"{url} is a Unix domain socket without TLS: the mode of its file decides who may connect"
            )
        elif url.is_socket and process is None:
            reason = (
                f"{url} is a Unix domain socket, which is reached by way of its process: pass --etcd-pid on "
                "the member's machine"
            )
        elif url.is_socket:
            host = url.host
        elif not host:
            reason = f"{url} is a wildcard address, and nothing names the machine: pass the member's URL"
        elif url.is_loopback and not here:
            reason = (
                f"{url} is declared on loopback, and no advertised address belongs to this machine: run "
                "pytest on the member's machine"
            )
        if reason:
            yield Unreached(member=member, role=role, url=str(url), reason=reason)
            continue
        yield Listener(
            role=role,
            scheme="https" if url.secure else "http",
            host=host,
            port=url.port,
            member=member,
            label=f"{role}-{safe(host.strip('/'))}" + (f"-{url.port}" if url.port else ""),
            unannounced=not url.is_socket and host not in told,
        )
