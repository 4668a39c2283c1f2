"""The member list, by gRPC or gateway from client listeners, over HTTP from peer listeners. Reads only."""

from __future__ import annotations

from dataclasses import replace

from pytest_etcdtls.errors import InconclusiveError, NotVerifiedError, UnobservedError
from pytest_etcdtls.observations.admission import ServedClient
from pytest_etcdtls.observations.api import Exchange, MemberLists
from pytest_etcdtls.observations.attempt import Attempt, Protocol, Response
from pytest_etcdtls.observations.cluster import MemberListing, MemberListings
from pytest_etcdtls.pki.identity import NO_CERTIFICATE
from pytest_etcdtls.probes.api import accepted_client
from pytest_etcdtls.probes.contact import listener_of
from pytest_etcdtls.probes.member_records import from_gateway, from_grpc, from_peer
from pytest_etcdtls.probes.registry import Context, Request, probe
from pytest_etcdtls.target import Listener, Role, Target

BY_GATEWAY = "gateway"
"""Key of the member list that the JSON gateway gives, where it is asked for."""

_SPOKEN = {Protocol.GRPC: "gRPC", Protocol.GATEWAY: "its JSON gateway"}
_GATEWAY_LIST = "/v3/cluster/member/list"
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


def _listing_cost(target: Target, listener: Listener | None, key: str | None) -> int:
    if listener is None:
        return 0
    if key == BY_GATEWAY:
        return int(target.discover and listener.role in (Role.CLIENT, Role.CLIENT_HTTP))
    return int(listener.role is Role.CLIENT)


@probe(MemberListing, cost=_listing_cost, needs=[(ServedClient, None), (Exchange, "/members")])
def _listing(context: Context, key: str | None) -> MemberListing:
    """Ask a client listener by gRPC or, with that key, by the gateway, a peer listener over HTTP.

    An ``http`` one is asked as anybody.
    """
    if listener_of(context).role is Role.PEER:
        return _from_peer(context.get(Exchange, "/members"), listener_of(context).member)
    return _by_gateway(context) if key == BY_GATEWAY else _by_grpc(context)


@probe(MemberListings, cost=0, needs=[(MemberListing, None)], across=True)
def _listings(context: Context, key: str | None) -> MemberListings:
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
        raise NotVerifiedError("no listener gave the member list: " + "; ".join(dict.fromkeys(reasons)))
    return MemberListings(listings=tuple(listings))


def _by_grpc(context: Context) -> MemberListing:
    listener = listener_of(context)
    attempt = _ask(context, Protocol.GRPC, "gRPC MemberList", _MEMBER_LIST)
    if attempt.response is None:
        raise InconclusiveError(f"{listener.url}: MemberList {attempt.describe()}")
    try:
        members, cluster_id = from_grpc(attempt.response.body)
    except ValueError as error:
        said = attempt.response.headers.get("grpc-message", "")
        raise NotVerifiedError(f"{listener.url}: MemberList gave no list: {said or error}") from error
    return MemberListing(url=listener.url, member=listener.member, members=members, cluster_id=cluster_id)


def _by_gateway(context: Context) -> MemberListing:
    listener = listener_of(context)
    attempt = _ask(context, Protocol.GATEWAY, "member list by the JSON gateway", _GATEWAY_LIST)
    if attempt.response is None:
        raise InconclusiveError(f"{listener.url}{_GATEWAY_LIST}: {attempt.describe()}")
    try:
        members, cluster_id = from_gateway(attempt.response.body)
    except ValueError as error:
        raise _no_list(f"{listener.url}{_GATEWAY_LIST}", attempt.response, error) from error
    return MemberListing(url=listener.url, member=listener.member, members=members, cluster_id=cluster_id)


def _ask(context: Context, speech: Protocol, purpose: str, path: str) -> Attempt:
    listener = listener_of(context)
    plaintext = listener.scheme == "http"
    identity = NO_CERTIFICATE
    if not plaintext:
        accepted, identity = accepted_client(context)
        if speech not in accepted.spoken:
            raise NotVerifiedError(f"{listener.url} gives the good client no answer by {_SPOKEN[speech]}")
    request = Request(purpose=purpose, identity=identity, path=path, speech=speech, plaintext=plaintext)
    return context.attempt(request)[0][-1]


def _from_peer(exchange: Exchange, member_label: str) -> MemberListing:
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


def _no_list(place: str, response: Response, error: ValueError) -> NotVerifiedError:
    return NotVerifiedError(f"{place} is no member list (HTTP {response.status}): {error}")
