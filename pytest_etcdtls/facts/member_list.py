"""The member list: requesting it, parsing it, and the URLs that it advertises."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal, cast
from urllib.parse import SplitResult, urlsplit

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.errors import InconclusiveError, NotVerifiedError, UnobservedError, UnreadableJSONError
from pytest_etcdtls.facts.access import AcceptedConnections, ServedClient
from pytest_etcdtls.facts.api import (
    ClientExchange,
    MemberLists,
    MemberRecord,
    accepted_client,
    on_its_connection,
)
from pytest_etcdtls.facts.listener import listener_of, tls_answer
from pytest_etcdtls.facts.probe import Context, Planned, SampleListener, observed, probe, sample
from pytest_etcdtls.role import Protocol, Role
from pytest_etcdtls.target import Listener, is_address, is_loopback, is_number, no_machine
from pytest_etcdtls.tls.attempt import Attempt, Request, Response
from pytest_etcdtls.tls.http import Value, fields, grpc_fields, grpc_message
from pytest_etcdtls.untrusted import escaped, read_json

LONGEST = 512
"""Maximum length of a URL that is parsed."""

_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")


class LocalURLError(ValueError):
    """The URL leads to the member only on the member's own machine."""


@dataclass(frozen=True, slots=True)
class Endpoint:
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
    return Endpoint(cast("Literal['https', 'http']", parts.scheme), _host(parts), _port(parts))


def canonical(host: str) -> str:
    """Return a host in canonical form, for comparison."""
    return str(ipaddress.ip_address(host)) if is_address(host) and "%" not in host else host.lower()


def _host(parts: SplitResult) -> str:
    if parts.netloc.count(":") > 1 and "[" not in parts.netloc:
        raise ValueError("its IPv6 address is not in brackets")
    host = parts.hostname or ""
    if not is_address(host):
        if not _NAME.fullmatch(host):
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


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError as error:
        raise ValueError("its port is not a number up to 65535") from error
    if not port:
        raise ValueError("it has no port")
    return port


Members = tuple[MemberRecord, ...]


def from_grpc(body: bytes) -> tuple[Members, str | None]:
    """Return the members and the cluster ID of an answer to ``etcdserverpb.Cluster/MemberList``.

    Raises:
        ValueError: if it is none.
    """
    message = fields(grpc_message(body))
    members = tuple(_from_message(member) for member in message.get(2, []) if isinstance(member, bytes))
    return members, _cluster_id(message.get(1, []))


def from_gateway(body: bytes) -> tuple[Members, str | None]:
    """Return the members and the cluster ID of an answer to ``/v3/cluster/member/list``.

    The gateway writes 64-bit numbers as decimal strings and omits empty fields.

    Raises:
        ValueError: if it is none.
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
        ValueError: if it is none.
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
    found = fields(message)

    def texts(number: int) -> tuple[str, ...]:
        return tuple(
            escaped(value.decode("utf-8", "replace"))
            for value in found.get(number, [])
            if isinstance(value, bytes)
        )

    identifier = found.get(1, [0])[0]
    return MemberRecord(
        id=f"{identifier:x}" if isinstance(identifier, int) else "0",
        name=(texts(2) or ("",))[0],
        peer_urls=tuple(sorted(texts(3))),
        client_urls=tuple(sorted(texts(4))),
        learner=found.get(5, [0])[0] == 1,
    )


BY_GATEWAY = "gateway"
"""Key of the member list that is requested from the JSON gateway."""

_API_NAMES = {Protocol.GRPC: "gRPC", Protocol.GATEWAY: "its JSON gateway"}
_GATEWAY_LIST = "/v3/cluster/member/list"
_MEMBER_LIST = "/etcdserverpb.Cluster/MemberList"
_BY_GRPC = Request(purpose="gRPC MemberList", path=_MEMBER_LIST, protocol=Protocol.GRPC)
_BY_HTTP = Request(purpose="member list by the JSON gateway", path=_GATEWAY_LIST, protocol=Protocol.GATEWAY)
_CLUSTER_ID_HEADER = "x-etcd-cluster-id"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberListing:
    """The member list from one listener; from a client listener by gRPC, unless by the gateway.

    Attributes:
        member: label of the listener's member.
        cluster_id: of the cluster that the listener belongs to, ``None`` if it did not report it.
    """

    url: str
    member: str
    members: tuple[MemberRecord, ...]
    cluster_id: str | None = None


@probe(MemberLists, cost=0, needs=[MemberListing], across=True)
def _member_lists(context: Context) -> MemberLists:
    peer = listener_of(context)
    by_peer = context.get(MemberListing)
    client = next((found for found in context.target.listeners if found.role is Role.CLIENT), None)
    if client is None:
        raise NotVerifiedError("needs a client listener of the cluster: pass --etcd-endpoint")
    by_client = context.get(MemberListing, listener=client)
    return MemberLists(
        url=peer.url, by_peer=by_peer.members, by_client=by_client.members, client_url=client.url
    )


def _listing_cost(planned: Planned) -> int:
    target, listener = planned.target, planned.listener
    if listener is None:
        return 0
    if planned.key == BY_GATEWAY:
        return int(target.discover and listener.role in (Role.CLIENT, Role.CLIENT_HTTP))
    return int(listener.role is Role.CLIENT)


def _shared_request(planned: Planned) -> Request | None:
    by_grpc = planned.listener is not None and planned.listener.role is Role.CLIENT and planned.key is None
    return _BY_GRPC if by_grpc else None


@probe(
    MemberListing,
    cost=_listing_cost,
    needs=lambda planned: [
        *(ServedClient, AcceptedConnections),
        *([(ClientExchange, "/members")] if planned.listener and planned.listener.role is Role.PEER else []),
    ],
    shared_request=_shared_request,
)
def _listing(context: Context, key: str | None) -> MemberListing:
    """Ask a client listener by gRPC or, with that key, by the gateway, and a peer listener over HTTP.

    An ``http`` listener is asked without credentials.
    """
    if listener_of(context).role is Role.PEER:
        return _from_peer(context.get(ClientExchange, "/members"), listener_of(context).member)
    listener = listener_of(context)
    attempt = _ask(context, _BY_HTTP if key == BY_GATEWAY else _BY_GRPC)
    what = f"{listener.url}{_GATEWAY_LIST}" if key == BY_GATEWAY else f"{listener.url}: MemberList"
    response = attempt.response
    if response is None:
        raise InconclusiveError(f"{what}: {attempt.describe()}")
    try:
        members, cluster_id = (from_gateway if key == BY_GATEWAY else from_grpc)(response.body)
    except ValueError as error:
        if key == BY_GATEWAY:
            raise _no_list(what, response, error) from error
        why = response.headers.get("grpc-message", "") or error
        raise NotVerifiedError(f"{what} returned no list: {why}") from error
    return MemberListing(url=listener.url, member=listener.member, members=members, cluster_id=cluster_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberListings:
    """The member lists of every listener that returned one; at least one."""

    listings: tuple[MemberListing, ...]


@probe(MemberListings, cost=0, needs=[MemberListing], across=True)
def _listings(context: Context) -> MemberListings:
    listings: list[MemberListing] = []
    reasons: list[str] = []
    for listener in context.target.listeners:
        if listener.role not in (Role.CLIENT, Role.PEER):
            continue
        try:
            listing = context.get(MemberListing, listener=listener)
            listings.append(replace(listing, member=listener.member))
        except UnobservedError as unobserved:
            reasons.append(unobserved.reason)
    if not listings:
        raise NotVerifiedError("no listener returned the member list: " + "; ".join(dict.fromkeys(reasons)))
    return MemberListings(listings=tuple(listings))


def _ask(context: Context, request: Request) -> Attempt:
    listener = listener_of(context)
    if listener.scheme == "http":
        return context.attempt(replace(request, plaintext=True))[0][-1]
    accepted, identity = accepted_client(context)
    if request.protocol not in accepted.served_protocols:
        raise NotVerifiedError(
            f"{listener.url} does not answer the good client by {_API_NAMES[request.protocol]}"
        )
    request = replace(request, identity=identity)
    if request.protocol is Protocol.GATEWAY:
        return context.attempt(request)[0][-1]
    return on_its_connection(context, MemberListing, request)[-1]


def _from_peer(exchange: ClientExchange, member_label: str) -> MemberListing:
    response = exchange.attempt.response
    if response is None:
        raise InconclusiveError(f"{exchange.url}/members: {exchange.attempt.describe()}")
    try:
        members = from_peer(response.body)
    except ValueError as error:
        raise _no_list(f"{exchange.url}/members", response, error) from error
    return MemberListing(
        url=exchange.url,
        member=member_label,
        members=members,
        cluster_id=response.headers.get(_CLUSTER_ID_HEADER, "").lower().lstrip("0") or None,
    )


def _no_list(url: str, response: Response, error: ValueError) -> NotVerifiedError:
    return NotVerifiedError(f"{url} is not a member list (HTTP {response.status}): {error}")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnURLs:
    """The URLs that the member behind a listener advertises for that port.

    Attributes:
        member: the member's name, as etcd lists it.
        advertised: its client URLs; on a peer listener, its peer URLs.
    """

    url: str
    role: str
    member: str
    advertised: tuple[str, ...]


@probe(OwnURLs, cost=0, needs=[MemberListing, ServedClient], across=True)
def _own(context: Context) -> OwnURLs:
    listener = listener_of(context)
    tls_answer(context)
    members = context.get(MemberListing).members
    own = _own_record(context, members)
    if own is None:
        raise NotVerifiedError(
            f"which of the {len(members)} members {listener.url} belongs to is not known: "
            "pass --etcd-endpoint with the same host"
        )
    urls = own.peer_urls if listener.role is Role.PEER else own.client_urls
    return OwnURLs(url=listener.url, role=listener.role, member=own.name, advertised=urls)


def _own_record(context: Context, members: tuple[MemberRecord, ...]) -> MemberRecord | None:
    """Return the only member, the member that a client listener reports, or the one with the URL."""
    if len(members) == 1:
        return members[0]
    listener = listener_of(context)
    clients = context.target.siblings(listener, Role.CLIENT)
    for client in [listener, *clients] if listener.role is Role.CLIENT else clients:
        identifier = member_id(context, client)
        if found := next((member for member in members if member.id == identifier), None):
            return found
    return next(
        (member for member in members if listener.url in (*member.peer_urls, *member.client_urls)), None
    )


def member_id(context: Context, listener: Listener) -> str | None:
    """Return the member ID in the header of a gRPC response to the good client."""
    served = observed(context, ServedClient, listener=listener)
    answered = served.client.served_over(Protocol.GRPC) if served and served.client else ()
    if not answered:
        return None
    try:
        # In rpc.proto, the header is field 1 of every response, and member_id is field 2 of the header.
        headers = grpc_fields(answered[0].response).get(1, [])
        identifiers = [
            found for header in headers if isinstance(header, bytes) for found in fields(header)[2]
        ]
    except (ValueError, KeyError):
        return None
    return f"{identifiers[0]:x}" if identifiers and isinstance(identifiers[0], int) else None


SAMPLE_MEMBERS = tuple(
    MemberRecord(
        id=identifier,
        name=name,
        peer_urls=(f"https://{name}.example:2380",),
        client_urls=(f"https://{name}.example:2379",),
    )
    for name, identifier in (("m0", "8e9e05c52164694d"), ("m1", "1"))
)
"""The members of the conforming samples."""


@sample(MemberListings)
def _sample_listings(_: SampleListener) -> MemberListings:
    return MemberListings(
        listings=tuple(
            MemberListing(
                url=member.client_urls[0], member=member.name, members=SAMPLE_MEMBERS, cluster_id="c0ffee"
            )
            for member in SAMPLE_MEMBERS
        )
    )


@sample(MemberLists)
def _sample_lists(listener: SampleListener) -> MemberLists:
    client_url = SampleListener(Role.CLIENT).url
    member = MemberRecord(
        id="8e9e05c52164694d",
        name="m0",
        peer_urls=(SampleListener(Role.PEER).url,),
        client_urls=(client_url,),
    )
    return MemberLists(url=listener.url, by_peer=(member,), by_client=(member,), client_url=client_url)


@sample(OwnURLs)
def _sample_own(listener: SampleListener) -> OwnURLs:
    return OwnURLs(url=listener.url, role=listener.role, member="m0", advertised=(listener.url,))
