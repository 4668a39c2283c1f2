"""Discovery: the listeners at the URLs that a member list advertises, and other addresses of the members.

A listener that is declared on loopback is tried at the addresses that its member advertises. With
``--etcd-discover`` etcd's usual ports are tried on the hosts of the member list. Each address gets one
connection without a certificate. An address that ``--etcd-connect-to`` redirects, or that may be this
machine's instead of the member's, is not tried.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from functools import partial
from typing import Annotated, Literal

from msgspec import Struct

from pytest_etcdtls.declared.declaration import (
    DeclaredListener,
    DeclaredMember,
    advertised,
    declared_listeners,
    is_address,
    is_loopback,
)
from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError, Reason, UnobservedError, missing
from pytest_etcdtls.facts.access import ServedClient
from pytest_etcdtls.facts.api import Metrics
from pytest_etcdtls.facts.certificates import PathToTrust, ServerProof
from pytest_etcdtls.facts.fact import Each, Lazy, Planned, Wire, Work, fact
from pytest_etcdtls.facts.listener import UnnamedPorts, version_path
from pytest_etcdtls.facts.member_list import (
    BY_GATEWAY,
    Endpoint,
    LocalURLError,
    MemberListing,
    MemberRecord,
    canonical,
    endpoint_of,
    parse,
    reported_member,
)
from pytest_etcdtls.facts.refusal import is_of_etcd
from pytest_etcdtls.role import Protocol, Role
from pytest_etcdtls.target import (
    ConnectTo,
    Listener,
    Target,
    entered_process,
    safe,
    unique,
)
from pytest_etcdtls.tls.attempt import Attempt, Ending, Request
from pytest_etcdtls.tls.connection import addresses_of, why_not_contacted
from pytest_etcdtls.untrusted.printable import NAME_LIMIT, printable


class Reachability(StrEnum):
    """Whether an advertised URL is judged, and if not, why."""

    NAMED = "named"
    """It is a listener that the user named, or leads to one."""
    FOUND = "found"
    """It was discovered and is judged."""
    NOWHERE = "nowhere"
    """It does not lead to the member: not a URL of a TCP port, or not an address of one machine."""
    LOCAL = "local"
    """It leads to the member only on the member's own machine."""
    SHARED = "shared"
    """Another member advertises it as well."""
    LEFT_OUT = "left out"
    """It is not judged because of a limit or a setting of this run."""


class QueriedBy(StrEnum):
    """The API by which a listener is asked for the member list."""

    GRPC = "gRPC"
    GATEWAY = "the JSON gateway"
    MEMBERS = "/members"


JUDGED = frozenset({Reachability.NAMED, Reachability.FOUND})
"""The values for URLs whose listeners are judged."""

_SYSTEM_PORTS = 1024
"""The first port that is not one of the system's (RFC 6335 section 6)."""

_SHOWN = 9
"""Maximum number of members named in a sentence."""


class MemberURL(Struct, frozen=True, kw_only=True):
    """A URL that a member advertises, and whether it is judged.

    Attributes:
        url: as the member advertises it, shortened and without terminal control characters.
        role: of the listener that it advertises: ``client`` or ``peer``.
        listener: label of the listener that is judged for it, empty if none is.
        why: why it is not judged; if it is judged under another URL, that URL.
    """

    url: str
    role: str
    reachability: Reachability
    listener: str = ""
    why: str = ""


class DiscoveredMember(Struct, frozen=True, kw_only=True):
    """A member as the cluster lists it.

    Attributes:
        id: the member ID, in lower-case hexadecimal without leading zeros.
        name: shortened; empty until the member has been started.
        learner: it has no vote yet.
        started: it has published its name or its client URLs.
        urls: the client and peer URLs that it advertises.
    """

    id: str
    name: str
    learner: bool
    started: bool
    urls: tuple[MemberURL, ...]

    @property
    def title(self) -> str:
        """Its name, else its ID."""
        return self.name or self.id

    def of_role(self, role: str) -> tuple[MemberURL, ...]:
        """Return the URLs that it advertises for that role."""
        return tuple(url for url in self.urls if url.role == role)


class Question(Struct, frozen=True, kw_only=True):
    """One listener that was asked for the member list.

    Attributes:
        why_not: why it returned none, empty if it returned one.
    """

    listener: Listener
    api: QueriedBy
    why_not: Reason | str = ""


class Discovery(Struct, frozen=True, kw_only=True):
    """The members that the cluster lists, and which of their URLs are judged.

    Attributes:
        questions: in the order in which they were asked; only the last one can have been answered.
        members: of the list; empty if no listener returned one.
        beyond: number of further members in the list, which are ignored.
        unused_rules: rules of ``--etcd-connect-to`` that match none of the listeners.
    """

    questions: tuple[Question, ...]
    members: tuple[DiscoveredMember, ...] = ()
    beyond: int = 0
    unused_rules: tuple[str, ...] = ()

    @property
    def source(self) -> Question | None:
        """The question that the list answers; ``None`` if no listener returned a list."""
        return self.questions[-1] if self.members else None

    def describe(self) -> str:
        """Return the members and the source of the list: ``2 members, by gRPC of https://...: m0, m1``."""
        if self.source is None:
            return "no endpoint returned the member list"
        number = len(self.members) + self.beyond
        names = [
            f"{member.title}{' (learner)' if member.learner else ''}" for member in self.members[:_SHOWN]
        ]
        others = [f"and {number - _SHOWN} more"] if number > _SHOWN else []
        plural = "s" if number > 1 else ""
        listed = ", ".join([*names, *others])
        return f"{number} member{plural}, by {self.source.api} of {self.source.listener.url}: {listed}"


MOST_MEMBERS = 100
"""Maximum number of members of a list that are considered."""

MOST_LISTENERS = 2 * MOST_MEMBERS
"""Maximum number of listeners added, so that a list of thousands cannot make a run endless."""

_LOCALHOST = frozenset({"127.0.0.1", "::1"})


class HostAddresses:
    """Returns the addresses of hosts; resolves each name once, and a limited number of names."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._known: dict[str, frozenset[str]] = {"localhost": _LOCALHOST}

    def __call__(self, host: str) -> frozenset[str]:
        """Return the addresses of a host, empty if they are not known."""
        if is_address(host):
            return frozenset({canonical(host)})
        if host not in self._known:
            resolve = len(self._known) <= 2 * MOST_LISTENERS
            self._known[host] = addresses_of(host, self._seconds) if resolve else frozenset()
        return self._known[host]


@fact(reported=False)
def host_addresses(work: Work) -> HostAddresses:
    """Return what resolves the names of hosts, each within the time of an attempt."""
    return HostAddresses(work.timeout)


def listed_listener(
    role: Role,
    endpoint: Endpoint,
    named: Sequence[Listener],
    rules: Iterable[ConnectTo],
    *,
    may_be_local: bool,
) -> Listener:
    """Return the listener of a URL in a member list, which is reached as the named ones are."""
    process = entered_process(named)
    redirects = (rule.redirected(endpoint.host, endpoint.port) for rule in rules)
    return Listener(
        role=role,
        scheme=endpoint.scheme,
        host=endpoint.host,
        port=endpoint.port,
        member=endpoint.host,
        label=f"advertised-{endpoint.host.replace(':', '.')}-{endpoint.port}",
        connect_to=next(filter(None, redirects), None),
        via=next((listener.via for listener in named), None),
        process=process,
        in_its_network=process is not None,
        discovered=True,
        may_be_local=may_be_local,
    )


class URLResolver:
    """Finds the listeners of the URLs in a member list, member by member.

    Args:
        named: the listeners that the user named, with the labels of their members.
        rules: of ``--etcd-connect-to``.
        member_ids: IDs of the members that named listeners belong to, by label.
        records: the members that the list has.
        addresses: returns the addresses of a host, empty if they are not known.

    Attributes:
        listeners: those that the user named, then those that were discovered.
        client_urls: the result for each client URL, by the text that the members advertise.
    """

    def __init__(
        self,
        named: Sequence[Listener],
        rules: Sequence[ConnectTo],
        member_ids: Mapping[str, str],
        records: Sequence[MemberRecord],
        addresses: Callable[[str], frozenset[str]],
    ) -> None:
        self.listeners: list[Listener] = list(named)
        self.client_urls: dict[str, MemberURL] = {}
        self._rules = rules
        self._titles = {record.id: printable(record.name, NAME_LIMIT) for record in records}
        self._peers = peer_ports(records)
        self._named = frozenset(listener.label for listener in named)
        self._addresses = addresses
        self._at_endpoint = {endpoint_of(listener): listener for listener in named}
        self._first: dict[Endpoint, tuple[str, Role]] = {}
        self._member_ids = dict(member_ids)
        self._hosts = frozenset(canonical(listener.host) for listener in named)
        self._on_loopback = any(listener.is_local for listener in named)

    @property
    def unused_rules(self) -> Iterator[str]:
        """The rules that match none of the listeners, as the user wrote them."""
        for rule in self._rules:
            if not any(rule.redirected(listener.host, listener.port) for listener in self.listeners):
                yield rule.text

    def member(self, record: MemberRecord, label: str) -> DiscoveredMember:
        """Return a member with the result for each of its URLs.

        Args:
            record: of the member list.
            label: of the member.
        """
        clients = {url: self._resolve(record.id, label, Role.CLIENT, url) for url in record.client_urls}
        peers = {url: self._resolve(record.id, label, Role.PEER, url) for url in record.peer_urls}
        self.client_urls |= clients | self.client_urls
        return DiscoveredMember(
            id=record.id,
            name=printable(record.name, NAME_LIMIT),
            learner=record.learner,
            started=bool(record.name or record.client_urls),
            urls=(*clients.values(), *peers.values()),
        )

    def _resolve(self, identifier: str, member: str, role: Role, url: str) -> MemberURL:
        try:
            endpoint = parse(url)
        except LocalURLError as error:
            return _member_url(url, role, Reachability.LOCAL, str(error))
        except ValueError as error:
            return _member_url(url, role, Reachability.NOWHERE, str(error))
        peer = self._peers.get((endpoint.host, endpoint.port))
        if peer and role is Role.CLIENT and endpoint not in self._at_endpoint:
            why = f"it is the peer port of {self._title(peer.id)}"
            return _member_url(url, role, Reachability.NOWHERE, why)
        first, its_role = self._first.setdefault(endpoint, (identifier, role))
        if first != identifier:
            return _member_url(url, role, Reachability.SHARED, f"{self._title(first)} advertises it as well")
        if its_role is not role:
            why = "it is advertised to clients as well, and judged as a client listener"
            return _member_url(url, role, Reachability.NOWHERE, why)
        candidate = self._candidate(role, endpoint, member)
        if is_loopback(endpoint.host) and not (self._on_loopback or candidate.is_forwarded):
            why = "it leads back to the client, and the given endpoints are elsewhere"
            return _member_url(url, role, Reachability.LOCAL, why)
        return self._add(identifier, url, endpoint, candidate)

    def _add(self, identifier: str, url: str, endpoint: Endpoint, candidate: Listener) -> MemberURL:
        """Add the listener that a URL leads to, unless it is judged already for another member."""
        role = candidate.role
        listener = self._at_endpoint.get(endpoint) or next(
            (known for known in self.listeners if self._leads_to(known, candidate)), candidate
        )
        if listener is candidate:
            if is_loopback(endpoint.host) and endpoint.port < _SYSTEM_PORTS and not candidate.is_forwarded:
                why = f"a port below {_SYSTEM_PORTS} of this machine is that of another program"
                return _member_url(url, role, Reachability.LOCAL, why)
            if len(self.listeners) - len(self._named) >= MOST_LISTENERS:
                why = f"{MOST_LISTENERS} listeners are added at most"
                return _member_url(url, role, Reachability.LEFT_OUT, why)
            self.listeners.append(candidate)
            self._at_endpoint[endpoint] = candidate
        known_id = self._member_ids.setdefault(listener.label, identifier)
        if known_id != identifier:
            why = f"from here it leads to {listener.url} of {self._title(known_id)}"
            return _member_url(url, role, Reachability.LEFT_OUT, why)
        reachability = Reachability.NAMED if listener.label in self._named else Reachability.FOUND
        same = (canonical(listener.host), listener.port) == (endpoint.host, endpoint.port)
        why = "" if same else f"judged as {listener.url}"
        return _member_url(url, role, reachability, why, listener.label)

    def _title(self, identifier: str) -> str:
        return self._titles.get(identifier) or f"member {identifier}"

    def _candidate(self, role: Role, endpoint: Endpoint, member: str) -> Listener:
        label = f"{role}-{safe(endpoint.host)}-{endpoint.port}"
        taken = {listener.label for listener in self.listeners}
        if endpoint.scheme == "http" and label in taken and f"{label}-http" not in taken:
            label = f"{label}-http"
        may_be_local = self._on_loopback or endpoint.host in self._hosts
        at = listed_listener(role, endpoint, self.listeners, self._rules, may_be_local=may_be_local)
        return replace(at, member=member, label=unique(label, taken))

    def _leads_to(self, known: Listener, candidate: Listener) -> bool:
        """Whether a candidate with another URL certainly leads to a known listener."""
        (host, port), (other_host, other_port) = known.address, candidate.address
        if (known.role, known.scheme, port) != (candidate.role, candidate.scheme, other_port):
            return False
        if known.label not in self._named and not (known.connect_to or candidate.connect_to):
            return False
        return canonical(host) == canonical(other_host) or (
            known.label in self._named
            and not (is_address(host) and is_address(other_host))
            and _is_same_machine(self._addresses(host), self._addresses(other_host))
        )


def _member_url(url: str, role: Role, reachability: Reachability, why: str, listener: str = "") -> MemberURL:
    return MemberURL(
        url=printable(url, NAME_LIMIT), role=role, reachability=reachability, listener=listener, why=why
    )


def _is_same_machine(addresses: frozenset[str], others: frozenset[str]) -> bool:
    """Whether the addresses of two hosts are certainly those of one machine."""
    if len(addresses) == len(others) == 1:
        return addresses == others
    # A name with several addresses may lead to several machines, unless all of them are loopback.
    return bool(addresses & others) and all(is_loopback(address) for address in addresses | others)


_LONGEST = 63
"""Maximum length of a name that is used as a label."""


def member_ids(
    target: Target, records: Sequence[MemberRecord], reported_id: Callable[[Listener], str]
) -> dict[str, str]:
    """Return the IDs of the members that named listeners belong to, by label, as far as they are known.

    Args:
        target: with the listeners that the user named.
        records: of the member list; empty if none is known.
        reported_id: returns the ID that the member behind a listener reports, empty if it reports none. It is
            called for listeners whose URL no member advertises.
    """
    advertised = _advertised(records)
    ids: dict[str, str] = {}
    for listener in target.listeners:
        claimed = advertised.get(endpoint_of(listener), set())
        if len(claimed) == 1:
            ids[listener.label] = next(iter(claimed))
        elif own_id := reported_id(listener) or (records[0].id if len(records) == 1 else ""):
            ids[listener.label] = own_id
    return ids


def labelled(
    target: Target, records: Sequence[MemberRecord], ids: Mapping[str, str]
) -> tuple[tuple[Listener, ...], dict[str, str]]:
    """Return the named listeners, each with the label of its member, and the label of each member by ID.

    A member has the label of its declaration, else its name. Where it has no name, or shares it, its named
    listeners keep their label, unless several members have that label, as on a machine that runs them all.
    Without a named listener it is then labelled by its ID.

    Args:
        target: with the listeners that the user named.
        records: of the member list.
        ids: from :func:`member_ids`.
    """
    groups: dict[str, set[str]] = defaultdict(set)
    for listener in target.listeners:
        groups[listener.member] |= {ids[listener.label]} if listener.label in ids else set()
    only_ids = {label: next(iter(group)) for label, group in groups.items() if len(group) == 1}
    names = [safe(record.name) for record in records]
    usable = {
        record.id: name
        for record, name in zip(records, names, strict=True)
        if name and names.count(name) == 1 and name not in groups and len(name) <= _LONGEST
    }
    labels: dict[str, str] = {}
    for label, identifier in only_ids.items():
        labels.setdefault(identifier, label if label in target.declared else usable.get(identifier, label))
    for identifier in (*(record.id for record in records), *ids.values()):
        labels.setdefault(identifier, usable.get(identifier, identifier))

    def with_label(listener: Listener) -> Listener:
        identifier = ids.get(listener.label) or only_ids.get(listener.member)
        # The declaration of a member is found by its label, which is kept.
        if identifier is None or listener.member in target.declared:
            return listener
        return replace(listener, member=labels[identifier])

    return tuple(map(with_label, target.listeners)), labels


def peer_ports(records: Iterable[MemberRecord]) -> dict[tuple[str, int], MemberRecord]:
    """Return the host and port of each peer URL in a member list, with the first member that has it."""
    ports: dict[tuple[str, int], MemberRecord] = {}
    for record in records:
        for url in record.peer_urls:
            with suppress(ValueError):
                endpoint = parse(url)
                ports.setdefault((endpoint.host, endpoint.port), record)
    return ports


def _advertised(records: Sequence[MemberRecord]) -> dict[Endpoint, set[str]]:
    """Return by endpoint the IDs of the members that advertise its URL."""
    advertised_by: dict[Endpoint, set[str]] = defaultdict(set)
    for record in records:
        for url in (*record.client_urls, *record.peer_urls):
            with suppress(ValueError):
                advertised_by[parse(url)].add(record.id)
    return advertised_by


class NamedMembers(Struct, frozen=True):
    """The listeners that the user named, each with the label of its member.

    A host is not a member: one machine may run several, and a member has several addresses and names.
    """

    listeners: tuple[Listener, ...]


def has_unclear_members(target: Target) -> bool:
    """Return whether the hosts of a live target's listeners may not be its members.

    Several hosts may be one member, and several listeners of one role on a host several members. Declared
    listeners have the label of their member.
    """
    named = [listener for listener in target.listeners if listener.member not in target.declared]
    several = len({one.member for one in named}) > 1 or len({one.role for one in named}) < len(named)
    return target.live and not target.discover and several


@fact(reported=False)
def named_members(
    target: Target, lists: Each[MemberListing], clients: Each[ServedClient], metrics: Metrics
) -> NamedMembers:
    """Return the named listeners with the labels of the members whose IDs they report."""
    listing = [listener for listener in target.listeners if listener.role in (Role.CLIENT, Role.PEER)]
    known = (lists.known(listener) for listener in listing)
    records = next((listing.members for listing in known if listing is not None), ())
    ids = member_ids(target, records, partial(reported_member, clients, metrics))
    return NamedMembers(labelled(target, records, ids)[0])


_APIS: tuple[tuple[QueriedBy, str | None, frozenset[Role]], ...] = (
    (QueriedBy.GRPC, None, frozenset({Role.CLIENT})),
    (QueriedBy.GATEWAY, BY_GATEWAY, frozenset({Role.CLIENT, Role.CLIENT_HTTP})),
    (QueriedBy.MEMBERS, None, frozenset({Role.PEER})),
)
"""The APIs in the order in which they are tried: the API, the key of the listing, the listeners."""


class Discovered(Struct, frozen=True):
    """The discovery, and the listeners that are judged because of it.

    Attributes:
        listeners: those that the user named, then those that were discovered.
        client_urls: the result for each client URL, by the text that the members advertise.
    """

    discovery: Discovery
    listeners: tuple[Listener, ...]
    client_urls: Mapping[str, MemberURL]


@fact
def discovery(discovered: Discovered) -> Discovery:
    """Return the members that the cluster lists."""
    return discovered.discovery


def _by_either_api(_: Planned) -> tuple[str | None, ...]:
    return None, BY_GATEWAY


MemberListsByAPI = Each[Annotated[MemberListing, _by_either_api]]


@fact(reported=False)
def discovered(
    target: Target,
    paths: Each[PathToTrust],
    lists: MemberListsByAPI,
    clients: Each[ServedClient],
    metrics: Metrics,
    addresses: HostAddresses,
) -> Discovered:
    """Follow the first member list that a trusted listener returns."""
    if not target.discover:
        raise NotApplicableError(_only_with("the members are asked for"))
    questions, records = _ask(target, paths, lists)
    followed = sorted(records, key=lambda record: (not record.name, record.name, record.id))[:MOST_MEMBERS]
    ids: dict[str, str] = {}
    if followed:
        ids = member_ids(target, followed, partial(reported_member, clients, metrics))
    listeners, labels = labelled(target, followed, ids)
    resolver = URLResolver(listeners, target.connect_to, ids, followed, addresses)
    members = tuple(resolver.member(record, labels[record.id]) for record in followed)
    discovery = Discovery(
        questions=tuple(questions),
        members=members,
        beyond=len(records) - len(followed),
        unused_rules=tuple(resolver.unused_rules) if members else (),
    )
    return Discovered(discovery, tuple(resolver.listeners), resolver.client_urls)


def _ask(
    target: Target, paths: Each[PathToTrust], lists: MemberListsByAPI
) -> tuple[list[Question], tuple[MemberRecord, ...]]:
    """Ask listeners until one returns a list, and return the questions and the list."""
    questions: list[Question] = []
    for api, key, roles in _APIS:
        for listener in target.listeners:
            if listener.role not in roles:
                continue
            try:
                _require_trust(listener, paths)
                members = lists.at(listener, key).members
                why_not: Reason | str = "" if members else "its list is empty"
            except UnobservedError as unobserved:
                members, why_not = (), unobserved.why
            questions.append(Question(listener=listener, api=api, why_not=why_not))
            if members:
                return questions, members
    return questions, ()


def _only_with(text: str) -> Reason:
    return missing(text, "--etcd-discover", ending=" only with --etcd-discover")


def _require_trust(listener: Listener, paths: Each[PathToTrust]) -> None:
    """Check that a listener passes ``cert.trusted``. The list of another one may lead anywhere.

    Raises:
        UnobservedError: if it does not pass, or that cannot be judged.
    """
    if listener.scheme == "http":
        raise NotVerifiedError(
            f"{listener.url} is plain HTTP, which anybody can answer: its list is not followed"
        )
    path = paths.at(listener)
    if path.error:
        raise NotVerifiedError(
            f"{listener.url} does not lead to {path.source}, see cert.trusted: its list is not followed"
        )


USUAL_PORTS = {
    2379: Role.CLIENT,
    2380: Role.PEER,
    2381: Role.METRICS,
    4001: Role.CLIENT,
    7001: Role.PEER,
}
"""Default ports of etcd, today and in its first releases, with their use."""


def _candidates(target: Target) -> Iterator[tuple[str, DeclaredListener, str]]:
    """Yield each member's loopback listeners, each with the hosts that the member advertises."""
    for label, declared_member in sorted(target.declared.items()):
        listeners = declared_listeners(declared_member.declaration)
        declared_at = {(declared.url.host, declared.url.port) for declared in listeners}
        for declared in listeners:
            if declared.url.is_loopback and not declared.url.is_socket:
                for host in _advertised_hosts(declared_member):
                    if (host, declared.url.port) not in declared_at:
                        yield label, declared, host


def _advertised_hosts(declared_member: DeclaredMember) -> Iterable[str]:
    urls = advertised(declared_member.declaration)
    return dict.fromkeys(url.host for url in urls if not (url.is_wildcard or url.is_socket))


class LoopbackAttempt(Struct, frozen=True, kw_only=True):
    """One connection to an address that a member advertises, at the port of a listener declared on loopback.

    Attributes:
        declared: the listener.
        address: IP address and port of the connection.
        attempt: without a certificate; plain HTTP where http is declared.
    """

    declared: DeclaredListener
    address: tuple[str, int]
    attempt: Attempt

    @property
    def answers(self) -> bool:
        """Whether the listener that is declared only on loopback answers at this address."""
        if not self.declared.url.secure:
            return self.attempt.answers_plaintext
        return self.attempt.ending is not Ending.UNCLEAR


class LoopbackElsewhere(Struct, frozen=True, kw_only=True):
    """Attempts at other addresses of listeners that are declared on loopback.

    Attributes:
        attempts: one for each address.
        not_tried: why other addresses were not tried, one sentence each.
    """

    attempts: tuple[LoopbackAttempt, ...] = ()
    not_tried: tuple[str, ...] = ()


@fact(connections=0, elsewhere=lambda target: len(list(_candidates(target))), reported=False)
def loopback_elsewhere(target: Target, addresses_of_host: HostAddresses, wire: Wire) -> LoopbackElsewhere:
    """Connect to the ports that are declared on loopback, at the addresses that the member advertises."""
    known = _known(target.listeners, target.declared.values(), addresses_of_host)
    requested: dict[tuple[str, int], tuple[DeclaredListener, Listener]] = {}
    not_tried: dict[str, None] = {}
    for member, declared, host in _candidates(target):
        url = declared.url
        mine = [listener for listener in target.listeners if listener.member == member]
        addresses = addresses_of_host(host)
        if addresses & addresses_of_host(url.host):
            continue
        here = any(listener.is_local for listener in mine)
        if why := _why_not(target, mine, host, url.port, addresses, here=here):
            not_tried[why] = None
            continue
        address = min(addresses)
        if (address, url.port) not in known | requested.keys():
            scheme: Literal["https", "http"] = "https" if url.secure else "http"
            other = _listener_at(declared.role, scheme, host, url.port, member, address)
            requested[address, url.port] = (declared, other)
    purpose = "a listener declared on loopback, elsewhere"
    tried = wire.attempt_elsewhere(*((other, _request(purpose, other)) for _, other in requested.values()))
    return LoopbackElsewhere(
        attempts=tuple(
            LoopbackAttempt(declared=declared, address=address, attempt=attempt)
            for (address, (declared, _)), attempt in zip(requested.items(), tried, strict=True)
        ),
        not_tried=tuple(not_tried),
    )


def _most_unnamed(target: Target) -> int:
    hosts = {listener.host for listener in target.listeners}
    return (len(USUAL_PORTS) + 1) * len(hosts) if target.discover else 0


@fact(connections=0, elsewhere=_most_unnamed)
def unnamed_ports(
    target: Target,
    discovered: Lazy[Discovered],
    addresses_of_host: HostAddresses,
    elsewhere: Lazy[LoopbackElsewhere],
    proofs: Each[ServerProof],
    wire: Wire,
) -> UnnamedPorts:
    """Try etcd's usual ports in plain HTTP on the hosts of the members that are judged."""
    if not target.discover:
        raise NotApplicableError(_only_with("listeners that were not named are looked for"))
    cluster = discovered.get()
    if cluster.discovery.source is None:
        raise NotVerifiedError(
            "no endpoint returned the member list, whose hosts are tried: see cluster.discovered"
        )
    labels = {
        url.listener
        for member in cluster.discovery.members
        for url in member.urls
        if url.reachability in JUDGED
    }
    listed = [listener for listener in target.listeners if listener.label in labels]
    known = _known(cluster.listeners, target.declared.values(), addresses_of_host)
    here = any(listener.is_local for listener in cluster.listeners)
    # What was tried because of declarations is not tried again.
    declared = elsewhere.known()
    already = {
        loopback.address: loopback.attempt
        for loopback in (declared.attempts if declared else ())
        if not loopback.declared.url.secure
    }
    requested: dict[tuple[str, int], Listener] = {}
    not_tried: dict[str, None] = {}
    for host in dict.fromkeys(listener.host for listener in listed):
        if why := _unproved(proofs, [listener for listener in listed if listener.host == host]):
            not_tried[f"no other address of {host} was tried, since {why}"] = None
            continue
        mine = [listener for listener in cluster.listeners if listener.host == host]
        addresses = addresses_of_host(host)
        for port, role in USUAL_PORTS.items():
            if why := _why_not(target, mine, host, port, addresses, here=here):
                not_tried[why] = None
            elif (address := min(addresses), port) not in known | already.keys() | requested.keys():
                requested[address, port] = _listener_at(role, "http", host, port, mine[0].member, address)
    purpose = "plain HTTP at a usual port"
    tried = wire.attempt_elsewhere(*((other, _request(purpose, other)) for other in requested.values()))
    # A metrics listener answers /health and not /version.
    healthy = [
        other
        for other, attempt in zip(requested.values(), tried, strict=True)
        if other.role is Role.METRICS and attempt.response is not None and is_of_etcd(attempt.response)
    ]
    version = Request(purpose="/version at a metrics port", plaintext=True, protocol=Protocol.HTTP1)
    versions = wire.attempt_elsewhere(*((other, version) for other in healthy))
    hosts = {address for listener in listed for address in addresses_of_host(listener.host)}
    return UnnamedPorts(
        tried=(
            *tried,
            *(attempt for (host, port), attempt in already.items() if host in hosts and port in USUAL_PORTS),
        ),
        not_tried=tuple(not_tried),
        metrics=frozenset(one.url for one in versions if one.response and one.response.status == _ABSENT),
    )


_ABSENT = 404


def _unproved(proofs: Each[ServerProof], listeners: Sequence[Listener]) -> str:
    """Return why no server at the listeners of a host has proved who it is; empty if one has."""
    why = ""
    for listener in listeners:
        if not listener.discovered:
            return ""
        try:
            proofs.at(listener)
        except UnobservedError as unobserved:
            why = str(unobserved)
        else:
            return ""
    return why


def _known(
    listeners: Iterable[Listener], members: Iterable[DeclaredMember], addresses_of_host: HostAddresses
) -> frozenset[tuple[str, int]]:
    """Return the addresses and ports of listeners of the target and of declared listeners."""
    known = {
        (address, listener.port)
        for listener in listeners
        if not listener.is_socket
        for address in addresses_of_host(listener.host)
    }
    for declared_member in members:
        for url in (declared.url for declared in declared_listeners(declared_member.declaration)):
            if url.is_socket:
                continue
            hosts = _advertised_hosts(declared_member) if url.is_wildcard else [url.host]
            known |= {(address, url.port) for host in hosts for address in addresses_of_host(host)}
    return frozenset(known)


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
    if any(listener.is_forwarded for listener in listeners) or any(
        rule.redirected(host, port) for rule in target.connect_to
    ):
        via = any(listener.via for listener in target.listeners)
        since = f"{'--etcd-via' if via else '--etcd-connect-to'} says how it is reached"
    elif not addresses:
        since = "its name was not resolved"
    else:
        reasons = (why_not_contacted(address, may_be_local=here) for address in sorted(addresses))
        since = next(filter(None, reasons), "")
    return f"no other address of {host} was tried, since {since}" if since else ""


def _listener_at(
    role: Role, scheme: Literal["https", "http"], host: str, port: int, member: str, address: str
) -> Listener:
    label = f"{role}-{safe(host)}-{port}"
    to = None if is_address(host) else (address, port)
    return Listener(role=role, scheme=scheme, host=host, port=port, member=member, label=label, connect_to=to)


def _request(purpose: str, listener: Listener) -> Request:
    # Of /health and /version, etcd serves both on a client port, the first alone on a metrics port, and the
    # second alone on a peer port.
    plaintext = listener.scheme == "http"
    path = "/health" if listener.role is Role.CLIENT and plaintext else version_path(listener.role)
    return Request(purpose=purpose, plaintext=plaintext, protocol=Protocol.HTTP1, path=path)
