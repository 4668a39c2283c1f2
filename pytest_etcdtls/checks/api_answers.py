"""What the answers tell besides their bodies: which paths there are, redirections, the clock."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Annotated, Any

from pytest_etcdtls.checks.api_status import answered_with, show, unanswered
from pytest_etcdtls.observations.admission import Candidate, ServedClient
from pytest_etcdtls.observations.api import Exchange
from pytest_etcdtls.observations.attempt import Response
from pytest_etcdtls.observations.release import EtcdRelease, Release
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.reproduce import GOOD_CLIENT, STATUS, curl
from pytest_etcdtls.results import Finding, Outcome, Statement, Verdict
from pytest_etcdtls.target import Role

_WITH_HEALTH = frozenset({Role.CLIENT, Role.CLIENT_HTTP, Role.METRICS})
_LIVEZ_SINCE: Mapping[tuple[int, int], Release] = {(3, 4): Release(3, 4, 29), (3, 5): Release(3, 5, 11)}
_CLOCK_TOLERANCE = timedelta(seconds=60)


def has_livez(release: Release) -> bool:
    """Whether that etcd has /livez and /readyz (etcd changelogs, PR 17039 and its backports)."""
    return release >= _LIVEZ_SINCE.get(release.line, Release(3, 6, 0, final=False))


def _missing(etcd: EtcdRelease, livez: Exchange, readyz: Exchange) -> Mapping[str, Any]:
    return {"readyz": answered_with(readyz, Response(status=404, body=b"404 page not found"))}


@check("api.health-endpoints", on=_WITH_HEALTH, counterexample=_missing)
def the_probes_of_kubernetes_have_their_paths(
    etcd: EtcdRelease,
    livez: Annotated[Exchange, "/livez"],
    readyz: Annotated[Exchange, "/readyz"],
) -> Iterator[Statement]:
    """/livez and /readyz are there, from 3.4.29, 3.5.11 and 3.6 on.

    kubeadm's manifests probe them. Whether the member is healthy is api.healthy's subject; here the paths
    have to exist. With --enable-v2 etcd 3.5 does not have them on its client port.

    Spec: etcd Documentation, health check endpoints
    Severity: low
    Level: SHOULD
    Remediation: do not set --enable-v2; let probes reach etcd itself on --listen-metrics-urls or
        --listen-client-urls.
    """
    if not has_livez(etcd.release):
        yield Verdict(Outcome.NOT_APPLICABLE, f"etcd {etcd.release} has no /livez and /readyz")
        return
    for exchange in (livez, readyz):
        yield from unanswered(exchange)
        response = exchange.attempt.response
        if response is not None and response.status not in (200, 503):
            yield Finding(
                message=f"{exchange.path} is not there",
                expected=f"HTTP 200 or 503 from etcd {etcd.release}",
                observed=show(response),
                reproduce=(
                    curl(
                        exchange.url, role=exchange.role, path=exchange.path, files=GOOD_CLIENT, look=STATUS
                    ),
                ),
            )


def answered_throughout(served: ServedClient, response: Response) -> Mapping[str, Any]:
    """Return the client with another answer to everything; for counterexamples."""

    def answered(candidate: Candidate) -> Candidate:
        tries = tuple(
            (version, speech, tuple(replace(attempt, response=response) for attempt in made))
            for version, speech, made in candidate.tries
        )
        return replace(candidate, tries=tries)

    assert served.client is not None  # noqa: S101 - the conforming sample has one
    return {"served": replace(served, client=answered(served.client))}


def _elsewhere(served: ServedClient) -> Mapping[str, Any]:
    return answered_throughout(
        served, Response(status=301, headers={"location": "https://elsewhere.example/"})
    )


@check("api.no-redirect", on=EVERY_LISTENER, counterexample=_elsewhere)
def nothing_is_redirected(served: ServedClient) -> Iterator[Statement]:
    """No answer is a redirection.

    etcd sends none; clients and peers do not follow any, or take their certificate to where it leads.

    Spec: RFC 9110 section 15.4
    Spec: etcd Documentation, /version and /health endpoints
    Severity: medium
    Level: SHOULD
    Remediation: reach etcd itself on --listen-{side}-urls; something before it answers in its place.
    """
    if served.client is None:
        yield Verdict(Outcome.NOT_VERIFIED, "needs an accepted client")
        return
    seen: set[str] = set()
    for attempt in served.client.served:
        response = attempt.response
        if response is None or not 300 <= response.status < 400 or attempt.protocol in seen:
            continue
        seen.add(attempt.protocol)
        yield Finding(
            message="an answer is a redirection",
            expected="etcd's own answer",
            observed=f"{attempt.protocol}: HTTP {response.status} to {response.headers.get('location', '?')}",
            reproduce=(
                curl(
                    served.url,
                    role=served.role,
                    files=served.client.files,
                    protocol=attempt.protocol,
                    look='"Location"',
                ),
            ),
        )


def _long_ago(served: ServedClient) -> Mapping[str, Any]:
    headers = {"date": "Sat, 01 Jan 2000 00:00:00 GMT"}
    return answered_throughout(served, Response(status=200, headers=headers))


@check("api.clock-agrees", on={Role.CLIENT, Role.PEER}, counterexample=_long_ago)
def the_clocks_agree(served: ServedClient) -> Iterator[Statement]:
    """The member's clock and ours agree within a minute.

    Validity of certificates is judged by the clock of who judges: one that runs ahead lets them expire early,
    one that is behind accepts expired ones and refuses fresh ones.

    Spec: RFC 9110 section 6.6.1
    Spec: RFC 5280 section 4.1.2.5
    Severity: medium
    Level: SHOULD
    Remediation: synchronise the clocks of both machines (chrony, systemd-timesyncd).
    """
    if served.client is None:
        yield Verdict(Outcome.NOT_VERIFIED, "needs an accepted client")
        return
    dated = [
        (attempt.started_at, when)
        for attempt in served.client.served
        if attempt.response and (when := _date(attempt.response.headers.get("date", "")))
    ]
    if not dated:
        yield Verdict(Outcome.NOT_APPLICABLE, f"no answer of {served.url} has a Date header")
        return
    ours, theirs = min(dated, key=lambda pair: abs(pair[1] - pair[0]))
    if abs(theirs - ours) > _CLOCK_TOLERANCE:
        ahead = "ahead of" if theirs > ours else "behind"
        yield Finding(
            message=f"the member's clock is {abs(theirs - ours).total_seconds():.0f} s {ahead} ours",
            expected=f"within {_CLOCK_TOLERANCE.total_seconds():.0f} s",
            observed=f"Date {theirs:%Y-%m-%d %H:%M:%S} UTC at {ours:%Y-%m-%d %H:%M:%S} UTC",
            reproduce=(curl(served.url, role=served.role, files=served.client.files, look='"Date"'),),
        )


def _date(text: str) -> datetime | None:
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    return when if when.tzinfo else None
