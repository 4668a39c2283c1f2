"""What etcd's HTTP endpoints answer: paths, redirections, clock, versions, health and member list."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any

from msgspec.structs import replace

from pytest_etcdtls.checks.cert_form import by_each_clock, state_of, when
from pytest_etcdtls.checks.judgement import EVERY_ANSWER, altered, changed
from pytest_etcdtls.checks.registry import CLIENT_PORTS_AND_METRICS, EVERY_LISTENER, check
from pytest_etcdtls.checks.results import (
    Finding,
    Level,
    Statement,
    inconclusive,
    not_applicable,
    not_verified,
)
from pytest_etcdtls.errors import InconclusiveError, NotApplicableError, NotVerifiedError, Reason, needs
from pytest_etcdtls.facts.access import AcceptedClient, ServedClient
from pytest_etcdtls.facts.api import ClientExchange
from pytest_etcdtls.facts.clock import CLOCK_TOLERANCE, MemberClock
from pytest_etcdtls.facts.fact import Each
from pytest_etcdtls.facts.member_list import MemberListing, MemberRecord
from pytest_etcdtls.facts.release import EtcdRelease
from pytest_etcdtls.pki.certificate import shown, span
from pytest_etcdtls.role import Protocol, Role
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import Ending, Response
from pytest_etcdtls.tls.command import GOOD_CLIENT, STATUS, Command, compare, curl, show_version
from pytest_etcdtls.versions import Release, has_since

_LIVEZ_SINCE = {"3.4": 29, "3.5": 11}
_NO_CLIENT = not_verified("needs an accepted client")


def has_livez(release: Release) -> bool:
    """Return whether this release of etcd has /livez and /readyz (PR 17039 and its backports)."""
    return has_since(release, _LIVEZ_SINCE)


_missing = changed("readyz.tries.*", response=Response(status=404, body=b"404 page not found"))


@check("api.health-endpoints", on=CLIENT_PORTS_AND_METRICS, counterexample=_missing)
def livez_and_readyz_exist(
    etcd: EtcdRelease,
    livez: Annotated[ClientExchange, "/livez"],
    readyz: Annotated[ClientExchange, "/readyz"],
) -> Iterator[Statement]:
    """/livez and /readyz exist from etcd 3.4.29, 3.5.11 and 3.6 on.

    kubeadm's manifests probe these paths: the kubelet restarts a member whose probes fail. This check only
    judges that the paths exist; api.healthy judges whether the member is healthy. With --enable-v2, etcd 3.5
    does not serve them on its client port.

    Spec: etcd Documentation, health check endpoints
    Severity: low
    Level: SHOULD
    Remediation: do not set --enable-v2; let probes connect to etcd itself on --listen-metrics-urls or
        --listen-client-urls.
    """
    if not has_livez(etcd.release):
        yield not_applicable(f"etcd {etcd.release} has no /livez and /readyz")
        return
    for exchange in (livez, readyz):
        expected = f"HTTP 200 or 503 from etcd {etcd.release}"
        yield from judge_status(exchange, {200, 503}, f"{exchange.path} does not exist", expected)


_elsewhere = changed(
    EVERY_ANSWER, response=Response(status=301, headers={"location": "https://elsewhere.example/"})
)


@check("api.no-redirect", on=EVERY_LISTENER, counterexample=_elsewhere)
def nothing_is_redirected(served: ServedClient) -> Iterator[Statement]:
    """No response is a redirection.

    etcd sends no redirections, so something else answers. Clients and peers do not follow it, or present
    their certificate to another server.

    Spec: RFC 9110 section 15.4
    Spec: etcd Documentation, /version and /health endpoints
    Severity: medium
    Level: SHOULD
    Remediation: connect to etcd itself on --listen-{role}-urls; a proxy answers in its place.
    """
    yield from _strange(
        served,
        "Location",
        lambda response: (
            f" to {response.headers.get('location', '?')}" if 300 <= response.status < 400 else ""
        ),
        message="an answer is a redirection",
        expected="etcd's own answer",
    )


def _strange(
    served: ServedClient, header: str, describe: Callable[[Response], str], *, message: str, expected: str
) -> Iterator[Statement]:
    """Yield a finding on the first response of each protocol of which ``describe`` says something."""
    if served.client is None:
        yield _NO_CLIENT
        return
    seen: set[Protocol] = set()
    for attempt in served.client.served:
        response, protocol = attempt.response, attempt.protocol
        if response is not None and protocol not in seen and (text := describe(response)):
            seen.add(protocol)
            yield Finding(
                message=message,
                expected=expected,
                observed=f"{protocol}: HTTP {response.status}{text}",
                reproduce=(
                    curl(attempt.url, client=served.client.identity, protocol=protocol, look=f'"{header}"'),
                ),
            )


_encoded = changed(
    EVERY_ANSWER,
    response=Response(status=200, headers={"content-encoding": "gzip, gzip"}, body=b"\x1f\x8b\x08"),
)


@check("api.no-content-encoding", on=EVERY_LISTENER, counterexample=_encoded)
def no_body_is_encoded(served: ServedClient) -> Iterator[Statement]:
    """No response has a content encoding.

    etcd compresses nothing for a client that asks for no encoding, so something else answers. A client that
    decodes such a body can need memory and time without a bound. This one does not decode it.

    Spec: RFC 9110 section 8.4
    Spec: etcd Documentation, /version and /health endpoints
    Severity: medium
    Level: SHOULD
    Remediation: connect to etcd itself on --listen-{role}-urls; a proxy answers in its place.
    """
    yield from _strange(
        served,
        "Content-Encoding",
        lambda response: f", encoded as {response.content_encoding}" if response.content_encoding else "",
        message="an answer has a content encoding",
        expected="etcd's own answer, as it is",
    )


@check("api.clock-agrees", on=EVERY_LISTENER, counterexample=changed("clock", ahead=timedelta(days=-10000)))
def the_clocks_agree(here: Listener, served: ServedClient, clock: MemberClock) -> Iterator[Statement]:
    """The member's clock and the local clock agree within a minute.

    Each side judges the validity of certificates by its own clock. A clock that is ahead makes certificates
    expire early; one that is behind accepts expired certificates and refuses new ones. Where a certificate is
    valid by one clock only, checks of its validity come to no verdict until the clocks agree.

    Spec: RFC 9110 section 6.6.1
    Spec: RFC 5280 section 4.1.2.5
    Severity: medium
    Level: MUST, SHOULD where every certificate is valid by both clocks, or by neither
    Remediation: synchronise the clocks of both machines (chrony, systemd-timesyncd), then run again.
    """
    if served.client is None:
        yield _NO_CLIENT
        return
    if clock.ahead is None:
        yield not_applicable(f"no answer of {here.url} has a Date header")
        return
    ours, *theirs = clock.times(served.client.attempts[0].started_at)
    if theirs:
        by_one = [one for one in clock.certificates if state_of(one, ours) != state_of(one, theirs[0])]
        skew, ahead = abs(clock.ahead), "ahead of" if clock.ahead > timedelta() else "behind"
        # The header has whole seconds.
        length = (
            span(skew + timedelta(seconds=1))
            if skew >= timedelta(hours=1)
            else f"{skew.total_seconds():.0f} s"
        )
        yield Finding(
            message=f"the member's clock is {length} {ahead} the local clock",
            expected=f"within {CLOCK_TOLERANCE.total_seconds():.0f} s",
            observed="; ".join(
                (
                    f"Date {when(theirs[0])} at {when(ours)} by the local clock",
                    *(f"{shown(one)} {by_each_clock(one, (ours, *theirs))}" for one in by_one[:_SHOWN]),
                )
            ),
            level=None if by_one else Level.SHOULD,
            reproduce=(curl(here.url, client=served.client.identity, look='"Date"'),),
        )


_SHOWN = 4
"""Certificates that a finding names."""


_WITH_VERSION = frozenset({Role.CLIENT, Role.CLIENT_HTTP, Role.PEER})


def unanswered(exchange: ClientExchange) -> Iterator[Statement]:
    """Yield inconclusive for an exchange without an HTTP response."""
    if exchange.attempt.response is None or exchange.attempt.ending is not Ending.SERVED:
        yield inconclusive(f"{exchange.attempt.url}{exchange.path}: {exchange.attempt.describe()}")


def judge_status(
    exchange: ClientExchange, statuses: set[int], message: str, expected: str
) -> Iterator[Statement]:
    """Yield a finding for an answer with another status."""
    yield from unanswered(exchange)
    response = exchange.attempt.response
    if response is not None and response.status not in statuses:
        yield Finding(
            message=message, expected=expected, observed=show(response), reproduce=(repeat(exchange),)
        )


def repeat(exchange: ClientExchange) -> Command:
    """Return a command that makes the request again."""
    return curl(exchange.attempt.url, path=exchange.path, client=GOOD_CLIENT, look=STATUS)


def show(response: Response) -> str:
    """Return the status and the beginning of the body."""
    encoding = f", Content-Encoding {response.content_encoding}" if response.content_encoding else ""
    return f"HTTP {response.status}{encoding}: {response.excerpt()}"


_gone = changed("exchange.tries.*", response=Response(status=404, body=b"404 page not found"))


@check("api.version-answers", on=_WITH_VERSION, counterexample=_gone)
def version_answers(exchange: Annotated[ClientExchange, "/version"]) -> Iterator[Statement]:
    """/version answers the good client with status 200.

    Otherwise the listener is not etcd's, or something between answers in its place.

    Spec: etcd Documentation, /version endpoint
    Severity: high
    Level: SHOULD
    Remediation: connect to etcd itself on --listen-{role}-urls; a proxy answers in its place.
    """
    yield from judge_status(exchange, {200}, "/version does not answer with 200", "HTTP 200")


_empty = changed("exchange.tries.*", response=Response(status=200, body=b'{"etcdserver": "latest"}'))


@check("api.version-body", on=_WITH_VERSION, counterexample=_empty)
def version_is_well_formed(exchange: Annotated[ClientExchange, "/version"]) -> Iterator[Statement]:
    """/version returns the server version and the cluster version.

    Clients and members that read the versions fail, and the answer is not etcd's. The cluster version may be
    not_decided right after the start.

    Spec: etcd Documentation, /version endpoint
    Severity: medium
    Level: SHOULD
    Remediation: connect to etcd itself on --listen-{role}-urls; a proxy answers in its place.
    """
    yield from unanswered(exchange)
    response = exchange.attempt.response
    if response is None:
        return
    if response.status != 200:
        yield not_verified(f"/version answers with HTTP {response.status}")
        return
    fields = response.fields
    good = _is_version(fields.get("etcdserver")) and (
        fields.get("etcdcluster") == "not_decided" or _is_version(fields.get("etcdcluster"))
    )
    if not good:
        yield Finding(
            message="/version is not the version document of an etcd",
            expected='{"etcdserver": "x.y.z", "etcdcluster": "x.y.z"}',
            observed=show(response),
            reproduce=(repeat(exchange),),
        )


def _is_version(value: object) -> bool:
    if not isinstance(value, str):
        return False
    numbers = value.partition("-")[0].partition("+")[0].split(".")
    return len(numbers) == 3 and all(re.fullmatch("[0-9]{1,9}", number) for number in numbers)


Versions = Each[Annotated[ClientExchange, "/version"]]


def _another_etcd(here: Listener, versions: Versions, **_: object) -> Mapping[str, Any]:
    other = Response(status=200, body=b'{"etcdserver":"2.3.8","etcdcluster":"2.3.0"}')
    exchanges = {listener: altered(exchange, "tries.*", response=other) for listener, exchange in versions}
    return {"versions": Each.of(exchanges | {here: versions.at(here)})}


_BEFORE_ALL_ARE_KNOWN = frozenset({"not_decided", "3.0.0"})


@check("api.version-agrees", on={Role.PEER}, counterexample=_another_etcd)
def both_ports_report_the_same_versions(
    here: Listener, target: Target, versions: Versions
) -> Iterator[Statement]:
    """Client port and peer port of a member report the same versions.

    Otherwise the two ports belong to different etcds: a wrong port forward, a stale instance, a proxy. A
    cluster that has just started has the version not_decided or 3.0.0 until its leader knows the version of
    every member. Such a version is not compared, since the two ports are not queried at the same time.

    Spec: etcd Documentation, /version endpoint
    Follows: cluster.one-cluster
    Severity: high
    Level: SHOULD
    Remediation: pass listeners of one member; look for a second etcd on that host.
    """
    siblings = target.siblings(here, Role.CLIENT, Role.CLIENT_HTTP)
    if not siblings:
        yield not_verified(needs("a client listener of the same member", Role.CLIENT.option))
        return
    reported = {here.url: _reported(versions.at(here))}
    reasons: list[Reason] = []
    for sibling in siblings:
        try:
            reported[sibling.url] = _reported(versions.at(sibling))
        except NotApplicableError as error:
            reasons.append(error.why)
    if len(reported) < 2:
        yield not_verified(Reason.together(reasons))
        return
    servers = {server for server, _ in reported.values()}
    clusters = {cluster for _, cluster in reported.values()} - _BEFORE_ALL_ARE_KNOWN
    if len(servers) > 1 or len(clusters) > 1:
        yield Finding(
            message="the ports of one member report different versions",
            expected="the same etcdserver and etcdcluster on both ports",
            observed="; ".join(
                f"{url}: {server}, cluster {cluster}" for url, (server, cluster) in reported.items()
            ),
            reproduce=compare(*map(show_version, reported), look='"etcdserver" and "etcdcluster" of each'),
        )


def _reported(exchange: ClientExchange) -> tuple[str | None, str | None]:
    """Return the versions of the server and of the cluster.

    Raises:
        UnobservedError: if the response is not that of ``/version``.
    """
    attempt = exchange.attempt
    if attempt.ending is not Ending.SERVED or attempt.response is None:
        raise InconclusiveError(f"{attempt.url}/version: {attempt.describe()}")
    if not attempt.response.fields:
        raise NotVerifiedError(f"{attempt.url}/version is not a JSON object")
    texts = {name: str(value) for name, value in attempt.response.fields.items()}
    return texts.get("etcdserver"), texts.get("etcdcluster")


_sick = changed(
    "exchange.tries.*", response=Response(status=503, body=b'{"health":"false","reason":"NO LEADER"}')
)


@check("api.healthy", on=CLIENT_PORTS_AND_METRICS, counterexample=_sick)
def the_member_is_healthy(
    exchange: Annotated[ClientExchange, "/health"], good: AcceptedClient | None
) -> Iterator[Statement]:
    """/health reports true to the good client.

    A member without a leader serves no requests, and one with the alarm CORRUPT has different data than the
    others. With NOSPACE it still serves reads, and the cause is not TLS. etcd 3.4 gives no reason in /health;
    the member's status does. A read that the stop of a member has cut is no verdict.

    Spec: etcd Documentation, /health endpoint
    Severity: high
    Level: MUST, SHOULD if the reason is the alarm NOSPACE
    Remediation: see etcd's log and `etcdctl alarm list`; a member without leader, or with an alarm, is not
        healthy.
    """
    yield from unanswered(exchange)
    response = exchange.attempt.response
    if response is None:
        return
    fields = response.fields
    # etcd sends the text "true", not a boolean.
    healthy = response.status == 200 and str(fields.get("health")).lower() == "true"
    alarms = _alarms(good)
    reasons = [str(fields["reason"])] if fields.get("reason") else alarms
    if not healthy and reasons and all(text.endswith(_OF_A_STOP) for text in reasons):
        yield inconclusive(
            f"a member was stopping, run again: {exchange.attempt.url}/health said {reasons[0]}"
        )
    elif not healthy:
        yield Finding(
            message="/health does not report true",
            evidence={"alarms": "; ".join(alarms)} if alarms else {},
            level=Level.SHOULD if reasons and all("NOSPACE" in text for text in reasons) else None,
            expected='HTTP 200: {"health":"true"}',
            observed=show(response),
            reproduce=(repeat(exchange),),
        )


_OF_A_STOP = ("etcdserver: leader changed", "etcdserver: server stopped")
"""``ErrLeaderChanged`` and ``ErrStopped`` of etcd: an election, or the stop of this member, cut the read.

A member that has no leader says another text.
"""


def _alarms(good: AcceptedClient | None) -> list[str]:
    """Return the alarms in the status responses to the client: ``memberID:1 alarm:NOSPACE``."""
    alarms: dict[str, None] = {}
    accepted = good.accepted if good else None
    for attempt in accepted.served_over(Protocol.GATEWAY) if accepted else ():
        errors = attempt.response.fields.get("errors") if attempt.response else None
        texts = [text.strip() for text in errors if isinstance(text, str)] if isinstance(errors, list) else []
        alarms |= dict.fromkeys(text for text in texts if "alarm:" in text)
    return list(alarms)


def _another_member(listing: MemberListing, **_: object) -> Mapping[str, Any]:
    other = MemberRecord(id="2", name="other", peer_urls=(), client_urls=())
    return {"listing": replace(listing, members=(*listing.members, other))}


@check("api.peer-members", on={Role.PEER}, counterexample=_another_member)
def both_ports_list_the_same_members(
    here: Listener, target: Target, listing: MemberListing, listings: Each[MemberListing]
) -> Iterator[Statement]:
    """The peer port's /members agrees with the client port's member list.

    Otherwise the two ports belong to different clusters, or one member has an outdated list.

    Spec: etcd Documentation, runtime reconfiguration
    Severity: high
    Level: SHOULD
    Remediation: pass listeners of one cluster; compare with `etcdctl member list`.
    """
    client = target.first_of(Role.CLIENT)
    if client is None:
        yield not_verified(needs("a client listener of the cluster", "--etcd-endpoint"))
        return
    by_client = listings.at(client).members
    if set(listing.members) != set(by_client):
        yield Finding(
            message="the two ports list different members",
            expected=f"{client.url}: {_listed(by_client)}",
            observed=f"{here.url}: {_listed(listing.members)}",
            reproduce=(curl(here.url, path="/members", client=GOOD_CLIENT, look="the URLs of each member"),),
        )


def _listed(members: tuple[MemberRecord, ...]) -> str:
    rows = (
        f"{member.id} {member.name} peers {','.join(member.peer_urls)} clients {','.join(member.client_urls)}"
        for member in sorted(members, key=lambda member: member.id)
    )
    return "; ".join(rows)
