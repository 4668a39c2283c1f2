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
from typing import Literal

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.declared.declaration import (
    DeclaredListener,
    DeclaredMember,
    advertised,
    declared_listeners,
)
from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError, UnobservedError
from pytest_etcdtls.facts.access import AcceptedClient
from pytest_etcdtls.facts.api import MemberRecord
from pytest_etcdtls.facts.certificates import PathToTrust, ServerProof
from pytest_etcdtls.facts.configuration import LoopbackAttempt, LoopbackElsewhere
from pytest_etcdtls.facts.listener import UnnamedPorts, version_path
from pytest_etcdtls.facts.member_list import (
    BY_GATEWAY,
    SAMPLE_MEMBERS,
    Endpoint,
    LocalURLError,
    MemberListing,
    canonical,
    member_id,
    parse,
)
from pytest_etcdtls.facts.probe import Context, SampleListener, observed, probe, sample
from pytest_etcdtls.role import Protocol, Role
from pytest_etcdtls.target import (
    ConnectTo,
    Listener,
    Target,
    is_address,
    is_loopback,
    no_machine,
    safe,
    unique,
)
from pytest_etcdtls.tls.attempt import Ending, Phase, Request, StreamEnd
from pytest_etcdtls.tls.connection import addresses_of
from pytest_etcdtls.untrusted import printable


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

_SHOWN = 9
"""Maximum number of members named in a sentence."""

_SHOWN_LENGTH = 80
"""Characters of a name or URL of a member list that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberURL:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveredMember:
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
        return tuple(found for found in self.urls if found.role == role)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One listener that was asked for the member list.

    Attributes:
        why_not: why it returned none, empty if it returned one.
    """

    url: str
    api: QueriedBy
    why_not: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
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
        more = [f"and {number - _SHOWN} more"] if number > _SHOWN else []
        plural = "s" if number > 1 else ""
        listed = ", ".join([*names, *more])
        return f"{number} member{plural}, by {self.source.api} of {self.source.url}: {listed}"


MOST_MEMBERS = 100
"""Maximum number of members of a list that are considered."""

MOST_LISTENERS = 2 * MOST_MEMBERS
"""Maximum number of listeners added, so that a list of thousands cannot make a run endless."""

_LOCALHOST = frozenset({"127.0.0.1", "::1"})


class _HostAddresses:
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


class URLResolver:
    """Finds the listeners of the URLs in a member list, member by member.

    Args:
        named: the listeners that the user named, with the labels of their members.
        rules: of ``--etcd-connect-to``.
        member_ids: IDs of the members that named listeners belong to, by label.
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
        addresses: Callable[[str], frozenset[str]],
    ) -> None:
        self.listeners: list[Listener] = list(named)
        self.client_urls: dict[str, MemberURL] = {}
        self._rules = rules
        self._named = frozenset(listener.label for listener in named)
        self._addresses = addresses
        self._at_endpoint = {Endpoint(one.scheme, canonical(one.host), one.port): one for one in named}
        self._first: dict[Endpoint, tuple[str, Role]] = {}
        self._member_ids = dict(member_ids)
        self._hosts = frozenset(canonical(listener.host) for listener in named)
        self._on_loopback = any(is_loopback(listener.host) for listener in named)

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
            name=printable(record.name, _SHOWN_LENGTH),
            learner=record.learner,
            started=bool(record.name or record.client_urls),
            urls=(*clients.values(), *peers.values()),
        )

    def _resolve(self, identifier: str, member: str, role: Role, url: str) -> MemberURL:
        try:
            endpoint = parse(url)
        except LocalURLError as error:
            return _not_judged(url, role, Reachability.LOCAL, str(error))
        except ValueError as error:
            return _not_judged(url, role, Reachability.NOWHERE, str(error))
        first, its_role = self._first.setdefault(endpoint, (identifier, role))
        if first != identifier:
            return _not_judged(url, role, Reachability.SHARED, f"member {first} advertises it as well")
        if its_role is not role:
            why = "it is advertised to clients and to peers, and judged as a client listener"
            return _not_judged(url, role, Reachability.LEFT_OUT, why)
        candidate = self._candidate(role, endpoint, member)
        if is_loopback(endpoint.host) and not (self._on_loopback or candidate.connect_to):
            why = "it leads back to the client, and the given endpoints are elsewhere"
            return _not_judged(url, role, Reachability.LOCAL, why)
        return self._add(identifier, url, endpoint, candidate)

    def _add(self, identifier: str, url: str, endpoint: Endpoint, candidate: Listener) -> MemberURL:
        """Add the listener that a URL leads to, unless it is judged already for another member."""
        role = candidate.role
        listener = self._at_endpoint.get(endpoint) or next(
            (known for known in self.listeners if self._leads_to(known, candidate)), candidate
        )
        if listener is candidate:
            if len(self.listeners) - len(self._named) >= MOST_LISTENERS:
                why = f"{MOST_LISTENERS} listeners are added at most"
                return _not_judged(url, role, Reachability.LEFT_OUT, why)
            self.listeners.append(candidate)
            self._at_endpoint[endpoint] = candidate
        known_id = self._member_ids.setdefault(listener.label, identifier)
        if known_id != identifier:
            why = f"from here it leads to {listener.url} of member {known_id}"
            return _not_judged(url, role, Reachability.LEFT_OUT, why)
        reachability = Reachability.NAMED if listener.label in self._named else Reachability.FOUND
        same = (canonical(listener.host), listener.port) == (endpoint.host, endpoint.port)
        why = "" if same else f"judged as {listener.url}"
        return MemberURL(
            url=printable(url, _SHOWN_LENGTH),
            role=role,
            reachability=reachability,
            listener=listener.label,
            why=why,
        )

    def _candidate(self, role: Role, endpoint: Endpoint, member: str) -> Listener:
        redirects = (rule.redirected(endpoint.host, endpoint.port) for rule in self._rules)
        label = f"{role}-{safe(endpoint.host)}-{endpoint.port}"
        taken = {listener.label for listener in self.listeners}
        if endpoint.scheme == "http" and label in taken and f"{label}-http" not in taken:
            label = f"{label}-http"
        return Listener(
            role=role,
            scheme=endpoint.scheme,
            host=endpoint.host,
            port=endpoint.port,
            member=member,
            label=unique(label, taken),
            connect_to=next(filter(None, redirects), None),
            discovered=True,
            may_be_local=self._on_loopback or endpoint.host in self._hosts,
        )

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


def _not_judged(url: str, role: Role, reachability: Reachability, why: str) -> MemberURL:
    return MemberURL(url=printable(url, _SHOWN_LENGTH), role=role, reachability=reachability, why=why)


def _is_same_machine(addresses: frozenset[str], others: frozenset[str]) -> bool:
    """Whether the addresses of two hosts are certainly those of one machine."""
    if len(addresses) == len(others) == 1:
        return addresses == others
    # A name with several addresses may lead to several machines, unless all of them are loopback.
    return bool(addresses & others) and all(is_loopback(address) for address in addresses | others)


_LONGEST = 63
"""Maximum length of a name that is used as a label."""


def member_ids(
    target: Target, records: Sequence[MemberRecord], reported_id: Callable[[Listener], str | None]
) -> dict[str, str]:
    """Return the IDs of the members that named listeners belong to, by label, as far as they are known.

    Args:
        target: with the listeners that the user named.
        records: of the member list.
        reported_id: returns the ID that the member behind a client listener reports, ``None`` if it reports
            none. It is called for listeners whose URL no member advertises.
    """
    if len(records) == 1:
        return {listener.label: records[0].id for listener in target.listeners}
    advertised = _advertised(records)
    known = {record.id for record in records}
    found: dict[str, str] = {}
    for listener in target.listeners:
        claimed = advertised.get(Endpoint(listener.scheme, canonical(listener.host), listener.port), set())
        if len(claimed) == 1:
            found[listener.label] = next(iter(claimed))
        elif listener.role is Role.CLIENT and (own_id := reported_id(listener)) and own_id in known:
            found[listener.label] = own_id
    return found


def labelled(
    target: Target, records: Sequence[MemberRecord], ids: Mapping[str, str]
) -> tuple[tuple[Listener, ...], dict[str, str]]:
    """Return the named listeners, each with the label of its member, and the label of each member by ID.

    Named listeners keep the label of their member, unless one label is that of several members, as on a
    machine that runs them all. A member without a named listener is labelled by its name, or by its
    ID where it has none or shares it.

    Args:
        target: with the listeners that the user named.
        records: of the member list.
        ids: from :func:`member_ids`.
    """
    groups: dict[str, set[str]] = defaultdict(set)
    for listener in target.listeners:
        groups[listener.member] |= {ids[listener.label]} if listener.label in ids else set()
    only_ids = {label: next(iter(found)) for label, found in groups.items() if len(found) == 1}
    labels: dict[str, str] = {}
    for label, identifier in only_ids.items():
        labels.setdefault(identifier, label)
    names = [safe(record.name) for record in records]
    for record, name in zip(records, names, strict=True):
        usable = name and names.count(name) == 1 and name not in groups and len(name) <= _LONGEST
        labels.setdefault(record.id, name if usable else record.id)

    def with_label(listener: Listener) -> Listener:
        identifier = ids.get(listener.label) or only_ids.get(listener.member)
        # The declaration of a member is found by its label, which is kept.
        if identifier is None or listener.member in target.declared:
            return listener
        return replace(listener, member=labels[identifier])

    return tuple(map(with_label, target.listeners)), labels


def _advertised(records: Sequence[MemberRecord]) -> dict[Endpoint, set[str]]:
    """Return by endpoint the IDs of the members that advertise its URL."""
    found: dict[Endpoint, set[str]] = defaultdict(set)
    for record in records:
        for url in (*record.client_urls, *record.peer_urls):
            with suppress(ValueError):
                found[parse(url)].add(record.id)
    return found


_APIS: tuple[tuple[QueriedBy, str | None, frozenset[Role]], ...] = (
    (QueriedBy.GRPC, None, frozenset({Role.CLIENT})),
    (QueriedBy.GATEWAY, BY_GATEWAY, frozenset({Role.CLIENT, Role.CLIENT_HTTP})),
    (QueriedBy.MEMBERS, None, frozenset({Role.PEER})),
)
"""The APIs in the order in which they are tried: the API, the key of the listing, the listeners."""


@dataclass(frozen=True, slots=True)
class Discovered:
    """The discovery, and the listeners that are judged because of it.

    Attributes:
        listeners: those that the user named, then those that were discovered.
        client_urls: the result for each client URL, by the text that the members advertise.
    """

    discovery: Discovery
    listeners: tuple[Listener, ...]
    client_urls: Mapping[str, MemberURL]


def judged_for(context: Context, url: str) -> Listener | None:
    """Return the listener that is judged for a client URL, ``None`` if none is."""
    found = context.get(Discovered).client_urls.get(url)
    label = found.listener if found else None
    return next((listener for listener in context.target.listeners if listener.label == label), None)


def why_left_out(context: Context, url: str) -> str:
    """Return why no listener is judged for a client URL."""
    found = context.get(Discovered).client_urls.get(url)
    return found.why if found else "the member list that was followed does not have it"


@probe(Discovery, cost=0, needs=[Discovered])
def _discovery(context: Context) -> Discovery:
    return context.get(Discovered).discovery


@probe(
    Discovered,
    reported=False,
    cost=0,
    needs=[PathToTrust, MemberListing, (MemberListing, BY_GATEWAY), AcceptedClient],
)
def _discovered(context: Context) -> Discovered:
    target = context.target
    if not target.discover:
        raise NotApplicableError("the members are asked for only with --etcd-discover")
    questions, records = _ask(context)
    followed = sorted(records, key=lambda record: (not record.name, record.name, record.id))[:MOST_MEMBERS]
    ids = member_ids(target, followed, lambda listener: member_id(context, listener)) if followed else {}
    listeners, labels = labelled(target, followed, ids)
    resolver = URLResolver(listeners, target.connect_to, ids, _HostAddresses(context.timeout))
    members = tuple(resolver.member(record, labels[record.id]) for record in followed)
    discovery = Discovery(
        questions=tuple(questions),
        members=members,
        beyond=len(records) - len(followed),
        unused_rules=tuple(resolver.unused_rules) if members else (),
    )
    return Discovered(discovery, tuple(resolver.listeners), resolver.client_urls)


def _ask(context: Context) -> tuple[list[Question], tuple[MemberRecord, ...]]:
    """Ask listeners until one returns a list, and return the questions and the list."""
    questions: list[Question] = []
    listeners = context.target.listeners
    for api, key, listener in (
        (a, k, one) for a, k, roles in _APIS for one in listeners if one.role in roles
    ):
        try:
            _require_trust(context, listener)
            members = context.get(MemberListing, key, listener).members
            why_not = "" if members else "its list is empty"
        except UnobservedError as unobserved:
            members, why_not = (), unobserved.reason
        questions.append(Question(url=listener.url, api=api, why_not=why_not))
        if members:
            return questions, members
    return questions, ()


def _require_trust(context: Context, listener: Listener) -> None:
    """Check that a listener passes ``cert.trusted``. The list of another one may lead anywhere.

    Raises:
        UnobservedError: if it does not pass, or that cannot be judged.
    """
    if listener.scheme == "http":
        raise NotVerifiedError(
            f"{listener.url} is plain HTTP, which anybody can answer: its list is not followed"
        )
    path = context.get(PathToTrust, listener=listener)
    if path.error:
        raise NotVerifiedError(
            f"{listener.url} does not lead to {path.source}, see cert.trusted: its list is not followed"
        )


def _sample_member(member: MemberRecord) -> DiscoveredMember:
    urls = [(Role.CLIENT, url) for url in member.client_urls] + [(Role.PEER, url) for url in member.peer_urls]
    return DiscoveredMember(
        id=member.id,
        name=member.name,
        learner=False,
        started=True,
        urls=tuple(
            MemberURL(url=url, role=role, reachability=Reachability.FOUND, listener=f"{role}-{member.name}")
            for role, url in urls
        ),
    )


@sample(Discovery)
def _sample_discovery(_: SampleListener) -> Discovery:
    return Discovery(
        questions=(Question(url=SAMPLE_MEMBERS[0].client_urls[0], api=QueriedBy.GRPC),),
        members=tuple(_sample_member(member) for member in SAMPLE_MEMBERS),
    )


USUAL_PORTS = {
    2379: Role.CLIENT,
    2380: Role.PEER,
    2381: Role.METRICS,
    4001: Role.CLIENT,
    7001: Role.PEER,
}
"""Default ports of etcd, today and in its first releases, with their use."""


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
    target, addresses_of_host = context.target, _HostAddresses(context.timeout)
    known = _known(target.listeners, target.declared.values(), addresses_of_host)
    requested: dict[tuple[str, int], tuple[_Candidate, Listener]] = {}
    not_tried: dict[str, None] = {}
    for candidate in _candidates(target):
        url, host = candidate.declared.url, candidate.host
        mine = [listener for listener in target.listeners if listener.member == candidate.member]
        addresses = addresses_of_host(host)
        if addresses & addresses_of_host(url.host):
            continue
        here = any(is_loopback(listener.host) for listener in mine)
        if why := _why_not(target, mine, host, url.port, addresses, here=here):
            not_tried[why] = None
            continue
        address = min(addresses)
        if (address, url.port) not in known | requested.keys():
            scheme: Literal["https", "http"] = "https" if url.secure else "http"
            other = _listener_at(candidate.declared.role, scheme, host, url.port, candidate.member, address)
            requested[address, url.port] = (candidate, other)
    purpose = "a listener declared on loopback, elsewhere"
    tried = context.attempt_elsewhere(*((one, _request(purpose, one)) for _, one in requested.values()))
    return LoopbackElsewhere(
        attempts=tuple(
            LoopbackAttempt(
                member=candidate.member, declared=candidate.declared, address=address, attempt=attempt
            )
            for (address, (candidate, _)), attempt in zip(requested.items(), tried, strict=True)
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
    labels = {
        url.listener for one in found.discovery.members for url in one.urls if url.reachability in JUDGED
    }
    listed = [listener for listener in found.listeners if listener.label in labels]
    addresses_of_host = _HostAddresses(context.timeout)
    known = _known(found.listeners, target.declared.values(), addresses_of_host)
    here = any(is_loopback(listener.host) for listener in found.listeners)
    # What was tried because of declarations is not tried again.
    elsewhere = observed(context, LoopbackElsewhere)
    already = {
        one.address: one.attempt
        for one in (elsewhere.attempts if elsewhere else ())
        if not one.declared.url.secure
    }
    requested: dict[tuple[str, int], Listener] = {}
    not_tried: dict[str, None] = {}
    for host in dict.fromkeys(listener.host for listener in listed):
        if why := _unproved(context, [listener for listener in listed if listener.host == host]):
            not_tried[f"no other address of {host} was tried, since {why}"] = None
            continue
        mine = [listener for listener in found.listeners if listener.host == host]
        addresses = addresses_of_host(host)
        for port, role in USUAL_PORTS.items():
            if why := _why_not(target, mine, host, port, addresses, here=here):
                not_tried[why] = None
            elif (address := min(addresses), port) not in known | already.keys() | requested.keys():
                requested[address, port] = _listener_at(role, "http", host, port, mine[0].member, address)
    purpose = "plain HTTP at a usual port"
    tried = context.attempt_elsewhere(*((one, _request(purpose, one)) for one in requested.values()))
    hosts = {address for listener in listed for address in addresses_of_host(listener.host)}
    return UnnamedPorts(
        tried=(
            *tried,
            *(attempt for (host, port), attempt in already.items() if host in hosts and port in USUAL_PORTS),
        ),
        not_tried=tuple(not_tried),
    )


def _unproved(context: Context, listeners: Sequence[Listener]) -> str:
    """Return why no server at the listeners of a host has proved who it is; empty if one has."""
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


def _known(
    listeners: Iterable[Listener], declared: Iterable[DeclaredMember], addresses_of_host: _HostAddresses
) -> frozenset[tuple[str, int]]:
    """Return the addresses and ports of listeners of the target and of declared listeners."""
    found = {(address, one.port) for one in listeners for address in addresses_of_host(one.host)}
    for declared_member in declared:
        for one in declared_listeners(declared_member.declaration):
            if one.url.is_socket:
                continue
            hosts = _advertised_hosts(declared_member) if one.url.is_wildcard else [one.url.host]
            found |= {(address, one.url.port) for host in hosts for address in addresses_of_host(host)}
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
        rule.redirected(host, port) for rule in target.connect_to
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


@sample(UnnamedPorts)
def _sample_ports(listener: SampleListener) -> UnnamedPorts:
    refused = listener.attempt(
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
