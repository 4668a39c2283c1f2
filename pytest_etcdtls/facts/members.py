"""Comparison of the members of a cluster."""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.errors import NotApplicableError, NotVerifiedError, UnobservedError
from pytest_etcdtls.facts.access import ServedClient
from pytest_etcdtls.facts.certificates import AnnouncedCAs, Dialling, ServedChain
from pytest_etcdtls.facts.discovery import MOST_LISTENERS, Discovered, judged_for, why_left_out
from pytest_etcdtls.facts.listener import FirstContact, Policy, listener_of
from pytest_etcdtls.facts.member_list import (
    SAMPLE_MEMBERS,
    Endpoint,
    MemberListing,
    MemberListings,
    canonical,
    parse,
)
from pytest_etcdtls.facts.probe import SAMPLED_AT, Context, SampleListener, observed, probe, sample
from pytest_etcdtls.role import Protocol, Role, TLSVersion
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Attempt
from pytest_etcdtls.tls.http import fields, grpc_fields


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerProfile:
    """Facts of a listener that a client without a certificate can observe.

    Attributes:
        member: label of its member.
        versions: TLS versions that it offers.
        requested_in: the TLS versions in which it requests a certificate.
        announced: the names of the CAs that it announces, in any TLS version.
        expires_at: notAfter of the certificate that it serves, aware UTC.
    """

    url: str
    role: str
    label: str
    member: str
    versions: tuple[str, ...]
    requested_in: tuple[str, ...]
    announced: frozenset[x509.Name]
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SideBySide:
    """The TLS listeners of at least two members, grouped by role."""

    rows: tuple[tuple[ListenerProfile, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberCount:
    """Number of members of the target and of the cluster.

    Attributes:
        given: members whose listeners were given.
        listed: members in the longest list that a listener returned; ``None`` if none did.
    """

    given: int
    listed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterClaim:
    """The cluster that a listener reports to belong to.

    Attributes:
        cluster_id: in lower-case hexadecimal.
        member_id: in lower-case hexadecimal; ``None`` from a peer listener, which does not report it.
    """

    url: str
    cluster_id: str
    member_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterClaims:
    """The cluster and member IDs that at least two listeners report."""

    claims: tuple[ClusterClaim, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvertisedURL:
    """A client URL that a member advertises, and the result of contacting it.

    Attributes:
        member: the member's name, as etcd lists it.
        attempts: the contacts, one per TLS version, or one in plaintext; empty if none was made.
        why_not: why no contact was made, empty if one was.
    """

    url: str
    member: str
    attempts: tuple[Attempt, ...] = ()
    why_not: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvertisedURLs:
    """Every client URL that the members advertise."""

    urls: tuple[AdvertisedURL, ...]


@probe(SideBySide, cost=0, needs=[FirstContact, AnnouncedCAs, ServedChain, MemberCount], across=True)
def _side_by_side(context: Context) -> SideBySide:
    rows: list[tuple[ListenerProfile, ...]] = []
    for role in Role:
        row = [_profile(context, listener) for listener in context.target.listeners if listener.role is role]
        seen = tuple(profile for profile in row if profile is not None)
        if len({profile.member for profile in seen}) > 1:
            rows.append(seen)
    if not rows:
        raise _one_member_only(context)
    return SideBySide(rows=tuple(rows))


def _profile(context: Context, listener: Listener) -> ListenerProfile | None:
    """Return the profile of the listener, ``None`` if the server sent no TLS message."""
    announced = observed(context, AnnouncedCAs, listener=listener)
    served = observed(context, ServedChain, listener=listener)
    if announced is None or served is None:
        return None
    return ListenerProfile(
        url=listener.url,
        role=listener.role,
        label=listener.label,
        member=listener.member,
        versions=tuple(version for version, _ in announced.requested),
        requested_in=tuple(version for version, requested in announced.requested if requested),
        announced=frozenset(name for _, names in announced.names for name in names),
        expires_at=served.leaf.not_valid_after_utc,
    )


def _one_member_only(context: Context) -> UnobservedError:
    """Return why members cannot be compared."""
    if context.get(MemberCount).listed == 1:
        return NotApplicableError("the cluster has one member")
    if context.target.discover:
        return NotVerifiedError("needs TLS listeners of two members that answer")
    return NotVerifiedError(
        "needs TLS listeners of two members: pass --etcd-endpoint for each of them, or --etcd-discover"
    )


@probe(MemberCount, cost=0, needs=[MemberListings], across=True)
def _count(context: Context) -> MemberCount:
    given = len({listener.member for listener in context.target.listeners})
    found = observed(context, MemberListings)
    listed = max(len(listing.members) for listing in found.listings) if found else None
    return MemberCount(given=given, listed=listed)


@probe(ClusterClaims, cost=0, needs=[ServedClient, MemberListing], across=True)
def _claims(context: Context) -> ClusterClaims:
    claims = [claim for one in context.target.listeners if (claim := _claim(context, one))]
    if len(claims) < 2:
        raise NotVerifiedError("needs two listeners that report which cluster they belong to")
    return ClusterClaims(claims=tuple(claims))


def _claim(context: Context, listener: Listener) -> ClusterClaim | None:
    if listener.role is Role.CLIENT and (claim := _of_status(context, listener)):
        return claim
    if listener.role not in (Role.CLIENT, Role.PEER):
        return None
    listing = observed(context, MemberListing, listener=listener)
    if listing is None or listing.cluster_id is None:
        return None
    return ClusterClaim(url=listener.url, cluster_id=listing.cluster_id)


def _of_status(context: Context, listener: Listener) -> ClusterClaim | None:
    """Return the claim in the header of the StatusResponse to the good client."""
    served = observed(context, ServedClient, listener=listener)
    for attempt in served.client.served_over(Protocol.GRPC) if served and served.client else ():
        try:
            header = grpc_fields(attempt.response).get(1, [b""])[0]
            found = fields(header) if isinstance(header, bytes) else {}
        except ValueError:
            continue
        # ResponseHeader in rpc.proto: cluster_id, member_id.
        cluster_id, member_id = (found.get(number, [0])[0] for number in (1, 2))
        if isinstance(cluster_id, int) and isinstance(member_id, int) and cluster_id:
            return ClusterClaim(url=listener.url, cluster_id=f"{cluster_id:x}", member_id=f"{member_id:x}")
    return None


@probe(
    AdvertisedURLs,
    cost=0,
    needs=lambda planned: [MemberListings, FirstContact, *([Discovered] if planned.target.discover else [])],
    across=True,
    advertised=[FirstContact],
)
def _advertised(context: Context) -> AdvertisedURLs:
    urls = {
        url: member.name
        for listing in context.get(MemberListings).listings
        for member in listing.members
        for url in member.client_urls
    }
    if not urls:
        raise NotApplicableError("no member advertises a client URL yet")
    if len(urls) > MOST_LISTENERS:
        raise NotVerifiedError(
            f"{len(urls)} client URLs are advertised; {MOST_LISTENERS} are contacted at most"
        )
    return AdvertisedURLs(urls=tuple(_contact(context, url, name) for url, name in sorted(urls.items())))


def _contact(context: Context, url: str, member: str) -> AdvertisedURL:
    listener = _known(context, url)
    if listener is None:
        return AdvertisedURL(url=url, member=member, why_not=_why_not(context, url))
    try:
        answer = context.get(FirstContact, listener=listener)
    except UnobservedError as unobserved:
        return AdvertisedURL(url=url, member=member, why_not=unobserved.reason)
    plaintext = (answer.plaintext,) if answer.plaintext is not None else ()
    return AdvertisedURL(url=url, member=member, attempts=(*answer.tls, *plaintext))


def _known(context: Context, url: str) -> Listener | None:
    """Return the listener of that URL, or a new one if its host may be contacted, else ``None``."""
    try:
        endpoint = parse(url)
    except ValueError:
        return None
    for listener in context.target.listeners:
        if Endpoint(listener.scheme, canonical(listener.host), listener.port) == endpoint:
            return listener
    if context.target.discover:
        return judged_for(context, url)
    named = {listener.host for listener in context.target.listeners if listener.connect_to is None}
    replayed = context.target.replay is not None
    # A replayed declaration advertises the user's own member, which may run: its address is not contacted.
    rules = context.target.connect_to
    redirected = (there for rule in rules if (there := rule.redirected(endpoint.host, endpoint.port)))
    connect_to = next(redirected, None) if replayed else None
    may_contact = endpoint.host in named or context.target.origin == "process"
    if not (connect_to if replayed else may_contact):
        return None
    return Listener(
        role=Role.CLIENT,
        scheme=endpoint.scheme,
        host=endpoint.host,
        port=endpoint.port,
        member=endpoint.host,
        label=f"advertised-{endpoint.host.replace(':', '.')}-{endpoint.port}",
        connect_to=connect_to,
        discovered=True,
        may_be_local=True,
    )


def _why_not(context: Context, url: str) -> str:
    if context.target.discover:
        return why_left_out(context, url)
    try:
        parse(url)
    except ValueError as error:
        return str(error)
    why_not = "it was not named, and only named hosts are contacted: pass --etcd-endpoint for it"
    return f"{why_not}, or --etcd-discover"


@probe(Policy, cost=0)
def _policy(context: Context) -> Policy:
    return Policy(expiry_days=context.target.expiry_days, thresholds=context.target.thresholds)


@probe(Dialling, cost=0, needs=[MemberListing])
def _dialling(context: Context) -> Dialling:
    role, known = listener_of(context).role, context.target.dials_with_another
    if known is not None:
        return Dialling(with_another=role in known)
    listing = observed(context, MemberListing) if role is Role.PEER else None
    return Dialling(with_another=None, members=len(listing.members) if listing else None)


@sample(SideBySide)
def _sample_side_by_side(listener: SampleListener) -> SideBySide:
    row = tuple(
        ListenerProfile(
            url=f"https://{member}.example:2379",
            role=listener.role,
            label=f"client-{member}",
            member=member,
            versions=tuple(TLSVersion),
            requested_in=tuple(TLSVersion),
            announced=frozenset({listener.trusted.subject}),
            expires_at=SAMPLED_AT + timedelta(days=90),
        )
        for member in ("m0", "m1", "m2")
    )
    return SideBySide(rows=(row,))


@sample(MemberCount)
def _sample_count(_: SampleListener) -> MemberCount:
    return MemberCount(given=2, listed=2)


@sample(ClusterClaims)
def _sample_claims(_: SampleListener) -> ClusterClaims:
    return ClusterClaims(
        claims=tuple(
            ClusterClaim(url=member.client_urls[0], cluster_id="c0ffee", member_id=member.id)
            for member in SAMPLE_MEMBERS
        )
    )


@sample(AdvertisedURLs)
def _sample_advertised(listener: SampleListener) -> AdvertisedURLs:
    return AdvertisedURLs(
        urls=tuple(
            AdvertisedURL(url=member.client_urls[0], member=member.name, attempts=(listener.refused(),))
            for member in SAMPLE_MEMBERS
        )
    )
