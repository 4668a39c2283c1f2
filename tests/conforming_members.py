"""Conforming samples of what etcd answers, of releases, of members side by side; part of ``conforming``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from typing import Protocol as Shape

from pytest_etcdtls.facts.access import IdentityAttempt, IdentityAttempts, SplitRevocation
from pytest_etcdtls.facts.api import (
    GatewayAnswer,
    GRPCOverHTTP1,
    MemberRecord,
    NegotiatedExchange,
    RangeAnswer,
    UnauthenticatedExchange,
)
from pytest_etcdtls.facts.discovery import (
    DiscoveredMember,
    Discovery,
    MemberURL,
    QueriedBy,
    Question,
    Reachability,
)
from pytest_etcdtls.facts.member_list import MemberListing, MemberListings
from pytest_etcdtls.facts.members import (
    AdvertisedURL,
    AdvertisedURLs,
    ClusterClaim,
    ClusterClaims,
    ListenerProfile,
    MemberCount,
    SideBySide,
)
from pytest_etcdtls.facts.release import (
    EtcdRelease,
    EtcdReleases,
    GoRelease,
    GoReleases,
    Release,
    SplitListeners,
)
from pytest_etcdtls.role import Protocol, TLSVersion
from pytest_etcdtls.tls.attempt import Attempt, Ending, Response

NOT_THERE = {
    "metrics": {"/version", "/debug/vars", "/v3/maintenance/status"},
    "client": {"/v2/keys", "/debug/pprof/"},
}
"""What a conforming listener of that role answers with 404."""

MEMBERS = tuple(
    MemberRecord(
        id=identifier,
        name=name,
        peer_urls=(f"https://{name}.example:2380",),
        client_urls=(f"https://{name}.example:2379",),
    )
    for name, identifier in (("m0", "8e9e05c52164694d"), ("m1", "1"))
)


class Place(Shape):
    """What is used of ``conforming.Place``."""

    @property
    def url(self) -> str: ...

    @property
    def role(self) -> str: ...

    @property
    def protocols(self) -> tuple[Protocol, ...]: ...

    @property
    def trusted(self) -> Any: ...

    def attempt(self, **changes: Any) -> Attempt: ...

    def refused(self, **changes: Any) -> Attempt: ...


def _stranger(place: Place, key: str | None) -> UnauthenticatedExchange:
    return UnauthenticatedExchange(
        url=place.url,
        role=place.role,
        path=str(key),
        tries=(place.refused(identity="none"),),
        control=place.attempt(),
    )


def _grpc_over_http1(place: Place, key: str | None) -> GRPCOverHTTP1:
    return GRPCOverHTTP1(url=place.url, tries=(place.attempt(response=Response(status=404)),))


def _range(place: Place, key: str | None) -> RangeAnswer:
    return RangeAnswer(url=place.url, tries=(place.attempt(),), status=0, well_formed=True)


def _encounters(place: Place, key: str | None) -> IdentityAttempts:
    def encounter(
        identity: str, version: TLSVersion, protocol: Protocol, attempt: Attempt
    ) -> IdentityAttempt:
        return IdentityAttempt(
            url=place.url, identity=identity, version=version, protocol=protocol, attempt=attempt
        )

    here = [
        encounter(identity, version, protocol, attempt)
        for version in TLSVersion
        for protocol in place.protocols
        for identity, attempt in (("client", place.attempt()), ("none", place.refused()))
    ]
    return IdentityAttempts(url=place.url, role=place.role, here=tuple(here))


def profile(place: Place, member: str) -> ListenerProfile:
    """Return what is seen of a conforming listener of that member."""
    return ListenerProfile(
        url=f"https://{member}.example:2379",
        role=place.role,
        label=f"client-{member}",
        member=member,
        versions=("TLSv1.2", "TLSv1.3"),
        asked=("TLSv1.2", "TLSv1.3"),
        announced=frozenset({place.trusted.subject}),
        expires_at=datetime.now(UTC) + timedelta(days=90),
    )


def _side_by_side(place: Place, key: str | None) -> SideBySide:
    return SideBySide(rows=(tuple(profile(place, member) for member in ("m0", "m1", "m2")),))


def _claims(place: Place, key: str | None) -> ClusterClaims:
    return ClusterClaims(
        claims=tuple(
            ClusterClaim(url=member.client_urls[0], cluster_id="c0ffee", member_id=member.id)
            for member in MEMBERS
        )
    )


def _listings(place: Place, key: str | None) -> MemberListings:
    return MemberListings(
        listings=tuple(
            MemberListing(url=member.client_urls[0], member=member.name, members=MEMBERS, cluster_id="c0ffee")
            for member in MEMBERS
        )
    )


def _advertised(place: Place, key: str | None) -> AdvertisedURLs:
    return AdvertisedURLs(
        urls=tuple(
            AdvertisedURL(url=member.client_urls[0], member=member.name, attempts=(place.refused(),))
            for member in MEMBERS
        )
    )


def discovered(member: MemberRecord, fate: Reachability = Reachability.FOUND) -> DiscoveredMember:
    """Return a member whose listeners are judged."""
    urls = [("client", url) for url in member.client_urls] + [("peer", url) for url in member.peer_urls]
    return DiscoveredMember(
        id=member.id,
        name=member.name,
        learner=False,
        started=True,
        urls=tuple(
            MemberURL(url=url, role=role, fate=fate, listener=f"{role}-{member.name}") for role, url in urls
        ),
    )


def _discovery(place: Place, key: str | None) -> Discovery:
    return Discovery(
        questions=(Question(url=MEMBERS[0].client_urls[0], means=QueriedBy.GRPC),),
        members=tuple(discovered(member) for member in MEMBERS),
    )


def _etcd(place: Place, key: str | None, member: str = "m0") -> EtcdRelease:
    return EtcdRelease(url=place.url, member=member, release=Release(3, 6, 16), source="/version")


def _etcds(place: Place, key: str | None) -> EtcdReleases:
    return EtcdReleases(members=tuple(_etcd(place, key, member) for member in ("m0", "m1")))


def _gos(place: Place, key: str | None) -> GoReleases:
    go = GoRelease(url=place.url, member="m0", release=Release(1, 26, 8), text="go1.26.8")
    return GoReleases(members=(go, replace(go, member="m1")))


def split_revocation(grpc: Any, http: Any) -> SplitRevocation:
    """Return a revoked identity that both ports of a split set-up refuse, from two admissions of it."""

    def closed(cell: Any) -> Any:
        return replace(cell, tries=(replace(cell.attempt, ending=Ending.CLOSED, alert=None),))

    return SplitRevocation(grpc=grpc, http=replace(http, cells=tuple(closed(cell) for cell in http.cells)))


SAMPLES: dict[type[Any], Callable[[Any, str | None], Any]] = {
    UnauthenticatedExchange: _stranger,
    NegotiatedExchange: lambda place, key: NegotiatedExchange(
        url=place.url, role=place.role, tries=(place.attempt(),)
    ),
    GRPCOverHTTP1: _grpc_over_http1,
    GatewayAnswer: lambda place, key: GatewayAnswer(
        url=place.url,
        role=place.role,
        tries=(place.attempt(protocol=Protocol.GATEWAY),),
        identity="client",
        files=("client.crt", "client.key"),
    ),
    RangeAnswer: _range,
    IdentityAttempts: _encounters,
    SideBySide: _side_by_side,
    MemberCount: lambda place, key: MemberCount(given=2, listed=2),
    ClusterClaims: _claims,
    MemberListings: _listings,
    AdvertisedURLs: _advertised,
    Discovery: _discovery,
    EtcdRelease: _etcd,
    EtcdReleases: _etcds,
    GoReleases: _gos,
    SplitListeners: lambda place, key: SplitListeners(members=(_etcd(place, key),)),
}
