"""The member list, by gRPC from client listeners and over HTTP from peer listeners. Reads only."""

from __future__ import annotations

import json

from pytest_etcdtls.errors import InconclusiveError, NotVerifiedError, UnobservedError
from pytest_etcdtls.observations.admission import Acceptance
from pytest_etcdtls.observations.api import Exchange, MemberLists, MemberRecord
from pytest_etcdtls.observations.attempt import Protocol
from pytest_etcdtls.observations.cluster import MemberListing, MemberListings
from pytest_etcdtls.pki.identity import NO_CERTIFICATE
from pytest_etcdtls.probes.api import accepted_client
from pytest_etcdtls.probes.contact import listener_of
from pytest_etcdtls.probes.protobuf import Value, fields, grpc_message
from pytest_etcdtls.probes.registry import Context, Request, probe
from pytest_etcdtls.target import Role

_MEMBER_LIST = "/etcdserverpb.Cluster/MemberList"
_CLUSTER_ID_HEADER = "x-etcd-cluster-id"


@probe(MemberLists, cost=0, needs=[(MemberListing, None)], across=True)
def _both(context: Context, key: str | None) -> MemberLists:
    peer = listener_of(context)
    by_peer = context.get(MemberListing)
    client = next((found for found in context.target.listeners if found.role is Role.CLIENT), None)
    if client is None:
        raise NotVerifiedError("needs a client listener of the cluster: pass --etcd-endpoint")
    by_client = context.get(MemberListing, listener=client)
    return MemberLists(
        url=peer.url, by_peer=by_peer.members, by_client=by_client.members, client_url=client.url
    )


@probe(
    MemberListing,
    cost=lambda _target, listener, _key: int(listener is not None and listener.role is Role.CLIENT),
    needs=[(Acceptance, None), (Exchange, "/members")],
)
def _listing(context: Context, key: str | None) -> MemberListing:
    """Ask a client or a peer listener; an ``http`` one as anybody."""
    if listener_of(context).role is Role.PEER:
        return _from_peer(context.get(Exchange, "/members"), listener_of(context).member)
    return _from_client(context)


@probe(MemberListings, cost=0, needs=[(MemberListing, None)], across=True)
def _listings(context: Context, key: str | None) -> MemberListings:
    listings: list[MemberListing] = []
    reasons: list[str] = []
    for listener in context.target.listeners:
        if listener.role not in (Role.CLIENT, Role.PEER):
            continue
        try:
            listings.append(context.get(MemberListing, listener=listener))
        except UnobservedError as unobserved:
            reasons.append(unobserved.reason)
    if not listings:
        raise NotVerifiedError("no listener gave the member list: " + "; ".join(dict.fromkeys(reasons)))
    return MemberListings(listings=tuple(listings))


def _from_client(context: Context) -> MemberListing:
    listener = listener_of(context)
    plaintext = listener.scheme == "http"
    identity = NO_CERTIFICATE
    if not plaintext:
        accepted, identity = accepted_client(context)
        if Protocol.GRPC not in accepted.spoken:
            raise NotVerifiedError(f"{listener.url} does not answer gRPC to the good client")
    request = Request(
        purpose="gRPC MemberList",
        identity=identity,
        path=_MEMBER_LIST,
        speech=Protocol.GRPC,
        plaintext=plaintext,
    )
    attempt = context.attempt(request)[0][-1]
    if attempt.response is None:
        raise InconclusiveError(f"{listener.url}: MemberList {attempt.describe()}")
    try:
        message = fields(grpc_message(attempt.response.body))
        return MemberListing(
            url=listener.url,
            member=listener.member,
            members=tuple(_record(member) for member in message.get(2, []) if isinstance(member, bytes)),
            cluster_id=_cluster_id(message.get(1, [])),
        )
    except ValueError as error:
        raise NotVerifiedError(f"{listener.url}: MemberList gave no list: {error}") from error


def _cluster_id(headers: list[Value]) -> str | None:
    """Return the cluster ID of a ResponseHeader."""
    for header in headers:
        if isinstance(header, bytes):
            for identifier in fields(header).get(1, []):
                return f"{identifier:x}" if isinstance(identifier, int) else None
    return None


def _record(message: bytes) -> MemberRecord:
    found = fields(message)

    def texts(number: int) -> tuple[str, ...]:
        return tuple(
            value.decode("utf-8", "replace") for value in found.get(number, []) if isinstance(value, bytes)
        )

    identifier = found.get(1, [0])[0]
    return MemberRecord(
        id=f"{identifier:x}" if isinstance(identifier, int) else "",
        name=(texts(2) or ("",))[0],
        peer_urls=tuple(sorted(texts(3))),
        client_urls=tuple(sorted(texts(4))),
    )


def _from_peer(exchange: Exchange, member_label: str) -> MemberListing:
    response = exchange.attempt.response
    if response is None:
        raise InconclusiveError(f"{exchange.url}/members: {exchange.attempt.describe()}")
    try:
        members = tuple(
            MemberRecord(
                id=f"{member['id']:x}",
                name=str(member.get("name", "")),
                peer_urls=tuple(sorted(member["peerURLs"])),
                client_urls=tuple(sorted(member.get("clientURLs") or ())),
            )
            for member in json.loads(response.body)
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise NotVerifiedError(
            f"{exchange.url}/members is no member list (HTTP {response.status}): {error}"
        ) from error
    return MemberListing(
        url=exchange.url,
        member=member_label,
        members=members,
        cluster_id=response.headers.get(_CLUSTER_ID_HEADER, "").lower().lstrip("0") or None,
    )
