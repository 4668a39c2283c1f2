"""Every member can dial every other member, by what etcd counts; and what forbids a connection."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import combinations
from typing import Any

from msgspec.structs import replace

from pytest_etcdtls.checks.registry import check
from pytest_etcdtls.checks.results import Finding, Statement, not_verified
from pytest_etcdtls.errors import missing
from pytest_etcdtls.facts.certificates import ServedByMembers
from pytest_etcdtls.facts.etcd_log import EtcdLogs, ReadLog
from pytest_etcdtls.facts.members import SideBySide
from pytest_etcdtls.facts.peer_connections import PeerConnections
from pytest_etcdtls.pki.certificate import name_list
from pytest_etcdtls.role import Role
from pytest_etcdtls.tls.command import GOOD_CLIENT, Command, curl
from pytest_etcdtls.untrusted.printable import listed

_SHOWN = 9
"""The most members that one message lists."""

_OPTIONS = ("--etcd-endpoint", "--etcd-metrics-endpoint", "--etcd-discover")
_PASSED = "a client certificate that every member accepts, and {} or {} of each, or {}".format(*_OPTIONS)


def _without_a_peer(connections: PeerConnections, **_: object) -> Mapping[str, Any]:
    (first, peers), *others = connections.peers.items()
    lonely = replace(peers, active=frozenset())
    return {"connections": replace(connections, peers={first: lonely, **dict(others)})}


@check("cluster.members-connected", on=set(), counterexample=_without_a_peer)
def every_member_can_dial_every_other(
    connections: PeerConnections,
    side_by_side: SideBySide | None,
    served: ServedByMembers | None,
    logs: EtcdLogs | None,
) -> Iterator[Statement]:
    """Every member can dial every other member that answers.

    Members are clients of each other, with TLS versions, cipher suites and certificates of their own. If one
    cannot dial another, the cluster stays healthy while a third one connects both, and may lose its quorum
    when that one stops. etcd counts active connections: `etcd_network_active_peers` of /metrics. A member
    that lacks one is asked again after a second, or five if one has just started. The reason is looked for
    in etcd's logs, then in what both members serve.

    Spec: etcd Documentation, metrics, Network
    Spec: etcd THREAT_MODEL.md, Peer-to-Peer Boundary
    Follows: cluster.one-cluster, cert.client-usage, cert.valid-now, cluster.same-ca,
        config.peer-trusted-ca-in-force
    Severity: high
    Level: MUST
    Remediation: give both members the same --tls-min-version, --tls-max-version, --cipher-suites and
        --peer-trusted-ca-file, and certificates of that CA with serverAuth and clientAuth that no
        --peer-crl-file revokes and that name the address from which the member dials. If curl from the one
        member reaches the peer port of the other, restart the member that counts no connection.
    """
    names = {identifier: member.name for identifier, member in connections.started.items()}
    unknown: list[str] = []
    for pair in combinations(names, 2):
        ways = [
            (member, other)
            for member, other in (pair, pair[::-1])
            if member in connections.peers and other not in connections.peers[member].active
        ]
        if ways and connections.answering.issuperset(pair):
            reasons = (_reason(*way, connections, side_by_side, served, logs) for way in ways)
            yield Finding(
                message=": ".join(filter(None, [_who(ways, names), next(filter(None, reasons), "")])),
                expected="an active connection with each member that answers",
                observed="; ".join(
                    f"{names[member]}: none with {names[other]}, {lost.get(other, 0)} lost"
                    for member, other in ways
                    for lost in [connections.peers[member].lost]
                ),
                reproduce=tuple(_look(*way, connections) for way in ways),
            )
        elif ways:
            member, other = (names[identifier] for identifier in ways[0])
            unknown.append(f"{member} has no active connection with {other}, which did not answer here")
    if without := [name for member, name in names.items() if member not in connections.peers]:
        unknown.append(
            f"the connections of {listed(without, ', ', _SHOWN)} are not known without its metrics"
        )
    if unknown:
        yield not_verified(missing(listed(unknown, "; ", _SHOWN), *_OPTIONS, passing=_PASSED))


def _who(ways: Sequence[tuple[str, str]], names: Mapping[str, str]) -> str:
    member, other = (names[identifier] for identifier in ways[0])
    if len(ways) > 1:
        return f"{member} and {other} have no active connection with each other"
    return f"{member} has no active connection with {other}"


def _look(member: str, other: str, connections: PeerConnections) -> Command:
    look = f'etcd_network_active_peers with Remote="{other}": 1 if connected; 0 or no line if not'
    return curl(connections.peers[member].listener.url, path="/metrics", client=GOOD_CLIENT, look=look)


def _reason(
    member: str,
    other: str,
    connections: PeerConnections,
    side_by_side: SideBySide | None,
    served: ServedByMembers | None,
    logs: EtcdLogs | None,
) -> str:
    """Return what forbids that a member dials another; empty if nothing known does."""
    if other not in connections.peers:
        return ""
    here, there = (connections.peers[identifier].listener.member for identifier in (member, other))
    for log in logs.logs if logs else ():
        for rejected in log.others if log.members == (there,) else ():
            if rejected.endpoint == Role.PEER and _is_recent(rejected.last, log):
                return f"{log.source}, line {rejected.line}: {rejected.example}"
    profiles = [profile for row in (side_by_side.rows if side_by_side else ()) for profile in row]
    known = {profile.listener.member: profile for profile in profiles if profile.listener.role is Role.PEER}
    if here not in known or there not in known:
        return ""
    client, server = known[here], known[there]
    dialling, dialled = (connections.started[identifier].name for identifier in (member, other))
    if not set(client.versions) & set(server.versions):
        return f"{dialling} has {', '.join(client.versions)}, and {dialled} {', '.join(server.versions)}"
    for listener, chain in served.chains if served else ():
        issuers = [certificate.issuer for certificate in chain.certificates]
        if listener.label == client.listener.label and set(issuers).isdisjoint(server.announced or issuers):
            trusted = name_list(server.announced)
            return f"{dialled} trusts {trusted}, and {dialling} serves {name_list(issuers)}"
    return ""


def _is_recent(last: datetime | None, log: ReadLog) -> bool:
    """Return whether a line may be of now: a member that cannot dial another tries ten times a second."""
    return last is None or log.latest is None or log.latest - last < timedelta(minutes=1)
