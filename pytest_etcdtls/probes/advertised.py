"""Which URLs the member behind a listener advertises, read from the member list."""

from __future__ import annotations

from pytest_etcdtls.errors import NotVerifiedError, UnobservedError
from pytest_etcdtls.observations.admission import ServedClient
from pytest_etcdtls.observations.advertised import OwnURLs
from pytest_etcdtls.observations.api import MemberRecord
from pytest_etcdtls.observations.attempt import Protocol
from pytest_etcdtls.observations.cluster import MemberListing
from pytest_etcdtls.probes.contact import listener_of, tls_answer
from pytest_etcdtls.probes.protobuf import fields, grpc_message
from pytest_etcdtls.probes.registry import Context, probe
from pytest_etcdtls.target import Listener, Role


@probe(OwnURLs, cost=0, needs=[(MemberListing, None), (ServedClient, None)], across=True)
def _own(context: Context, key: str | None) -> OwnURLs:
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
    """Return the one member that there is, the one that a client listener names, or that of the URL."""
    if len(members) == 1:
        return members[0]
    listener = listener_of(context)
    for sibling in context.target.listeners:
        if sibling.member == listener.member and sibling.role is Role.CLIENT:
            identifier = member_id(context, sibling)
            if found := next((member for member in members if member.id == identifier), None):
                return found
    return next(
        (member for member in members if listener.url in (*member.peer_urls, *member.client_urls)), None
    )


def member_id(context: Context, listener: Listener) -> str | None:
    """Return the ID that etcd gave in the header of a gRPC answer when the good client was tried."""
    try:
        accepted = context.get(ServedClient, listener=listener).client
    except UnobservedError:
        return None
    for attempt in accepted.served if accepted else ():
        if attempt.protocol is Protocol.GRPC and attempt.response is not None:
            return _from_header(attempt.response.body)
    return None


def _from_header(body: bytes) -> str | None:
    """Return ``member_id`` of the ResponseHeader that every answer of etcd begins with."""
    try:
        headers = fields(grpc_message(body)).get(1, [])
        identifiers = [
            found for header in headers if isinstance(header, bytes) for found in fields(header)[2]
        ]
    except (ValueError, KeyError):
        return None
    return f"{identifiers[0]:x}" if identifiers and isinstance(identifiers[0], int) else None
