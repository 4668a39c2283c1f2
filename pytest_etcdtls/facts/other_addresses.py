"""Addresses that are no listeners of the target, where etcd may answer nevertheless.

A listener that is declared on loopback is tried at the addresses that its member advertises. With
``--etcd-discover`` etcd's usual ports are tried on the hosts of the member list. Each address gets one
connection without a certificate. An address that is redirected (``--etcd-connect-to``), or that may be this
machine's instead of the member's, is not tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field
from typing import Literal

from pytest_etcdtls.address import is_address, is_loopback, no_machine
from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.declared.declaration import (
    DeclaredListener,
    DeclaredMember,
    advertised,
    declared_listeners,
)
from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError, UnobservedError
from pytest_etcdtls.facts.certificates import ServerProof
from pytest_etcdtls.facts.configuration import LoopbackAttempt, LoopbackElsewhere
from pytest_etcdtls.facts.discovery import JUDGED, Discovered
from pytest_etcdtls.facts.listener import UnnamedPorts, version_path
from pytest_etcdtls.facts.member_list import canonical
from pytest_etcdtls.facts.probe import Context, probe, sample
from pytest_etcdtls.facts.sample import SampleListener
from pytest_etcdtls.role import Protocol, Role
from pytest_etcdtls.target import Listener, Target, safe
from pytest_etcdtls.tls.attempt import Attempt, Ending, Phase, Request, StreamEnd
from pytest_etcdtls.tls.stream import addresses_of

USUAL_PORTS = {
    2379: Role.CLIENT,
    2380: Role.PEER,
    2381: Role.METRICS,
    4001: Role.CLIENT,
    7001: Role.PEER,
}
"""Default ports of etcd, today and in its first releases, with their use."""

_LOCALHOST = frozenset({"127.0.0.1", "::1"})


@dataclass(slots=True)
class _Names:
    """Resolves hosts, each once."""

    seconds: float
    known: dict[str, frozenset[str]] = field(default_factory=dict)

    def addresses(self, host: str) -> frozenset[str]:
        if is_address(host):
            return frozenset({canonical(host)})
        if host == "localhost":
            return _LOCALHOST
        if host not in self.known:
            self.known[host] = addresses_of(host, self.seconds)
        return self.known[host]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A loopback listener of a member, and a host that the member advertises."""

    member: str
    declared: DeclaredListener
    host: str


def _candidates(target: Target) -> Iterator[_Candidate]:
    for label, declared_member in sorted(target.declared.items()):
        listeners = declared_listeners(declared_member.declaration)
        declared_at = {(one.url.host, one.url.port) for one in listeners}
        for declared in listeners:
            if declared.url.is_loopback and not declared.url.is_socket:
                for host in _advertised_hosts(declared_member):
                    if (host, declared.url.port) not in declared_at:
                        yield _Candidate(label, declared, host)


def _advertised_hosts(declared_member: DeclaredMember) -> Iterable[str]:
    urls = [url for role in (Role.CLIENT, Role.PEER) for url in advertised(declared_member.declaration, role)]
    return dict.fromkeys(url.host for url in urls if not (url.is_wildcard or url.is_socket))


@probe(LoopbackElsewhere, reported=False, cost=0, elsewhere=lambda target: len(list(_candidates(target))))
def _loopback_elsewhere(context: Context) -> LoopbackElsewhere:
    target, names = context.target, _Names(context.timeout)
    known = _known(target.listeners, target.declared.values(), names)
    asked: dict[tuple[str, int], tuple[_Candidate, Listener]] = {}
    not_tried: dict[str, None] = {}
    for candidate in _candidates(target):
        url, host = candidate.declared.url, candidate.host
        mine = [listener for listener in target.listeners if listener.member == candidate.member]
        addresses = names.addresses(host)
        if addresses & names.addresses(url.host):
            continue
        here = any(is_loopback(listener.host) for listener in mine)
        if why := _why_not(target, mine, host, url.port, addresses, here=here):
            not_tried[why] = None
            continue
        address = min(addresses)
        if (address, url.port) not in known | asked.keys():
            scheme: Literal["https", "http"] = "https" if url.secure else "http"
            there = _address(candidate.declared.role, scheme, host, url.port, candidate.member, address)
            asked[address, url.port] = (candidate, there)
    tried = context.attempt_elsewhere(
        *(
            (there, _request("a listener declared on loopback, elsewhere", there))
            for _, there in asked.values()
        )
    )
    return LoopbackElsewhere(
        attempts=tuple(
            LoopbackAttempt(
                member=candidate.member, declared=candidate.declared, address=place, attempt=attempt
            )
            for (place, (candidate, _)), attempt in zip(asked.items(), tried, strict=True)
        ),
        not_tried=tuple(not_tried),
    )


def _most_unnamed(target: Target) -> int:
    hosts = {listener.host for listener in target.listeners}
    return len(USUAL_PORTS) * len(hosts) if target.discover else 0


@probe(
    UnnamedPorts,
    cost=0,
    needs=[Discovered, LoopbackElsewhere, ServerProof],
    elsewhere=_most_unnamed,
)
def _unnamed_ports(context: Context) -> UnnamedPorts:
    target = context.target
    if not target.discover:
        raise NotApplicableError("listeners that were not named are looked for only with --etcd-discover")
    found = context.get(Discovered)
    if found.discovery.source is None:
        raise NotVerifiedError(
            "no endpoint returned the member list, whose hosts are tried: see cluster.discovered"
        )
    labels = {url.listener for one in found.discovery.members for url in one.urls if url.fate in JUDGED}
    listed = [listener for listener in found.listeners if listener.label in labels]
    names = _Names(context.timeout)
    known = _known(found.listeners, target.declared.values(), names)
    here = any(is_loopback(listener.host) for listener in found.listeners)
    already = _tried_for_declarations(context)
    asked: dict[tuple[str, int], Listener] = {}
    not_tried: dict[str, None] = {}
    for host in dict.fromkeys(listener.host for listener in listed):
        if why := _unproved(context, [listener for listener in listed if listener.host == host]):
            not_tried[f"no other address of {host} was tried, since {why}"] = None
            continue
        mine = [listener for listener in found.listeners if listener.host == host]
        addresses = names.addresses(host)
        for port, role in USUAL_PORTS.items():
            if why := _why_not(target, mine, host, port, addresses, here=here):
                not_tried[why] = None
            elif (min(addresses), port) not in known | already.keys() | asked.keys():
                address = min(addresses)
                asked[address, port] = _address(role, "http", host, port, mine[0].member, address)
    tried = context.attempt_elsewhere(
        *((there, _request("plain HTTP at a usual port", there)) for there in asked.values())
    )
    hosts = {address for listener in listed for address in names.addresses(listener.host)}
    return UnnamedPorts(
        tried=(
            *tried,
            *(attempt for (host, port), attempt in already.items() if host in hosts and port in USUAL_PORTS),
        ),
        not_tried=tuple(not_tried),
    )


def _unproved(context: Context, listeners: Sequence[Listener]) -> str:
    """Return why a host of the member list is not looked at: nobody there has proved who it is."""
    why = ""
    for listener in listeners:
        if not listener.discovered:
            return ""
        try:
            context.get(ServerProof, listener=listener)
        except UnobservedError as unobserved:
            why = unobserved.reason
        else:
            return ""
    return why


def _tried_for_declarations(context: Context) -> dict[tuple[str, int], Attempt]:
    """Return the plain HTTP attempts made because of declarations, so that they are not repeated."""
    try:
        elsewhere = context.get(LoopbackElsewhere)
    except UnobservedError:
        return {}
    return {one.address: one.attempt for one in elsewhere.attempts if not one.declared.url.secure}


def _known(
    listeners: Iterable[Listener], declared: Iterable[DeclaredMember], names: _Names
) -> frozenset[tuple[str, int]]:
    """Return the addresses and ports of listeners of the target and of declared listeners."""
    found = {(address, one.port) for one in listeners for address in names.addresses(one.host)}
    for declared_member in declared:
        for one in declared_listeners(declared_member.declaration):
            if one.url.is_socket:
                continue
            hosts = _advertised_hosts(declared_member) if one.url.is_wildcard else [one.url.host]
            found |= {(address, one.url.port) for host in hosts for address in names.addresses(host)}
    return frozenset(found)


def _why_not(
    target: Target,
    listeners: Sequence[Listener],
    host: str,
    port: int,
    addresses: frozenset[str],
    *,
    here: bool,
) -> str:
    """Return why an address is not tried, empty if it is tried.

    Args:
        target: with the rules of ``--etcd-connect-to``.
        listeners: of the same member or host.
        host: of the address.
        port: of the address.
        addresses: of the host.
        here: the member's listeners on loopback are on this machine.
    """
    if any(listener.connect_to for listener in listeners) or any(
        rule.there(host, port) for rule in target.connect_to
    ):
        return f"no other address of {host} was tried, since --etcd-connect-to says how it is reached"
    if not addresses:
        return f"no other address of {host} was tried, since its name was not resolved"
    if any(is_loopback(address) for address in addresses) and not here:
        return f"no other address of {host} was tried, since it leads to this machine"
    for address in sorted(addresses):
        if why := no_machine(address.partition("%")[0]):
            return f"no other address of {host} was tried: {why}"
    return ""


def _address(
    role: Role, scheme: Literal["https", "http"], host: str, port: int, member: str, address: str
) -> Listener:
    label = f"{role}-{safe(host)}-{port}"
    to = None if is_address(host) else (address, port)
    return Listener(role=role, scheme=scheme, host=host, port=port, member=member, label=label, connect_to=to)


def _request(purpose: str, there: Listener) -> Request:
    # A client's port has both paths, a metrics port only the first, a peer's only the second.
    path = "/health" if there.role is Role.CLIENT and there.scheme == "http" else version_path(there.role)
    return Request(purpose=purpose, plaintext=there.scheme == "http", protocol=Protocol.HTTP1, path=path)


@sample(UnnamedPorts)
def _sample_ports(place: SampleListener) -> UnnamedPorts:
    refused = place.attempt(
        url="http://127.0.0.1:2381",
        identity="none",
        offered_version=None,
        ending=Ending.UNCLEAR,
        phase=Phase.CONNECT,
        stream_end=StreamEnd.CONNECTION_REFUSED,
        first_bytes=b"",
        response=None,
    )
    return UnnamedPorts(tried=(refused,))
