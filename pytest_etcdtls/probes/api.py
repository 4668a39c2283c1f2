"""What etcd answers to an accepted client: version, health, members. Reads only."""

from __future__ import annotations

import json

from pytest_etcdtls.errors import InconclusiveError, NotApplicableError, NotVerifiedError
from pytest_etcdtls.observations.admission import Acceptance, Candidate
from pytest_etcdtls.observations.api import Exchange, MemberLists, MemberRecord, VersionAnswers
from pytest_etcdtls.observations.attempt import Attempt, Protocol, Way
from pytest_etcdtls.observations.listener import Answer, Plaintext
from pytest_etcdtls.pki.identity import NO_CERTIFICATE, Identity
from pytest_etcdtls.probes.contact import listener_of
from pytest_etcdtls.probes.credentials import GoodIdentities
from pytest_etcdtls.probes.protobuf import fields, grpc_message
from pytest_etcdtls.probes.registry import Context, Request, probe
from pytest_etcdtls.target import Role

_MEMBER_LIST = "/etcdserverpb.Cluster/MemberList"


def accepted_client(context: Context) -> tuple[Candidate, Identity]:
    """Return the good identity that the listener accepts, as seen and as presentable.

    Raises:
        NotVerifiedError: if none is known, or none is accepted.
        UnobservedError: if the listener has no TLS or does not answer.
    """
    acceptance = context.get(Acceptance)
    accepted = acceptance.accepted
    if accepted is None:
        side = "peer-" if listener_of(context).role is Role.PEER else ""
        if not acceptance.candidates:
            raise NotVerifiedError(f"needs a client certificate: pass --etcd-{side}cert and --etcd-{side}key")
        raise NotVerifiedError("needs an accepted client, and no good identity is accepted here")
    known = {identity.name: identity for identity in context.get(GoodIdentities).identities}
    return accepted, known[accepted.identity]


@probe(Exchange, cost=1, needs=[(Answer, None), (Acceptance, None), (Plaintext, None)])
def _exchange(context: Context, key: str | None) -> Exchange:
    listener = listener_of(context)
    path, plaintext = str(key), listener.scheme == "http"
    identity = NO_CERTIFICATE
    if not plaintext:
        accepted, identity = accepted_client(context)
        if Protocol.HTTP1 not in accepted.spoken:
            raise NotApplicableError(f"{listener.url} speaks gRPC only; HTTP is on the split-off listener")
        if seen := _seen(accepted, path):
            return Exchange(url=listener.url, role=listener.role, path=path, tries=(seen,))
    request = Request(
        purpose=f"GET {path}",
        identity=identity,
        path=path,
        speech=Protocol.HTTP1,
        plaintext=plaintext,
    )
    return Exchange(url=listener.url, role=listener.role, path=path, tries=context.attempt(request)[0])


def _seen(accepted: Candidate, path: str) -> Attempt | None:
    """Return the answer that was got when the identity was tried, if it was to the same path."""
    if path != "/version":
        return None
    return next((found for found in accepted.served if found.protocol is Protocol.HTTP1), None)


@probe(MemberLists, cost=1, needs=[(Exchange, "/members"), (Acceptance, None)], across=True)
def _members(context: Context, key: str | None) -> MemberLists:
    peer = listener_of(context)
    exchange = context.get(Exchange, "/members")
    client = next((found for found in context.target.listeners if found.role is Role.CLIENT), None)
    if client is None:
        raise NotVerifiedError("needs a client listener of the cluster: pass --etcd-endpoint")
    by_client = context.get(_ClientMembers, listener=client).members
    return MemberLists(url=peer.url, by_peer=_from_peer(exchange), by_client=by_client, client_url=client.url)


class _ClientMembers:
    """The member list that a client listener gives, got once per listener."""

    def __init__(self, members: tuple[MemberRecord, ...]) -> None:
        self.members = members


@probe(_ClientMembers, cost=1, needs=[(Acceptance, None)])
def _client_members(context: Context, key: str | None) -> _ClientMembers:
    listener = listener_of(context)
    accepted, identity = accepted_client(context)
    if Protocol.GRPC not in accepted.spoken:
        raise NotVerifiedError(f"{listener.url} does not answer gRPC to the good client")
    request = Request(purpose="gRPC MemberList", identity=identity, path=_MEMBER_LIST, speech=Protocol.GRPC)
    attempt = context.attempt(request)[0][-1]
    if attempt.response is None:
        raise InconclusiveError(f"{listener.url}: MemberList {attempt.describe()}")
    try:
        members = fields(grpc_message(attempt.response.body)).get(2, [])
        return _ClientMembers(tuple(_from_grpc(member) for member in members if isinstance(member, bytes)))
    except ValueError as error:
        raise NotVerifiedError(f"{listener.url}: MemberList gave no list: {error}") from error


def _from_grpc(message: bytes) -> MemberRecord:
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


def _from_peer(exchange: Exchange) -> tuple[MemberRecord, ...]:
    response = exchange.attempt.response
    if response is None:
        raise InconclusiveError(f"{exchange.url}/members: {exchange.attempt.describe()}")
    try:
        return tuple(
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


@probe(VersionAnswers, cost=0, needs=[(Exchange, "/version")], across=True)
def _versions(context: Context, key: str | None) -> VersionAnswers:
    peer = listener_of(context)
    siblings = [
        other
        for other in context.target.listeners
        if other.member == peer.member and other.role in (Role.CLIENT, Role.CLIENT_HTTP)
    ]
    if not siblings:
        raise NotVerifiedError("needs a client listener of the same member: pass --etcd-endpoint")
    answers = [_version_of(context.get(Exchange, "/version"))]
    reasons: list[str] = []
    for sibling in siblings:
        try:
            answers.append(_version_of(context.get(Exchange, "/version", listener=sibling)))
        except NotApplicableError as error:
            reasons.append(error.reason)
    if len(answers) < 2:
        raise NotVerifiedError("; ".join(reasons))
    return VersionAnswers(answers=tuple(answers))


def _version_of(exchange: Exchange) -> tuple[str, dict[str, str]]:
    attempt = exchange.attempt
    if attempt.way is not Way.SERVED or attempt.response is None:
        raise InconclusiveError(f"{exchange.url}/version: {attempt.describe()}")
    try:
        body = json.loads(attempt.response.body)
    except ValueError as error:
        raise NotVerifiedError(f"{exchange.url}/version is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise NotVerifiedError(f"{exchange.url}/version is not a JSON object")
    return exchange.url, {str(name): str(value) for name, value in body.items()}
