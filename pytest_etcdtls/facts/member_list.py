"""The member list: requesting it, parsing it, and the URLs that it advertises.

Three APIs return it: gRPC ``MemberList`` (server/etcdserver/api/v3rpc/member.go), its JSON gateway, and
``/members`` of the peer port (server/etcdserver/api/etcdhttp/peer.go). Clients connect to the URLs in it,
which are what an administrator wrote. So a URL is parsed before anything connects to it. It is used only if
it is that of a TCP port of one machine, the same for every client.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, cast
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

from pytest_etcdtls.declared.declaration import is_address, is_loopback, port_of
from pytest_etcdtls.errors import (
    InconclusiveError,
    NotVerifiedError,
    Reason,
    UnobservedError,
    UnreadableJSONError,
    escaped,
    missing,
)
from pytest_etcdtls.facts.access import PresentedClient, ServedClient
from pytest_etcdtls.facts.api import ClientExchange, Metrics, read_metric
from pytest_etcdtls.facts.fact import Each, Lazy, Planned, Wire, fact
from pytest_etcdtls.facts.listener import TLSContact
from pytest_etcdtls.role import Protocol, Role
from pytest_etcdtls.target import Listener, Target, is_number, no_machine
from pytest_etcdtls.tls.attempt import Request, Response
from pytest_etcdtls.tls.http import Value, fields, grpc_fields, grpc_message
from pytest_etcdtls.untrusted.json_text import read_json
from pytest_etcdtls.untrusted.printable import is_host

LONGEST = 512
"""Maximum length of a URL that is parsed."""


class LocalURLError(ValueError):
    """The URL leads to the member only on the member's own machine."""


class Endpoint(Struct, frozen=True):
    """Where a URL leads to; ``host`` is a name in lower case or an address in its canonical form."""

    scheme: Literal["https", "http"]
    host: str
    port: int


def parse(text: str) -> Endpoint:
    """Return the endpoint of an advertised URL.

    Raises:
        LocalURLError: for a Unix socket, and for loopback in any form but ``localhost`` and a plain address.
        ValueError: if it is not the URL of a TCP port of one machine, the same for every client.
    """
    if len(text) > LONGEST:
        raise ValueError(f"it has {len(text)} characters")
    if not text.isprintable() or " " in text:
        raise ValueError("it contains blanks or control characters")
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise ValueError(f"it is not a URL: {error}") from error
    if parts.scheme in ("unix", "unixs"):
        raise LocalURLError("it is a Unix socket, which exists on the member's machine only")
    if parts.scheme not in ("https", "http"):
        raise ValueError("it begins with neither https:// nor http://")
    if "@" in parts.netloc or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("it has more than scheme, host and port")
    if not (port := port_of(parts)):
        raise ValueError("it has no port")
    return Endpoint(cast("Literal['https', 'http']", parts.scheme), _host(parts), port)


def canonical(host: str) -> str:
    """Return a host in canonical form, for comparison."""
    return str(ipaddress.ip_address(host)) if is_address(host) and "%" not in host else host.lower()


def endpoint_of(listener: Listener) -> Endpoint:
    """Return where the URL of a listener leads to."""
    return Endpoint(listener.scheme, canonical(listener.host), listener.port)


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if not is_address(host):
        if not is_host(host):
            raise ValueError("it has no host" if not host else "its host is neither a name nor an address")
        if is_number(host):
            raise ValueError("its host is a number that some resolvers read as an address")
        if host != "localhost" and is_loopback(host.rstrip(".")):
            raise LocalURLError("it leads to the client's own machine")
        return host
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id:
            raise ValueError("its zone is valid on one machine only")
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
            if address.is_loopback:
                raise LocalURLError("it leads to the client's own machine")
    if why_not := no_machine(str(address)):
        raise ValueError(why_not)
    return str(address)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRecord:
    """One member as etcd lists it.

    Attributes:
        id: the member ID, in lower-case hexadecimal without leading zeros.
        name: empty until the member has been started.
        client_urls: empty until the member has been started.
        learner: it has no vote yet; not compared between two records.
    """

    id: str
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    learner: bool = field(default=False, compare=False)


Members = tuple[MemberRecord, ...]


def from_grpc(body: bytes) -> tuple[Members, str | None]:
    """Return the members and the cluster ID of an answer to ``etcdserverpb.Cluster/MemberList``.

    Raises:
        ValueError: if it is invalid.
    """
    message = fields(grpc_message(body))
    members = tuple(_from_message(member) for member in message.get(2, []) if isinstance(member, bytes))
    return members, _cluster_id(message.get(1, []))


def from_gateway(body: bytes) -> tuple[Members, str | None]:
    """Return the members and the cluster ID of an answer to ``/v3/cluster/member/list``.

    The gateway writes 64-bit numbers as decimal strings and omits empty fields.

    Raises:
        ValueError: if it is invalid.
    """
    answer = _parse(body)
    if not isinstance(answer, dict):
        raise ValueError("it is not a JSON object")
    header = answer.get("header")
    cluster_id = header.get("cluster_id") if isinstance(header, dict) else None
    members = tuple(
        _record(member, _number(member.get("ID", "0"))) for member in _objects(answer.get("members"))
    )
    return members, None if cluster_id is None else f"{_number(cluster_id):x}"


def from_peer(body: bytes) -> Members:
    """Return the members of an answer to a peer port's ``/members``.

    Raises:
        ValueError: if it is invalid.
    """
    return tuple(_record(member, _number(member.get("id"))) for member in _objects(_parse(body)))


def _parse(body: bytes) -> object:
    try:
        return read_json(body)
    except UnreadableJSONError as error:
        raise ValueError(f"its JSON cannot be read: {error}") from error


def _objects(value: object) -> Iterable[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError("it is not a list of JSON objects")
    return value


def _number(value: object) -> int:
    """Return a member or cluster ID: an unsigned 64-bit number, or a text of its decimal digits."""
    number = int(value) if isinstance(value, str) and value.isdecimal() and len(value) <= 20 else value
    if not isinstance(number, int) or not 0 <= number < 2**64:
        raise ValueError("an ID is not a 64-bit number")
    return number


def _record(member: Mapping[str, Any], identifier: int) -> MemberRecord:
    return MemberRecord(
        id=f"{identifier:x}",
        name=str(member.get("name", "")),
        peer_urls=_urls(member, "peerURLs"),
        client_urls=_urls(member, "clientURLs"),
        learner=member.get("isLearner") is True,
    )


def _urls(member: Mapping[str, Any], name: str) -> tuple[str, ...]:
    urls = member.get(name) or []
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        raise ValueError(f"{name} is not a list of strings")
    return tuple(sorted(urls))


def _cluster_id(headers: list[Value]) -> str | None:
    """Return the cluster ID of a ResponseHeader."""
    for header in headers:
        if isinstance(header, bytes):
            for identifier in fields(header).get(1, []):
                return f"{identifier:x}" if isinstance(identifier, int) else None
    return None


def _from_message(message: bytes) -> MemberRecord:
    # Member in rpc.proto: ID, name, peerURLs, clientURLs, isLearner.
    values = fields(message)

    def texts(number: int) -> tuple[str, ...]:
        return tuple(
            escaped(value.decode("utf-8", "replace"))
            for value in values.get(number, [])
            if isinstance(value, bytes)
        )

    identifier = values.get(1, [0])[0]
    return MemberRecord(
        id=f"{identifier:x}" if isinstance(identifier, int) else "0",
        name=(texts(2) or ("",))[0],
        peer_urls=tuple(sorted(texts(3))),
        client_urls=tuple(sorted(texts(4))),
        learner=values.get(5, [0])[0] == 1,
    )


BY_GATEWAY = "gateway"
"""Key of the member list that is requested from the JSON gateway."""

_API_NAMES = {Protocol.GRPC: "gRPC", Protocol.GATEWAY: "its JSON gateway"}
_GATEWAY_LIST = "/v3/cluster/member/list"
_MEMBER_LIST = "/etcdserverpb.Cluster/MemberList"
_BY_GRPC = Request(purpose="gRPC MemberList", path=_MEMBER_LIST, protocol=Protocol.GRPC)
_BY_HTTP = Request(purpose="member list by the JSON gateway", path=_GATEWAY_LIST, protocol=Protocol.GATEWAY)
_CLUSTER_ID_HEADER = "x-etcd-cluster-id"


class MemberListing(Struct, frozen=True, kw_only=True):
    """The member list from one listener; from a client listener by gRPC, unless by the gateway.

    Attributes:
        cluster_id: of the cluster that the listener belongs to, ``None`` if it did not report it.
    """

    members: tuple[MemberRecord, ...]
    cluster_id: str | None = None


def _listing_cost(planned: Planned) -> int:
    target, listener = planned.target, planned.listener
    if listener is None:
        return 0
    if planned.key == BY_GATEWAY:
        return int(target.discover and listener.role in (Role.CLIENT, Role.CLIENT_HTTP))
    return int(listener.role is Role.CLIENT)


def _from_members(planned: Planned) -> tuple[str, ...]:
    return ("/members",) if planned.listener and planned.listener.role is Role.PEER else ()


@fact(connections=_listing_cost)
def member_listing(
    here: Listener,
    key: str | None,
    by_peer: Lazy[Annotated[ClientExchange, _from_members]],
    presented: Lazy[PresentedClient],
    wire: Wire,
) -> MemberListing:
    """Ask a client listener by gRPC or, with that key, by the gateway, and a peer listener over HTTP.

    An ``http`` listener is asked without credentials.
    """
    if here.role is Role.PEER:
        return _from_peer(here, by_peer.get())
    request = _BY_HTTP if key == BY_GATEWAY else _BY_GRPC
    if here.scheme == "http":
        attempt = wire.attempt(replace(request, plaintext=True))[0][-1]
    else:
        client = presented.get()
        if request.protocol not in client.candidate.served_protocols:
            raise NotVerifiedError(
                f"{here.url} does not answer the good client by {_API_NAMES[request.protocol]}"
            )
        attempt = wire.attempt(replace(request, identity=client.identity))[0][-1]
    call = f"{here.url}{_GATEWAY_LIST}" if key == BY_GATEWAY else f"{here.url}: MemberList"
    response = attempt.response
    if response is None:
        raise InconclusiveError(f"{call}: {attempt.describe()}")
    try:
        members, cluster_id = (from_gateway if key == BY_GATEWAY else from_grpc)(response.body)
    except ValueError as error:
        if key == BY_GATEWAY:
            raise _no_list(call, response, error) from error
        why = response.headers.get("grpc-message", "") or error
        raise NotVerifiedError(f"{call} returned no list: {why}") from error
    if members and not any(member.id.strip("0") for member in members):
        # MemberList in proxy/grpcproxy/cluster.go: what is registered, or --advertise-client-url.
        raise NotVerifiedError(f"{call} returned the addresses of grpc-proxies, not the members of etcd")
    return MemberListing(members=members, cluster_id=cluster_id)


class MemberListings(Struct, frozen=True, kw_only=True):
    """The member lists of every listener that returned one; at least one."""

    listings: tuple[tuple[Listener, MemberListing], ...]

    @property
    def size(self) -> int:
        """The number of members in the longest list."""
        return max(len(listing.members) for _, listing in self.listings)

    @property
    def members(self) -> Iterator[MemberRecord]:
        """The members of every list."""
        return (member for _, listing in self.listings for member in listing.members)


@fact
def member_listings(target: Target, lists: Each[MemberListing]) -> MemberListings:
    """Return the list of every client and peer listener that returns one."""
    listings: list[tuple[Listener, MemberListing]] = []
    reasons: list[Reason] = []
    for listener in target.listeners:
        if listener.role not in (Role.CLIENT, Role.PEER):
            continue
        try:
            listings.append((listener, lists.at(listener)))
        except UnobservedError as unobserved:
            reasons.append(unobserved.why)
    if not listings:
        raise NotVerifiedError(Reason.together(reasons).after("no listener returned the member list: "))
    return MemberListings(listings=tuple(listings))


def _from_peer(here: Listener, exchange: ClientExchange) -> MemberListing:
    response = exchange.attempt.response
    if response is None:
        raise InconclusiveError(f"{here.url}/members: {exchange.attempt.describe()}")
    try:
        members = from_peer(response.body)
    except ValueError as error:
        raise _no_list(f"{here.url}/members", response, error) from error
    return MemberListing(
        members=members,
        cluster_id=response.headers.get(_CLUSTER_ID_HEADER, "").lower().lstrip("0") or None,
    )


def _no_list(url: str, response: Response, error: ValueError) -> NotVerifiedError:
    return NotVerifiedError(f"{url} is not a member list (HTTP {response.status}): {error}")


class OwnURLs(Struct, frozen=True, kw_only=True):
    """The URLs that the member behind a listener advertises for that port.

    Attributes:
        member: the member's name, as etcd lists it.
        advertised: its client URLs; on a peer listener, its peer URLs.
    """

    member: str
    advertised: tuple[str, ...]


@fact
def own_urls(
    here: Listener,
    target: Target,
    _contact: TLSContact,
    listing: MemberListing,
    clients: Each[ServedClient],
) -> OwnURLs:
    """Return what the member behind a TLS listener advertises for that kind of port."""
    own = _own_record(here, target, listing.members, clients)
    if own is None:
        text = f"it is not known to which of the {len(listing.members)} members {here.url} belongs"
        passing = "--etcd-endpoint of that member"
        raise NotVerifiedError(missing(text, "--etcd-endpoint", passing=passing))
    urls = own.peer_urls if here.role is Role.PEER else own.client_urls
    return OwnURLs(member=own.name, advertised=urls)


def _own_record(
    here: Listener, target: Target, members: Members, clients: Each[ServedClient]
) -> MemberRecord | None:
    """Return the only member, the member that a client listener reports, or the one with the URL."""
    if len(members) == 1:
        return members[0]
    siblings = target.siblings(here, Role.CLIENT)
    for client in [here, *siblings] if here.role is Role.CLIENT else siblings:
        _, reported = reported_ids(clients.known(client))
        if own := next((member for member in members if member.id == reported), None):
            return own
    return next((member for member in members if here.url in (*member.peer_urls, *member.client_urls)), None)


def reported_ids(served: ServedClient | None) -> tuple[str, str]:
    """Return the IDs of the cluster and of the member in a gRPC response to the good client; empty if none.

    In rpc.proto, field 1 of every response is the ResponseHeader: cluster_id, member_id.
    """
    for attempt in served.client.served_over(Protocol.GRPC) if served and served.client else ():
        try:
            header = grpc_fields(attempt.response).get(1, [b""])[0]
            numbers = fields(header) if isinstance(header, bytes) else {}
        except ValueError:
            continue
        cluster_id, member_id = (numbers.get(number, [0])[0] for number in (1, 2))
        if isinstance(cluster_id, int) and isinstance(member_id, int) and cluster_id:
            return f"{cluster_id:x}", f"{member_id:x}"
    return "", ""


SERVER_ID = re.compile(rb'^etcd_server_id\{server_id="0*([0-9a-f]+)"\}', re.MULTILINE)


def reported_member(clients: Each[ServedClient], metrics: Metrics, listener: Listener) -> str:
    """Return the ID of the member behind a listener, by gRPC or ``/metrics``; empty if it reports none."""
    if listener.role is Role.CLIENT and (own_id := reported_ids(clients.known(listener))[1]):
        return own_id
    try:
        return "" if listener.role is Role.PEER else read_metric(metrics, listener, SERVER_ID)
    except UnobservedError:
        return ""
