"""Which members of a cluster have active connections with which others, as etcd counts them.

Members are clients of each other. Whether one reaches another is not derived from settings: etcd counts it. A
peer is active until a dial, a read or a write fails, and again when a stream or a request succeeds. A member
dials each other one for two streams, every 100 ms until that works (``peer_status.go`` and ``stream.go`` in
server/etcdserver/api/rafthttp). So one that cannot be dialled is active only in the moment after it dials
itself, and one that can is inactive only in the moments after one of both started: a request that waits for
the name or the address of the other one fails after the dial timeout, and makes it inactive again. If one of
two cannot dial the other, both may count none: the other one's next write on an old stream fails, and nothing
makes it active again.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated

from msgspec import Struct, structs

from pytest_etcdtls.errors import NotApplicableError
from pytest_etcdtls.facts.access import PresentedClient, ServedClient
from pytest_etcdtls.facts.api import ClientExchange, Metrics, request_of
from pytest_etcdtls.facts.fact import Each, Lazy, Planned, Wire, fact
from pytest_etcdtls.facts.listener import Tried
from pytest_etcdtls.facts.member_list import (
    SERVER_ID,
    MemberListings,
    MemberRecord,
    reported_member,
)
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import Response


class LaterMetrics(Tried, frozen=True, kw_only=True):
    """The second answer of ``/metrics`` of a listener, after members that just started had time to dial."""


class MemberPeers(Struct, frozen=True, kw_only=True):
    """The other members, as a member counts its connections with them.

    Attributes:
        listener: the one that reports them.
        active: IDs of those with which it has an active connection, at one of the looks.
        lost: how often connections with a member were lost, by its ID.
    """

    listener: Listener
    active: frozenset[str]
    lost: Mapping[str, int] = {}


class PeerConnections(Struct, frozen=True, kw_only=True):
    """Which members have active connections with which others.

    Attributes:
        started: the members that are listed and have been started, by ID.
        peers: what members report, by ID, as far as their metrics can be read.
        answering: IDs of the members that answered here, the last time that they were asked.
    """

    started: Mapping[str, MemberRecord]
    peers: Mapping[str, MemberPeers]
    answering: frozenset[str]


_METRICS = "/metrics"
_SECOND = timedelta(seconds=1)
_PROBES = timedelta(seconds=5)
"""When a member first counts the round trip to a peer: ``statusErrorInterval`` in ``probing_status.go``."""
_ROUND_TRIP = b"etcd_network_peer_round_trip_time_seconds_count{"
_PEER = rb'\{Local="[0-9a-f]+",Remote="0*([0-9a-f]+)"\} ([0-9.e+]+)$'
_ACTIVE = re.compile(rb"^etcd_network_active_peers" + _PEER, re.MULTILINE)
_LOST = re.compile(rb"^etcd_network_disconnected_peers_total" + _PEER, re.MULTILINE)


def _once(planned: Planned) -> int:
    return int(planned.listener is not None and planned.listener.role is not Role.PEER)


@fact(connections=_once, reported=False)
def later_metrics(
    here: Listener,
    first: Annotated[ClientExchange, _METRICS],
    metrics: Metrics,
    presented: Lazy[PresentedClient],
    wire: Wire,
) -> LaterMetrics:
    """Wait for the rest of a second since the first request, or of five after a start, and send it again."""
    just_started = any(_has_just_started(exchange.attempt.response) for _, exchange in metrics)
    left = first.attempt.started_at + (_PROBES if just_started else _SECOND) - datetime.now(UTC)
    threading.Event().wait(max(0.0, left.total_seconds()))
    request = replace(request_of(_METRICS), purpose="GET /metrics, a second time")
    if here.scheme == "http":
        return LaterMetrics(tries=wire.attempt(replace(request, plaintext=True))[0])
    return LaterMetrics(tries=wire.attempt(replace(request, identity=presented.get().identity))[0])


def _has_just_started(response: Response | None) -> bool:
    """Return whether a member of several did not probe any other one yet."""
    return response is not None and bool(_ACTIVE.search(response.body)) and _ROUND_TRIP not in response.body


@fact(reported=False)
def peer_connections(
    target: Target,
    listings: MemberListings,
    clients: Each[ServedClient],
    metrics: Metrics,
    later: Each[LaterMetrics],
) -> PeerConnections:
    """Return what each member counts; with a second look at those that lack an active connection.

    A member without one may restart right now, and so may the other one. So both are asked again.
    """
    if listings.size == 1:
        raise NotApplicableError("the cluster has one member")
    by_name = sorted(listings.members, key=lambda member: member.name)
    started = {member.id: member for member in by_name if member.name}
    answering = {reported_member(clients, metrics, listener) for listener in target.listeners}
    peers: dict[str, MemberPeers] = {}
    for listener in target.listeners:
        if listener.role is not Role.PEER and (seen := _peers(listener, metrics.known(listener))):
            peers.setdefault(*seen)
    peers = {member: seen for member, seen in peers.items() if member in started}
    answering = (answering | peers.keys()) & started.keys()
    lacking = {member: answering - {member} - seen.active for member, seen in peers.items()}
    doubtful = {each for member, others in lacking.items() if others for each in (member, *others)}
    for member in doubtful & peers.keys():
        first = peers.pop(member)
        again = _peers(first.listener, later.known(first.listener))
        if again is not None and again[0] == member:  # a load balancer may lead to another member
            peers[member] = structs.replace(again[1], active=first.active | again[1].active)
        else:
            answering.discard(member)
    return PeerConnections(started=started, peers=peers, answering=frozenset(answering))


def _peers(listener: Listener, exchange: Tried | None) -> tuple[str, MemberPeers] | None:
    """Return the ID of the member that answered, and what it counts."""
    response = exchange.attempt.response if exchange else None
    # The ID comes after the connections, so those are complete even if the body was cut off at its limit.
    own = SERVER_ID.search(response.body) if response and response.status == HTTPStatus.OK else None
    if response is None or own is None:
        return None
    active = frozenset(line[1].decode() for line in _ACTIVE.finditer(response.body) if float(line[2]))
    lost = {line[1].decode(): int(float(line[2])) for line in _LOST.finditer(response.body)}
    return own[1].decode(), MemberPeers(listener=listener, active=active, lost=lost)
