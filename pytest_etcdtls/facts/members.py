"""Comparison of the members of a cluster: their TLS listeners, their IDs, and the URLs that they advertise.

A member differs from the others if it was not restarted or renewed with them, or belongs to another cluster.
Each fact here is about the whole target, and reads facts of several listeners.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from cryptography import x509
from msgspec import Struct

from pytest_etcdtls.errors import (
    NotApplicableError,
    NotVerifiedError,
    Reason,
    UnobservedError,
    UsageError,
    missing,
    needs,
)
from pytest_etcdtls.facts.access import AcceptedClient, Candidate, ServedClient
from pytest_etcdtls.facts.api import Metrics, OtherPort
from pytest_etcdtls.facts.certificates import AnnouncedCAs, Dialling
from pytest_etcdtls.facts.discovery import MOST_LISTENERS, Discovered, listed_listener, peer_ports
from pytest_etcdtls.facts.fact import Each, Elsewhere, Lazy, fact
from pytest_etcdtls.facts.good_identities import ISSUED
from pytest_etcdtls.facts.listener import FirstContact, ServedChain, refuses_connections
from pytest_etcdtls.facts.member_list import (
    MemberListing,
    MemberListings,
    MemberRecord,
    canonical,
    endpoint_of,
    parse,
    reported_ids,
    reported_member,
)
from pytest_etcdtls.facts.stopping import SecondLook, why_stopping
from pytest_etcdtls.pki.certificate import load_certificates
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import Attempt


class ListenerProfile(Struct, frozen=True, kw_only=True):
    """Facts of a listener that a client without a certificate can observe.

    Attributes:
        versions: TLS versions that it offers.
        requested_in: the TLS versions in which it requests a certificate.
        announced: the names of the CAs that it announces, as :attr:`AnnouncedCAs.most` has them.
        expires_at: notAfter of the certificate that it serves, aware UTC.
    """

    listener: Listener
    versions: tuple[str, ...]
    requested_in: tuple[str, ...]
    announced: tuple[x509.Name, ...]
    expires_at: datetime


class SideBySide(Struct, frozen=True, kw_only=True):
    """The TLS listeners of at least two members, grouped by role."""

    rows: tuple[tuple[ListenerProfile, ...], ...]


class IssuedClients(Struct, frozen=True):
    """The client issued with a CA's key, on the client and peer listeners that accept some client."""

    clients: tuple[tuple[Listener, Candidate], ...]


class ClusterClaim(Struct, frozen=True, kw_only=True):
    """The cluster that a listener reports to belong to.

    Attributes:
        cluster_id: in lower-case hexadecimal; empty if it is known from ``/metrics``, which lacks it.
        member_id: in lower-case hexadecimal; empty from a peer listener, which does not report it.
    """

    listener: Listener
    cluster_id: str = ""
    member_id: str = ""


class ClusterClaims(Struct, frozen=True, kw_only=True):
    """The cluster and member IDs that at least two listeners report."""

    claims: tuple[ClusterClaim, ...]


class PortOfMember(Struct, frozen=True):
    """A port of etcd.

    Attributes:
        member: the name or label of its member.
        listener: the label of the listener that is judged there; empty if none is.
    """

    role: Role
    member: str
    listener: str = ""


class AdvertisedURL(Struct, frozen=True, kw_only=True):
    """A URL that a member advertises, and the result of contacting it.

    Attributes:
        member: the member's name, as etcd lists it.
        role: of the port that it is advertised for: ``client`` or ``peer``.
        port: the other port of which it is the URL; ``None`` if nothing shows that.
        attempts: the contacts, one per TLS version, or one in plaintext; empty if none was made.
        why_not: why no contact was made, empty if one was.
    """

    url: str
    member: str
    role: Role = Role.CLIENT
    port: PortOfMember | None = None
    attempts: tuple[Attempt, ...] = ()
    why_not: Reason | str = ""


class AdvertisedURLs(Struct, frozen=True, kw_only=True):
    """Every client URL that the members advertise, and peer URLs that are those of other ports."""

    urls: tuple[AdvertisedURL, ...]


@fact
def side_by_side(
    target: Target,
    announced: Each[AnnouncedCAs],
    chains: Each[ServedChain],
    listings: Lazy[MemberListings],
) -> SideBySide:
    """Return the profiles of the listeners that serve TLS, by role, where two members have some."""
    rows: list[tuple[ListenerProfile, ...]] = []
    for role in Role:
        row = [
            _profile(listener, announced.known(listener), chains.known(listener))
            for listener in target.listeners
            if listener.role is role
        ]
        profiles = tuple(profile for profile in row if profile is not None)
        if len({profile.listener.member for profile in profiles}) > 1:
            rows.append(profiles)
    if not rows:
        raise _one_member_only(target, listings.known())
    return SideBySide(rows=tuple(rows))


@fact(reported=False)
def issued_clients(
    target: Target, good: Each[AcceptedClient], issued: Each[Annotated[Candidate, ISSUED]]
) -> IssuedClients:
    """Return the attempts with the client certificate that this run issued, if the CA's key is known."""
    return IssuedClients(
        tuple(
            (listener, client)
            for listener, tried in good
            if listener.role in (Role.CLIENT, Role.PEER) and tried.accepted is not None
            if (client := issued.known(listener)) is not None
        )
    )


def _profile(
    listener: Listener, announced: AnnouncedCAs | None, served: ServedChain | None
) -> ListenerProfile | None:
    """Return the profile of the listener, ``None`` if the server sent no TLS message."""
    if announced is None or served is None:
        return None
    return ListenerProfile(
        listener=listener,
        versions=tuple(version for version, _ in announced.requested),
        requested_in=tuple(version for version, requested in announced.requested if requested),
        announced=announced.most,
        expires_at=served.leaf.not_valid_after_utc,
    )


_OF_MEMBERS = ("--etcd-endpoint", "--etcd-discover")


def _one_member_only(target: Target, listings: MemberListings | None) -> UnobservedError:
    """Return why members cannot be compared."""
    if listings is not None and listings.size == 1:
        return NotApplicableError("the cluster has one member")
    if target.discover:
        return NotVerifiedError(needs("TLS listeners of two members that answer"))
    passing = "--etcd-endpoint for each of them, or --etcd-discover"
    return NotVerifiedError(needs("TLS listeners of two members", *_OF_MEMBERS, passing=passing))


@fact
def cluster_claims(
    target: Target, clients: Each[ServedClient], lists: Each[MemberListing], metrics: Metrics
) -> ClusterClaims:
    """Return the IDs that the listeners report, where two of them do."""
    claims = [claim for listener in target.listeners if (claim := _claim(listener, clients, lists, metrics))]
    if len(claims) < 2:
        raise NotVerifiedError(needs("two listeners that report which cluster they belong to"))
    return ClusterClaims(claims=tuple(claims))


def _claim(
    listener: Listener, clients: Each[ServedClient], lists: Each[MemberListing], metrics: Metrics
) -> ClusterClaim | None:
    if listener.role is Role.CLIENT:
        cluster_id, member_id = reported_ids(clients.known(listener))
        if cluster_id:
            return ClusterClaim(listener=listener, cluster_id=cluster_id, member_id=member_id)
    if listener.role in (Role.CLIENT, Role.PEER):
        listing = lists.known(listener)
        if listing is None or listing.cluster_id is None:
            return None
        return ClusterClaim(listener=listener, cluster_id=listing.cluster_id)
    member_id = reported_member(clients, metrics, listener)
    return ClusterClaim(listener=listener, member_id=member_id) if member_id else None


@fact
def advertised_urls(
    target: Target,
    listings: MemberListings,
    discovered: Discovered | None,
    contacts: Each[FirstContact],
    elsewhere: Elsewhere[FirstContact],
    looks: Each[SecondLook],
    ports: Each[OtherPort],
    clients: Each[ServedClient],
) -> AdvertisedURLs:
    """Contact every client URL that the members advertise and that may be contacted.

    A URL of another port of etcd is not contacted. A listener of the run shows that it is one, by what it
    answers; else the member list does, where a member has the same URL for its peers. Of several members that
    advertise one URL, as that of a load balancer, the one that does not listen there is preferred.
    """
    advertisers: dict[str, list[MemberRecord]] = {}
    for member in listings.members:
        for url in member.client_urls:
            advertisers.setdefault(url, []).append(member)
    members = {url: records[0].name for url, records in advertisers.items()}
    if not members:
        raise NotApplicableError("no member advertises a client URL yet")
    if len(members) > MOST_LISTENERS:
        raise NotVerifiedError(
            f"{len(members)} client URLs are advertised; {MOST_LISTENERS} are contacted at most"
        )

    by_peers = peer_ports(listings.members)

    def owner_of(listener: Listener, sharing: Sequence[MemberRecord]) -> str:
        """Return the member whose listener it is; empty if it may be that of a load balancer."""
        if listener.member in target.declared:
            return target.declared[listener.member].declaration.name
        _, reported = reported_ids(clients.known(listener))
        others = [member for member in listings.members if member not in sharing]
        return next((one.name for one in listings.members if others and one.id == reported), "")

    def of_another_member(url: str) -> AdvertisedURL | None:
        """Return a URL of which another member's listener is the only one that a member advertises."""
        for member in advertisers[url]:
            here = [one for one in target.listeners if one.role is Role.CLIENT and one.url == url]
            owners = {owner_of(one, advertisers[url]) for one in here}
            if owners and "" not in owners and member.name not in owners and len(member.client_urls) == 1:
                port = PortOfMember(Role.CLIENT, min(owners), here[0].label)
                return AdvertisedURL(url=url, member=member.name, port=port)
        return None

    def port_of(url: str, role: Role) -> PortOfMember | None:
        try:
            endpoint = parse(url)
        except ValueError:
            return None
        place = (endpoint.host, endpoint.port)
        for listener in target.listeners:
            if (canonical(listener.host), listener.port) == place:
                shown = ports.known(listener)
                is_of = (shown.role if shown and shown.attempt else None) or listener.role
                return None if is_of is role else PortOfMember(is_of, listener.member, listener.label)
        record = by_peers.get(place) if role is Role.CLIENT else None
        return PortOfMember(Role.PEER, record.name or record.id) if record else None

    def contact(url: str, member: str) -> AdvertisedURL:
        if port := port_of(url, Role.CLIENT):
            return AdvertisedURL(url=url, member=member, port=port)
        if (of_another := of_another_member(url)) is not None:
            return of_another
        listener = _listener_of(target, url, discovered)
        if listener is None:
            return AdvertisedURL(url=url, member=member, why_not=_why_not(url, discovered))
        try:
            known = listener in target.listeners
            answer = contacts.at(listener) if known else elsewhere.at(listener)
        except UnobservedError as unobserved:
            return AdvertisedURL(url=url, member=member, why_not=unobserved.why)
        if known and refuses_connections(answer) and (why := why_stopping(listener, target, looks)):
            return AdvertisedURL(url=url, member=member, why_not=why)
        plaintext = (answer.plaintext,) if answer.plaintext is not None else ()
        return AdvertisedURL(url=url, member=member, attempts=(*answer.tls, *plaintext))

    of_clients = (contact(url, member) for url, member in sorted(members.items()))
    peers = sorted({(url, member.name) for member in listings.members for url in member.peer_urls})
    of_peers = (
        AdvertisedURL(url=url, member=member, role=Role.PEER, port=port)
        for url, member in peers
        if (port := port_of(url, Role.PEER))
    )
    return AdvertisedURLs(urls=(*of_clients, *of_peers))


def _listener_of(target: Target, url: str, discovered: Discovered | None) -> Listener | None:
    """Return the listener of that URL, or a new one if its host may be contacted, else ``None``."""
    try:
        endpoint = parse(url)
    except ValueError:
        return None
    for listener in target.listeners:
        if endpoint_of(listener) == endpoint:
            return listener
    if discovered is not None:
        result = discovered.client_urls.get(url)
        return target.labelled(result.listener) if result else None
    named = {listener.host for listener in target.listeners if listener.connect_to is None}
    # A replayed declaration advertises the user's own member, which may run: its address is not contacted.
    replayed = target.replay is not None
    rules = target.connect_to if replayed else ()
    listener = listed_listener(Role.CLIENT, endpoint, target.listeners, rules, may_be_local=True)
    may_contact = endpoint.host in named or target.origin == "process"
    return listener if (listener.connect_to if replayed else may_contact) else None


def _why_not(url: str, discovered: Discovered | None) -> Reason | str:
    if discovered is not None:
        result = discovered.client_urls.get(url)
        return result.why if result else "the member list that was followed does not have it"
    try:
        parse(url)
    except ValueError as error:
        return str(error)
    passing = "--etcd-endpoint for it, or --etcd-discover"
    return missing("it was not named, and only named hosts are contacted", *_OF_MEMBERS, passing=passing)


@fact
def dialling(here: Listener, target: Target, listing: Lazy[MemberListing]) -> Dialling:
    """Return whether etcd dials with another certificate than it serves, as far as options tell."""
    with_another = target.dials_with_another
    if with_another is not None:
        return Dialling(with_another=here.role in with_another, own=_own_certificates(here, target))
    listed = listing.known() if here.role is Role.PEER else None
    return Dialling(with_another=None, members=len(listed.members) if listed else None)


def _own_certificates(here: Listener, target: Target) -> tuple[x509.Certificate, ...]:
    declared, flag = target.declared.get(here.member), f"{here.role.prefix}client-cert-file"
    path = declared.file(flag) if declared else None
    try:
        return load_certificates(path, option=f"--{flag}") if path else ()
    except UsageError:
        return ()
