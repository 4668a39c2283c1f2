"""The members of a cluster have the same settings, list the same members, and are reachable."""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from cryptography import x509
from msgspec import Struct

from pytest_etcdtls.checks.judgement import altered, changed, commands_for, observed_in
from pytest_etcdtls.checks.registry import check
from pytest_etcdtls.checks.results import (
    CannotJudge,
    Finding,
    Level,
    Note,
    Outcome,
    Statement,
    inconclusive,
    not_applicable,
    not_verified,
)
from pytest_etcdtls.declared.cures import advertised, https_of
from pytest_etcdtls.declared.declaration import advertised as declared_to_advertise
from pytest_etcdtls.declared.effective import SIDES, CRLEffect
from pytest_etcdtls.errors import Reason, missing, needs
from pytest_etcdtls.facts.access import Candidate
from pytest_etcdtls.facts.configuration import Declarations, MemberDeclaration, listeners_of_side
from pytest_etcdtls.facts.discovery import JUDGED, Discovery, MemberURL, QueriedBy, Question, Reachability
from pytest_etcdtls.facts.member_list import MemberListing, MemberListings, MemberRecord
from pytest_etcdtls.facts.members import (
    AdvertisedURL,
    AdvertisedURLs,
    ClusterClaim,
    ClusterClaims,
    IssuedClients,
    ListenerProfile,
    PortOfMember,
    SideBySide,
)
from pytest_etcdtls.facts.release import EtcdReleases
from pytest_etcdtls.pki.certificate import name_list
from pytest_etcdtls.role import Protocol, Role, Side
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Attempt, Ending, Phase, StreamEnd
from pytest_etcdtls.tls.command import (
    ANNOUNCED,
    GOOD_CLIENT,
    Command,
    curl,
    etcdctl,
    s_client,
    show_leaf,
    show_version,
)
from pytest_etcdtls.untrusted.printable import listed, plural
from pytest_etcdtls.versions import Release

T = TypeVar("T")
_EXPIRY_SPREAD = timedelta(days=30)


_trusts_another = changed(
    "side_by_side.rows.0.0",
    announced=(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "another CA")]),),
)


@check("cluster.same-ca", on=set(), counterexample=_trusts_another)
def every_member_trusts_the_same_cas(side_by_side: SideBySide) -> Iterator[Statement]:
    """All members trust the same CAs for clients, and the same CAs for peers.

    A member that was not restarted after a change, or has an old file, refuses clients that the others
    accept, or still accepts clients of a removed CA. etcd reads the bundle only at start.

    Spec: RFC 8446 section 4.2.4
    Spec: etcd --trusted-ca-file, --peer-trusted-ca-file
    Follows: mtls.announced-ca-expected, config.trusted-ca-in-force, config.peer-trusted-ca-in-force
    Severity: high
    Level: MUST
    Remediation: give every member the same files for --trusted-ca-file and --peer-trusted-ca-file, and
        restart them one by one.
    """
    # A member that requests no certificate has another policy, which cluster.same-policy reports.
    rows = tuple(tuple(seen for seen in row if seen.requested_in) for row in side_by_side.rows)
    yield from _differences(rows, lambda seen: seen.announced, _names, "trusts other CAs")


def _names(seen: ListenerProfile) -> str:
    return name_list(seen.announced) or "none announced"


def _one_version_less(side_by_side: SideBySide, **_: object) -> Mapping[str, Any]:
    first = side_by_side.rows[0][0]
    return {"side_by_side": altered(side_by_side, "rows.0.0", versions=first.versions[:1])}


@check("cluster.same-policy", on=set(), counterexample=_one_version_less)
def every_member_has_the_same_policy(
    side_by_side: SideBySide, declared: Declarations | None, issued: IssuedClients | None
) -> Iterator[Statement]:
    """Every member offers the same TLS versions and accepts the same clients.

    A cluster is as open as its weakest member: clients and attackers reach the same keys through each. Where
    several members are declared, their revocation lists with the serial numbers that etcd reads there, their
    allowed names and their verification of addresses in certificates are compared too, with the effect that
    they have in each member's version. With the key of a CA, a client is issued and tried on each member.
    tls.version-floor judges on each member which versions are too old.

    Spec: etcd --client-cert-auth, --peer-client-cert-auth, --tls-min-version, --tls-max-version
    Spec: etcd --client-crl-file, --peer-crl-file, --client-cert-allowed-hostname, --peer-cert-allowed-cn
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Follows: mtls.no-certificate, config.version-range-in-force, config.suites-in-force,
        config.config-file-hides-flags, config.unknown-key, config.flag-unknown-to-version
    Severity: high
    Level: MUST, SHOULD where nobody is accepted by one member alone
    Remediation: start every member with the same TLS flags, from the same version of etcd.
    """
    yield from _differences(
        side_by_side.rows, _requests_certificates, _policy, "requests certificates differently"
    )
    alike = tuple(
        row for row in side_by_side.rows if len({_requests_certificates(seen) for seen in row}) == 1
    )
    versions = _differences(alike, lambda seen: seen.versions, _policy, "offers other TLS versions")
    yield from (dataclasses.replace(finding, level=Level.SHOULD) for finding in versions)
    yield from _differences_in_clients(alike, issued.clients if issued else ())
    for side in SIDES:
        yield from _declared_differences(declared.members if declared else (), side)


def _differences_in_clients(
    rows: tuple[tuple[ListenerProfile, ...], ...], issued: Iterable[tuple[Listener, Candidate]]
) -> Iterator[Finding]:
    """Yield where one member accepts the issued client and another, which announces its CA, refuses it."""
    decided = {
        listener: client for listener, client in issued if client.served or client.endings == {Ending.REFUSED}
    }

    def tried(seen: ListenerProfile) -> bool:
        client = decided.get(seen.listener)
        return client is not None and client.chain[0].issuer in seen.announced

    yield from _differences(
        tuple(tuple(filter(tried, row)) for row in rows),
        lambda seen: bool(decided[seen.listener].served),
        lambda seen: observed_in(decided[seen.listener].cases),
        "judges certificates of the same CA differently",
        lambda seen: commands_for(decided[seen.listener].cases)[0],
    )


class _Rule(Struct, frozen=True):
    """What a side of a member's declaration says of the certificates that it requests.

    Attributes:
        value: what is compared; ``None`` if it is not known.
        shown: the same for messages.
        opens: whether the members that differ from it accept, or may accept, other certificates.
    """

    value: Hashable
    shown: str
    opens: bool = True


def _declared_differences(declared: tuple[MemberDeclaration, ...], side: Side) -> Iterator[Finding]:
    """Yield the declared rules in which members differ that request certificates."""
    asking = [member for member in declared if _requests_by_declaration(member, side)]
    for rule in (_has_list, _revoked_serials, _allowed_names, _san_rule):
        rules = {member.label: rule(member, side) for member in asking}
        labels = [label for label, found in rules.items() if found.value is not None]
        different = _minority(labels, {label: found.value for label, found in rules.items()}.__getitem__)
        if different:
            usual = next(label for label in labels if label not in different)
            yield Finding(
                message=f"the rules for certificates of {side}s of {', '.join(different)} are not those of "
                "other members",
                expected=f"{usual}: {rules[usual].shown}",
                observed="; ".join(f"{label}: {rules[label].shown}" for label in different),
                concerns=tuple(name for label in different for name in listeners_of_side(label, side)),
                level=None if any(found.opens for found in rules.values()) else Level.SHOULD,
            )


def _requests_by_declaration(member: MemberDeclaration, side: Side) -> bool:
    tls = member.effective.sides[side]
    return tls.requests_certificate and bool(member.effective.secure(tls))


def _has_list(member: MemberDeclaration, side: Side) -> _Rule:
    path = member.effective.sides[side].crl_file
    crl = member.declared.crls.get(path or "")
    # A list that revokes nothing closes nobody out.
    opens = crl is not None and not (crl.known and crl.lists and not crl.serial_numbers)
    return _Rule(path is not None, f"the revocation list {path}" if path else "no revocation list", opens)


def _revoked_serials(member: MemberDeclaration, side: Side) -> _Rule:
    tls = member.effective.sides[side]
    crl = member.declared.crls.get(tls.crl_file or "") if tls.crl is CRLEffect.ENFORCED else None
    if crl is None:
        return _Rule(None, "")
    serials = crl.read_by(member.effective.version).serial_numbers
    shown = listed([f"{serial:x}" for serial in sorted(serials)], ", ", _SHOWN) or "nothing"
    return _Rule(serials, f"{tls.crl_file} revokes {shown}")


def _allowed_names(member: MemberDeclaration, side: Side) -> _Rule:
    tls = member.effective.sides[side]
    names = [f"CN {name}" for name in tls.allowed_cn] + [f"hostname {name}" for name in tls.allowed_hostname]
    return _Rule(frozenset(names), f"accepts {' or '.join(sorted(names)) or 'every name'}")


def _san_rule(member: MemberDeclaration, side: Side) -> _Rule:
    skips = member.effective.sides[side].skips_san_rule
    shown = "accepts certificates from any address" if skips else "compares certificates with the address"
    return _Rule(skips, shown, opens=False)


def _requests_certificates(seen: ListenerProfile) -> tuple[bool, bool]:
    """Return whether it requests a certificate in any of its TLS versions, and whether in all."""
    return bool(seen.requested_in), set(seen.requested_in) == set(seen.versions)


def _policy(seen: ListenerProfile) -> str:
    versions = ", ".join(seen.requested_in) or "none"
    return f"offers {', '.join(seen.versions)}; requests a certificate in {versions}"


def _differences(
    rows: tuple[tuple[ListenerProfile, ...], ...],
    fact: Callable[[ListenerProfile], Hashable],
    show: Callable[[ListenerProfile], str],
    message: str,
    command: Callable[[ListenerProfile], Command] = lambda seen: s_client(seen.listener.url, look=ANNOUNCED),
) -> Iterator[Finding]:
    for row in rows:
        different = _minority(row, fact)
        if different:
            usual = next(seen for seen in row if seen not in different)
            yield Finding(
                message=f"{', '.join(seen.listener.url for seen in different)} {message} than other members",
                expected=f"{usual.listener.url}: {show(usual)}",
                observed="; ".join(f"{seen.listener.url}: {show(seen)}" for seen in different),
                reproduce=tuple(command(seen) for seen in (usual, *different)),
            )


def _minority(row: Iterable[T], fact: Callable[[T], Hashable]) -> list[T]:
    """Return the members that differ from the most frequent ones; in a tie, from the first."""
    groups: dict[Hashable, list[T]] = {}
    for seen in row:
        groups.setdefault(fact(seen), []).append(seen)
    usual = max(groups.values(), key=len, default=[])
    return [seen for group in groups.values() if group is not usual for seen in group]


def _forgotten(side_by_side: SideBySide) -> Mapping[str, Any]:
    ends = side_by_side.rows[0][0].expires_at - 2 * _EXPIRY_SPREAD
    return {"side_by_side": altered(side_by_side, "rows.0.0", expires_at=ends)}


@check("cluster.expiry-spread", on=set(), counterexample=_forgotten)
def certificates_expire_together(side_by_side: SideBySide) -> Iterator[Statement]:
    """Certificates on the same kind of port expire within a month of each other.

    A certificate that expires much earlier than those of the other members was not renewed with them: it was
    forgotten, or its renewal failed. The member drops out when it expires.

    Spec: RFC 5280 section 4.1.2.5
    Follows: cert.expires-soon
    Severity: medium
    Level: SHOULD
    Remediation: renew the certificate of that member; etcd serves the new one at the next handshake.
    """
    for row in side_by_side.rows:
        first, *_, last = sorted(row, key=lambda seen: seen.expires_at)
        if last.expires_at - first.expires_at > _EXPIRY_SPREAD:
            yield Finding(
                message=f"the certificate of {first.listener.url} expires long before those of other members",
                expected=f"within {_EXPIRY_SPREAD.days} days of {_day(last)} ({last.listener.url})",
                observed=_day(first),
                reproduce=(show_leaf(first.listener.url), show_leaf(last.listener.url)),
            )


def _day(seen: ListenerProfile) -> str:
    return f"{seen.expires_at:%Y-%m-%d}"


_an_old_release = changed("releases.members.0", release=Release(3, 4, 0))


@check("cluster.same-version", on=set(), counterexample=_an_old_release)
def every_member_runs_the_same_version(
    releases: EtcdReleases, listings: MemberListings | None
) -> Iterator[Statement]:
    """Every member runs the same version of etcd.

    A member that stays behind lacks fixes, and may offer other TLS versions and cipher suites. During an
    upgrade the versions differ for a while.

    Spec: etcd Documentation, upgrading etcd clusters
    Severity: low
    Level: SHOULD
    Remediation: finish the upgrade on every member.
    """
    if len(releases.members) < 2:
        yield _one_member(listings)
        return
    if len({found.release for found in releases.members}) > 1:
        yield Finding(
            message="members run different versions of etcd",
            expected="one version",
            observed="; ".join(f"{found.listener.url}: {found.release}" for found in releases.members),
            reproduce=tuple(show_version(found.listener.url) for found in releases.members),
        )


def _one_member(listings: MemberListings | None) -> CannotJudge:
    if listings is not None and listings.size == 1:
        return not_applicable("the cluster has one member")
    passing = "its --etcd-endpoint, or --etcd-discover"
    return not_verified(needs("a second member", "--etcd-endpoint", "--etcd-discover", passing=passing))


_FAILS = '"Failed to connect" or "Connection refused"'
_LISTED = "the URLs of each member, peer URLs before client URLs"
_IDS = '"ClusterID" and "MemberID"'
_NO_TLS = ("http://", "unix://")


_plain_clients = changed("listings.listings.0.1.members.0", client_urls=("http://10.0.0.1:2379",))


@check("cluster.advertised-https", on=set(), counterexample=_plain_clients, cure=https_of("client"))
def advertised_client_urls_are_https(
    listings: MemberListings, declarations: Declarations | None
) -> Iterator[Statement]:
    """Every client URL that a member advertises, or is declared to advertise, is https.

    Clients that get the member list connect to these URLs. With an http URL they connect without TLS, or not
    at all. etcd publishes the declared URLs when it is started.

    Spec: etcd --advertise-client-urls
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Follows: config.http-listener-beside-tls, mtls.plaintext-refused
    Severity: high
    Level: MUST
    Remediation: use only https URLs in --advertise-client-urls; where the port itself is http, in
        --listen-client-urls too, with --cert-file, --key-file, --client-cert-auth=true and --trusted-ca-file.
    """
    urls = ((url, member) for member in listings.members for url in member.client_urls)
    yield from _without_tls(listings, urls, "advertise client URLs without TLS")
    published = {url for member in listings.members for url in member.client_urls}
    for member in declarations.members if declarations else ():
        setting = member.declared.declaration.settings.get("advertise-client-urls")
        urls_declared = map(str, declared_to_advertise(member.declared.declaration, Role.CLIENT))
        plain = [url for url in urls_declared if url.startswith(_NO_TLS) and url not in published]
        if plain:
            yield Finding(
                message=f"{member.label} is declared to advertise client URLs without TLS when it is started",
                expected="https URLs",
                observed=str(setting),
            )


_plain_peers = changed("listings.listings.0.1.members.0", peer_urls=("http://10.0.0.1:2380",))


@check("cluster.peer-urls-https", on=set(), counterexample=_plain_peers, cure=https_of("peer"))
def peer_urls_are_https(listings: MemberListings) -> Iterator[Statement]:
    """Every peer URL of every member is https.

    Members send each other the whole key space over these URLs, in clear text with http.

    Spec: etcd --initial-advertise-peer-urls
    Spec: etcd THREAT_MODEL.md, Peer-to-Peer Boundary
    Severity: critical
    Level: MUST
    Remediation: change it with `etcdctl member update ID --peer-urls=https://...`, and --listen-peer-urls
        with it, --initial-advertise-peer-urls and --initial-cluster; give --peer-cert-file, --peer-key-file
        and --peer-trusted-ca-file, and set --peer-client-cert-auth=true, all before the restart.
    """
    urls = ((url, member) for member in listings.members for url in member.peer_urls)
    yield from _without_tls(listings, urls, "have peer URLs without TLS", (str(Role.PEER),))


def _without_tls(
    listings: MemberListings,
    urls: Iterable[tuple[str, MemberRecord]],
    message: str,
    concerns: tuple[str, ...] = (),
) -> Iterator[Statement]:
    plain = {url: member.name for url, member in urls if url.startswith(_NO_TLS)}
    if plain:
        observed = "; ".join(f"{name or 'a member'}: {url}" for url, name in sorted(plain.items()))
        yield Finding(
            message=f"members {message}: {observed}",
            expected="https URLs",
            observed=observed,
            reproduce=(etcdctl(listings.listings[0][0].url, GOOD_CLIENT, "member list", _LISTED),),
            concerns=concerns,
        )


_unreachable = changed(
    "advertised.urls.0.attempts.*",
    ending=Ending.UNCLEAR,
    phase=Phase.CONNECT,
    stream_end=StreamEnd.CONNECTION_REFUSED,
    alert=None,
    detail="Connection refused",
)


@check("cluster.advertised-reachable", on=set(), counterexample=_unreachable, cure=advertised)
def advertised_client_urls_are_reachable(advertised: AdvertisedURLs) -> Iterator[Statement]:
    """Every client URL that a member advertises answers, and is that of a client port.

    Clients that get the member list connect to these URLs. If one does not answer, or leads to a port for
    peers or metrics, they fail as soon as their configured endpoints are gone. So do members that get the URL
    of a client port as a peer URL. Only hosts that were passed as endpoints, found by `--etcd-discover`, or
    belong to a cluster started by this plugin are contacted.

    Spec: etcd --advertise-client-urls, --initial-advertise-peer-urls
    Follows: cluster.advertised-https, cert.covers-advertised-url
    Severity: medium
    Level: MUST, SHOULD where a URL does not answer
    Remediation: use URLs in --advertise-client-urls that clients can reach from their network.
    """
    for contact in advertised.urls:
        if contact.port is not None:
            yield _of_another_port(contact, contact.port)
        elif not contact.attempts:
            yield not_verified(Reason.of(contact.why_not).after(f"{contact.url}: "))
        elif all(attempt.ending is Ending.UNCLEAR for attempt in contact.attempts):
            yield _unanswered(contact)
        elif contact.url.startswith("https:") and _is_plain(contact.attempts):
            yield Finding(
                message=f"{contact.url}, which {contact.member or 'a member'} advertises, answers plain HTTP "
                "and no TLS",
                expected="TLS",
                observed=contact.attempts[-1].describe(),
                reproduce=(curl(contact.url, client=GOOD_CLIENT, look=_FAILS),),
            )


def _is_plain(attempts: Sequence[Attempt]) -> bool:
    """Return whether no attempt with TLS was answered, and the one in plain HTTP after them was."""
    *with_tls, last = attempts
    return all(one.ending is Ending.UNCLEAR for one in with_tls) and last.answers_plaintext


_NO_GRPC = '"context deadline exceeded" or another error: it serves no gRPC'
_PORTS = {
    Role.PEER: "peer port",
    Role.METRICS: "port for metrics",
    Role.CLIENT: "client port",
    Role.CLIENT_HTTP: "port of --listen-client-http-urls, which serves no gRPC,",
}


def _look_at(port: PortOfMember) -> str:
    return f"the ID of {port.member}" if port.role is Role.CLIENT else _NO_GRPC


def _of_another_port(contact: AdvertisedURL, port: PortOfMember) -> Finding:
    who, which = contact.member or "a member", f"the {_PORTS[port.role]} of {port.member}"
    change = (
        f"advertise the URL of the client port of {who} with --advertise-client-urls, and restart it"
        if contact.role is Role.CLIENT
        else "change it to the URL of the peer port with `etcdctl member update ID --peer-urls=...`"
    )
    return Finding(
        message=f"{contact.url}, which {who} advertises to {contact.role}s, is {which}",
        expected=f"the URL of a {contact.role} port of {who}",
        observed=f"{contact.url} is {which}",
        reproduce=(etcdctl(contact.url, GOOD_CLIENT, "endpoint status", _look_at(port)),)
        if contact.role is Role.CLIENT
        else (curl(contact.url, role=Role.PEER, path="/members", client=GOOD_CLIENT, look="404"),),
        remediation=change,
        concerns=(port.listener or port.member,),
    )


def _unanswered(contact: AdvertisedURL) -> Statement:
    last = contact.attempts[-1]
    if last.phase is not Phase.CONNECT or last.stream_end not in (
        StreamEnd.FAILED,
        StreamEnd.CONNECTION_REFUSED,
    ):
        if contact.url.startswith(_NO_TLS):
            reason = f"{contact.url} does not answer plain HTTP, see cluster.advertised-https"
            return not_verified(reason)
        return inconclusive(f"{contact.url}: {last.describe()}")
    return Finding(
        message=f"{contact.url}, which {contact.member or 'a member'} advertises, is not reachable",
        expected="an answer",
        observed=last.describe(),
        reproduce=(curl(contact.url, client=GOOD_CLIENT, look=_FAILS),),
        level=Level.SHOULD,
    )


@check("cluster.members-agree", on=set(), counterexample=changed("listings.listings.0.1", members=()))
def every_member_lists_the_same_members(listings: MemberListings) -> Iterator[Statement]:
    """Every member of a cluster lists the same members.

    A member with another list was disconnected, or was restored from an old backup, and may serve outdated
    data.

    Spec: etcd Documentation, runtime reconfiguration
    Follows: cluster.one-cluster
    Severity: high
    Level: SHOULD
    Remediation: compare with `etcdctl member list --endpoints=...`, and see the log of the one that differs.
    """
    # The two ports of one member are compared by api.peer-members.
    by_cluster: dict[str | None, dict[str, tuple[str, MemberListing]]] = defaultdict(dict)
    for listener, listing in listings.listings:
        by_cluster[listing.cluster_id].setdefault(listener.member, (listener.url, listing))
    if all(len(group) < 2 for group in by_cluster.values()):
        yield not_applicable("only one member returned its list")
        return
    for group in by_cluster.values():
        lists = {url: frozenset(listing.members) for url, listing in group.values()}
        if len(set(lists.values())) > 1:
            yield Finding(
                message="members of one cluster list different members",
                expected="the same list from every member",
                observed="; ".join(f"{url}: {_shown(members)}" for url, members in lists.items()),
                reproduce=tuple(etcdctl(url, GOOD_CLIENT, "member list", _LISTED) for url in lists),
            )


def _shown(members: frozenset[MemberRecord]) -> str:
    rows = (f"{member.id} {member.name or '(not started)'}" for member in members)
    return ", ".join(sorted(rows)) or "none"


@check("cluster.one-cluster", on=set(), counterexample=changed("claims.claims.0", cluster_id="bad0"))
def every_listener_belongs_to_one_cluster(
    claims: ClusterClaims, listings: MemberListings
) -> Iterator[Statement]:
    """Every listener reports the same cluster ID and is a member of that cluster.

    Otherwise an endpoint leads to another etcd than intended, which may accept the same certificates. A
    metrics port reports the ID of its member alone. A member that was removed and runs on, perhaps with
    --force-new-cluster, still reports the cluster ID, and lists itself; the other members do not list it.

    Spec: etcd Documentation, API reference, ResponseHeader
    Spec: etcd Documentation, runtime reconfiguration
    Severity: high
    Level: MUST
    Remediation: pass endpoints of one cluster; look for a stale instance, or a wrong port forward.
    """
    in_clusters = [claim for claim in claims.claims if claim.cluster_id]
    if len({claim.cluster_id for claim in in_clusters}) > 1:
        others = _minority(in_clusters, lambda claim: claim.cluster_id)
        yield Finding(
            message="the listeners belong to different clusters: "
            f"{', '.join(claim.listener.url for claim in others)} to another one than the others",
            expected="one cluster ID",
            observed="; ".join(f"{claim.listener.url}: {claim.cluster_id}" for claim in in_clusters),
            reproduce=tuple(map(_show_ids, in_clusters)),
        )
        return
    lists = dict(reversed([(listener.member, _ids(listing)) for listener, listing in listings.listings]))
    counts = Counter(lists.values())
    known = max(counts, key=lambda ids: (counts[ids], len(ids)))
    for claim in claims.claims:
        of_others = (ids for member, ids in lists.items() if member != claim.listener.member)
        if claim.member_id and claim.member_id not in known.union(*of_others):
            listed = claim.member_id in lists.get(claim.listener.member, ())
            yield Finding(
                message=f"{claim.listener.url} is not a member of its cluster"
                + (": it lists itself, and no other member lists it" if listed else ""),
                expected=f"one of {', '.join(sorted(known))}",
                observed=claim.member_id,
                remediation=_REMOVED if listed else "",
                reproduce=(_show_ids(claim),),
            )
    members = {claim.member_id for claim in claims.claims if claim.member_id}
    cluster = "".join(claim.cluster_id for claim in in_clusters[:1])
    yield Note(f"cluster {cluster}, {len(members & known)} of {len(known)} members seen")


def _ids(listing: MemberListing) -> frozenset[str]:
    return frozenset(member.id for member in listing.members)


_REMOVED = (
    "stop this etcd, whose clients read and write data that the cluster does not have; to have it as a "
    "member again, add it with `etcdctl member add`, and start it without its old data and with "
    "--initial-cluster-state=existing"
)


def _show_ids(claim: ClusterClaim) -> Command:
    if claim.cluster_id:
        return etcdctl(claim.listener.url, GOOD_CLIENT, "endpoint status --write-out=fields", _IDS)
    return curl(claim.listener.url, path="/metrics", client=GOOD_CLIENT, look="etcd_server_id")


_MEMBER_LIST = "the URLs of each member"
_AVAILABLE = JUDGED | {Reachability.LEFT_OUT}
_SHOWN = 9
"""The most members or URLs that one message lists."""


_wildcard = changed(
    "discovery.members.0.urls.*",
    url="https://0.0.0.0:2379",
    reachability=Reachability.NOWHERE,
    listener="",
    why="it is every address",
)


@check("cluster.discovered", on=set(), counterexample=_wildcard)
def every_member_is_found(discovery: Discovery) -> Iterator[Statement]:
    """Every listed member can be found by the URLs that it advertises.

    Clients and members connect to these URLs. A URL that contains a wildcard or loopback address, or that
    leads to another member, does not reach the member that advertises it. The check runs only with
    `--etcd-discover`. It is inconclusive if no endpoint returns the member list, or if a member on it cannot
    be judged because it has not been started or exceeds a limit. `listener.answers` judges whether the
    listeners that were found answer.

    Spec: etcd --advertise-client-urls, --initial-advertise-peer-urls
    Spec: etcd Documentation, runtime reconfiguration
    Follows: cluster.advertised-https, cluster.advertised-reachable, listener.is-etcd
    Severity: medium
    Level: MUST
    Remediation: advertise URLs that lead to that member only, with --advertise-client-urls, and with etcdctl
        member update ID --peer-urls=... for its peers.
    """
    if discovery.source is None:
        yield inconclusive(_why_no_list(discovery))
        return
    for role in (Role.CLIENT, Role.PEER):
        yield from _unreachable_members(discovery, role)
        yield from _without_url(discovery, role)
    yield from _left_out(discovery)
    yield from _remarks(discovery)
    yield Note(discovery.describe())


def _why_no_list(discovery: Discovery) -> Reason:
    if not discovery.questions:
        options = (Role.CLIENT.option, Role.PEER.option)
        text = "none of the named listeners returns a member list"
        return missing(text, *options, passing=" or ".join(options))
    requests: dict[Reason | str, list[str]] = {}
    for question in discovery.questions:
        requests.setdefault(question.why_not, []).append(f"{question.api} of {question.listener.url}")
    reasons = "; ".join(f"{reason} (requested by {', '.join(made)})" for reason, made in requests.items())
    return Reason(
        "no endpoint returned the member list, so only named listeners are judged",
        options=("--etcd-discover",),
        ending=f": {reasons}. Pass an endpoint that answers and credentials that it accepts, or name every "
        "listener and omit --etcd-discover",
        parts=tuple(map(Reason.of, requests)),
    )


def _unreachable_members(discovery: Discovery, role: Role) -> Iterator[Statement]:
    """Yield the members that no URL leads to, except because of limits and settings of this run."""
    unreachable = [
        (member, member.of_role(role))
        for member in discovery.members
        if member.of_role(role)
        and not any(found.reachability in _AVAILABLE for found in member.of_role(role))
    ]
    observed = _some(f"{member.title}: {_shown_urls(urls)}" for member, urls in unreachable)
    if not unreachable:
        return
    if role is Role.PEER and _is_private(discovery, unreachable[0][1]):
        options = (role.option, "--etcd-connect-to")
        reason = missing(observed, *options, passing="{} on its machine, or with {}".format(*options))
        yield from _unjudged(Outcome.NOT_VERIFIED, reason)
        return
    who = _some(member.title for member, _ in unreachable)
    whose = "they advertise" if len(unreachable) > 1 else "it advertises"
    yield Finding(
        message=f"{who} cannot be found by the {role} URLs that {whose}",
        expected="a URL that leads only to this member",
        observed=observed,
        reproduce=(_reproduce(discovery.questions[-1]),),
    )


def _without_url(discovery: Discovery, role: Role) -> Iterator[Statement]:
    """Yield the members that advertise no URL of that role."""
    without = [member for member in discovery.members if not member.of_role(role)]
    for started, why in (
        (True, "so that these listeners are not judged: name them"),
        (False, "since these members have not been started: start or remove them"),
    ):
        names = [member.title for member in without if member.started is started]
        if names:
            yield from _unjudged(
                Outcome.INCONCLUSIVE, f"no {role} URL is advertised by {_some(names)}, {why}"
            )


def _left_out(discovery: Discovery) -> Iterator[Statement]:
    """Yield what is not judged because of a limit or a setting of this run."""
    reasons: dict[str, list[str]] = {}
    for member in discovery.members:
        for member_url in member.urls:
            if member_url.reachability is Reachability.LEFT_OUT:
                reasons.setdefault(member_url.why, []).append(f"{member_url.url} of {member.title}")
    for why, places in reasons.items():
        options = (Role.CLIENT.option, Role.PEER.option, "--etcd-connect-to")
        ending = f": {_some(places)}; pass {{}} or {{}}, or {{}}".format(*options)
        reason = missing(f"not judged, since {why}", *options, ending=ending)
        yield from _unjudged(Outcome.INCONCLUSIVE, reason)
    if discovery.beyond:
        verb = "is" if discovery.beyond == 1 else "are"
        members = plural(discovery.beyond, "more member")
        text = f"{members} {verb} listed and not judged: name their listeners"
        yield from _unjudged(Outcome.INCONCLUSIVE, text)


def _remarks(discovery: Discovery) -> Iterator[Statement]:
    """Yield notes: unusable URLs of members that another URL leads to, and unused rules."""
    for role in (Role.CLIENT, Role.PEER):
        for member in discovery.members:
            urls = member.of_role(role)
            others = [found for found in urls if found.reachability not in _AVAILABLE]
            if 0 < len(others) < len(urls):
                yield Note(f"{member.title}: {_shown_urls(others)}")
    for rule in discovery.unused_rules:
        yield Note(f"--etcd-connect-to {rule!r} matches no listener")


def _reproduce(question: Question) -> Command:
    url = question.listener.url
    if question.api is QueriedBy.MEMBERS:
        return curl(url, role=Role.PEER, path="/members", client=GOOD_CLIENT, look=_MEMBER_LIST)
    if question.api is QueriedBy.GATEWAY:
        path = "/v3/cluster/member/list"
        return curl(url, path=path, client=GOOD_CLIENT, protocol=Protocol.GATEWAY, look=_MEMBER_LIST)
    return etcdctl(url, GOOD_CLIENT, "member list", _MEMBER_LIST)


def _is_private(discovery: Discovery, urls: Sequence[MemberURL]) -> bool:
    """Return whether it is the peer port of a single member, which no other member has to find."""
    sole = len(discovery.members) == 1 and not discovery.beyond
    return sole and all(found.reachability is Reachability.LOCAL for found in urls)


def _unjudged(outcome: Outcome, reason: Reason | str) -> Iterator[Statement]:
    """Yield the outcome, and its reason as a note, which is shown even if there are findings elsewhere."""
    yield CannotJudge(outcome, reason)
    yield Note(str(reason))


def _shown_urls(urls: Sequence[MemberURL]) -> str:
    return _some(f"{found.url or '(empty)'} ({found.why})" for found in urls)


def _some(texts: Iterable[str]) -> str:
    return listed(list(texts), ", ", _SHOWN)
