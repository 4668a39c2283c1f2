"""What the members say of the cluster, and what they advertise to clients and to each other."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pytest_etcdtls.observations.api import MemberRecord
from pytest_etcdtls.observations.attempt import Attempt, Ending, Stage, Way
from pytest_etcdtls.observations.cluster import (
    AdvertisedURL,
    AdvertisedURLs,
    ClusterClaims,
    MemberListing,
    MemberListings,
)
from pytest_etcdtls.registry import check
from pytest_etcdtls.reproduce import GOOD_CLIENT, curl, etcdctl
from pytest_etcdtls.results import Finding, Note, Outcome, Statement, Verdict

_FAILS = '"Failed to connect" or "Connection refused"'
_LISTED = "the URLs of each member, peer URLs before client URLs"
_IDS = '"ClusterID" and "MemberID"'
_NO_TLS = ("http://", "unix://")


def _with_member(listings: MemberListings, member: MemberRecord) -> Mapping[str, Any]:
    first, *others = listings.listings
    return {"listings": replace(listings, listings=(replace(first, members=(member,)), *others))}


def _plain_clients(listings: MemberListings) -> Mapping[str, Any]:
    member = listings.listings[0].members[0]
    return _with_member(listings, replace(member, client_urls=("http://10.0.0.1:2379",)))


@check("cluster.advertised-https", on=frozenset(), counterexample=_plain_clients)
def advertised_client_urls_are_https(listings: MemberListings) -> Iterator[Statement]:
    """Every client URL that a member advertises is https.

    Clients that ask for the members follow these URLs: an http one leads them away from TLS, or nowhere.

    Spec: etcd --advertise-client-urls
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Severity: high
    Level: MUST
    Remediation: name https URLs only in --advertise-client-urls.
    """
    plain = {
        url: member.name
        for member in _members(listings)
        for url in member.client_urls
        if url.startswith(_NO_TLS)
    }
    yield from _without_tls(listings, plain, "advertise client URLs without TLS")


def _plain_peers(listings: MemberListings) -> Mapping[str, Any]:
    member = listings.listings[0].members[0]
    return _with_member(listings, replace(member, peer_urls=("http://10.0.0.1:2380",)))


@check("cluster.peer-urls-https", on=frozenset(), counterexample=_plain_peers)
def peer_urls_are_https(listings: MemberListings) -> Iterator[Statement]:
    """Every peer URL of every member is https.

    Members send each other the whole key space over them.

    Spec: etcd --initial-advertise-peer-urls
    Spec: etcd THREAT_MODEL.md, Peer-to-Peer Boundary
    Severity: critical
    Level: MUST
    Remediation: change it with etcdctl member update ID --peer-urls=https://..., and
        --listen-peer-urls with it.
    """
    plain = {
        url: member.name
        for member in _members(listings)
        for url in member.peer_urls
        if url.startswith(_NO_TLS)
    }
    yield from _without_tls(listings, plain, "have peer URLs without TLS")


def _without_tls(listings: MemberListings, plain: Mapping[str, str], message: str) -> Iterator[Statement]:
    if plain:
        yield Finding(
            message=f"members {message}",
            expected="https URLs",
            observed="; ".join(f"{name or 'a member'}: {url}" for url, name in sorted(plain.items())),
            reproduce=(etcdctl(listings.listings[0].url, GOOD_CLIENT, "member list", _LISTED),),
        )


def _members(listings: MemberListings) -> Iterator[MemberRecord]:
    for listing in listings.listings:
        yield from listing.members


def _unreachable(advertised: AdvertisedURLs) -> Mapping[str, Any]:
    def refused(attempt: Attempt) -> Attempt:
        return replace(
            attempt,
            way=Way.UNCLEAR,
            stage=Stage.CONNECT,
            ending=Ending.CONNECTION_REFUSED,
            alert=None,
            detail="Connection refused",
        )

    first, *others = advertised.urls
    changed = replace(first, attempts=tuple(refused(attempt) for attempt in first.attempts))
    return {"advertised": replace(advertised, urls=(changed, *others))}


@check("cluster.advertised-reachable", on=frozenset(), counterexample=_unreachable)
def advertised_client_urls_are_reachable(advertised: AdvertisedURLs) -> Iterator[Statement]:
    """Every client URL that a member advertises answers.

    Clients that ask for the members connect to these, and nobody notices until the endpoints that they
    started with are gone. Only hosts that were named are contacted, those that `--etcd-discover` finds, and
    those of a cluster started here.

    Spec: etcd --advertise-client-urls
    Severity: medium
    Level: SHOULD
    Remediation: name in --advertise-client-urls what clients can reach, from where they are.
    """
    for found in advertised.urls:
        if not found.attempts:
            yield Verdict(Outcome.NOT_VERIFIED, f"{found.url}: {found.why_not}")
        elif not any(attempt.way is not Way.UNCLEAR for attempt in found.attempts):
            yield _silent(found)


def _silent(found: AdvertisedURL) -> Statement:
    last = found.attempts[-1]
    if last.stage is not Stage.CONNECT or last.ending not in (Ending.FAILED, Ending.CONNECTION_REFUSED):
        return Verdict(Outcome.INCONCLUSIVE, f"{found.url}: {last.describe()}")
    return Finding(
        message=f"{found.url}, which {found.member or 'a member'} advertises, is not reachable",
        expected="an answer",
        observed=last.describe(),
        reproduce=(curl(found.url, role="client", files=GOOD_CLIENT, look=_FAILS),),
    )


def _one_less(listings: MemberListings) -> Mapping[str, Any]:
    first, *others = listings.listings
    return {"listings": replace(listings, listings=(replace(first, members=()), *others))}


@check("cluster.members-agree", on=frozenset(), counterexample=_one_less)
def every_member_lists_the_same_members(listings: MemberListings) -> Iterator[Statement]:
    """Every member of a cluster lists the same members.

    One that lists others was cut off, or was restored from an old copy.

    Spec: etcd Documentation, runtime reconfiguration
    Severity: high
    Level: SHOULD
    Remediation: compare with etcdctl member list --endpoints=..., and see the log of the one that differs.
    """
    # The two ports of one member are compared by api.peer-members.
    by_cluster: dict[str | None, dict[str, MemberListing]] = defaultdict(dict)
    for listing in listings.listings:
        by_cluster[listing.cluster_id].setdefault(listing.member, listing)
    if all(len(group) < 2 for group in by_cluster.values()):
        yield Verdict(Outcome.NOT_APPLICABLE, "one member only gave its list")
        return
    for group in by_cluster.values():
        lists = {listing.url: frozenset(listing.members) for listing in group.values()}
        if len(set(lists.values())) > 1:
            yield Finding(
                message="members of one cluster list different members",
                expected="the same list from everybody",
                observed="; ".join(f"{url}: {_shown(members)}" for url, members in lists.items()),
                reproduce=tuple(etcdctl(url, GOOD_CLIENT, "member list", _LISTED) for url in lists),
            )


def _shown(members: frozenset[MemberRecord]) -> str:
    rows = (f"{member.id} {member.name or '(not started)'}" for member in members)
    return ", ".join(sorted(rows)) or "nobody"


def _stranger(claims: ClusterClaims, listings: MemberListings) -> Mapping[str, Any]:
    first, *others = claims.claims
    return {"claims": replace(claims, claims=(replace(first, cluster_id="bad0"), *others))}


@check("cluster.one-cluster", on=frozenset(), counterexample=_stranger)
def every_listener_belongs_to_one_cluster(
    claims: ClusterClaims, listings: MemberListings
) -> Iterator[Statement]:
    """Every listener says the same cluster ID, and is a member of it.

    Otherwise an endpoint leads to another etcd than meant, which may accept the same certificates.

    Spec: etcd Documentation, API reference, ResponseHeader
    Severity: high
    Level: MUST
    Remediation: name endpoints of one cluster; look for a stale instance, or a wrong port forward.
    """
    if len({claim.cluster_id for claim in claims.claims}) > 1:
        yield Finding(
            message="the listeners belong to different clusters",
            expected="one cluster ID",
            observed="; ".join(f"{claim.url}: {claim.cluster_id}" for claim in claims.claims),
            reproduce=tuple(
                etcdctl(claim.url, GOOD_CLIENT, "endpoint status --write-out=fields", _IDS)
                for claim in claims.claims
            ),
        )
        return
    known = {member.id for member in _members(listings)}
    strangers = [claim for claim in claims.claims if claim.member_id and claim.member_id not in known]
    for claim in strangers:
        yield Finding(
            message=f"{claim.url} is no member of its cluster",
            expected=f"one of {', '.join(sorted(known))}",
            observed=str(claim.member_id),
            reproduce=(etcdctl(claim.url, GOOD_CLIENT, "endpoint status --write-out=fields", _IDS),),
        )
    members = {claim.member_id for claim in claims.claims if claim.member_id}
    yield Note(f"cluster {claims.claims[0].cluster_id}, {len(members)} of {len(known)} members seen")
