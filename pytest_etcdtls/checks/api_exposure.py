"""What should not be served, or not there: old APIs, profiles, and anything but metrics for Prometheus."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any

from pytest_etcdtls.checks.api_status import answered_with, show, unanswered
from pytest_etcdtls.observations.api import Exchange
from pytest_etcdtls.observations.attempt import Response, Way
from pytest_etcdtls.observations.listener import Answer, ListenerFacts
from pytest_etcdtls.pki.names import is_loopback
from pytest_etcdtls.registry import check
from pytest_etcdtls.reproduce import GOOD_CLIENT, STATUS, curl
from pytest_etcdtls.results import Finding, Level, Note, Statement
from pytest_etcdtls.target import Role

_CLIENT_PORTS = frozenset({Role.CLIENT, Role.CLIENT_HTTP})


def _there(exchange: Exchange) -> Mapping[str, Any]:
    return {"exchange": answered_with(exchange, Response(status=200, body=b"{}"))}


@check("api.v2-disabled", on=_CLIENT_PORTS, counterexample=_there)
def the_v2_api_is_off(exchange: Annotated[Exchange, "/v2/keys"]) -> Iterator[Statement]:
    """The v2 API is not served.

    Its key space is another one than v3's, with its own authentication, which is off unless set up apart.

    Spec: etcd --enable-v2
    Severity: medium
    Level: SHOULD
    Remediation: do not set --enable-v2; etcd 3.6 has no v2 API any more.
    """
    yield from _absent(exchange, "the v2 API is served")


@check("api.pprof-hidden", on=_CLIENT_PORTS, counterexample=_there)
def profiles_are_off(exchange: Annotated[Exchange, "/debug/pprof/"]) -> Iterator[Statement]:
    """Profiles are not served.

    Heap and goroutine profiles hold what etcd has in memory, and taking one costs time. Log level debug
    switches them on as well.

    Spec: etcd --enable-pprof
    Spec: etcd THREAT_MODEL.md, opt-in debugging
    Severity: low
    Level: SHOULD
    Remediation: drop --enable-pprof and --log-level=debug when the investigation is over.
    """
    yield from _absent(exchange, "profiles are served")


def _absent(exchange: Exchange, message: str) -> Iterator[Statement]:
    yield from unanswered(exchange)
    response = exchange.attempt.response
    if response is not None and response.status != 404:
        yield Finding(
            message=message,
            expected="HTTP 404",
            observed=show(response),
            reproduce=(
                curl(exchange.url, role=exchange.role, path=exchange.path, files=GOOD_CLIENT, look=STATUS),
            ),
        )


def _client_port(version: Exchange, variables: Exchange, gateway: Exchange) -> Mapping[str, Any]:
    answer = Response(status=200, body=b'{"etcdserver":"3.6.16","etcdcluster":"3.6.0"}')
    return {"version": answered_with(version, answer)}


@check("api.metrics-scope", on={Role.METRICS}, counterexample=_client_port)
def the_metrics_listener_serves_metrics_only(
    version: Annotated[Exchange, "/version"],
    variables: Annotated[Exchange, "/debug/vars"],
    gateway: Annotated[Exchange, "/v3/maintenance/status"],
) -> Iterator[Statement]:
    """The metrics listener serves health and metrics, and nothing else.

    It is opened wider than the client port, often without TLS. Where more answers, it is the client port that
    was opened: by a port forward, or a proxy. Over https whoever has no certificate is found by
    mtls.no-certificate.

    Spec: etcd --listen-metrics-urls
    Severity: high
    Level: MUST, SHOULD where clients need a certificate
    Remediation: let monitoring reach --listen-metrics-urls, and not --listen-client-urls.
    """
    found: list[str] = []
    for exchange in (version, variables, gateway):
        yield from unanswered(exchange)
        response = exchange.attempt.response
        if response is not None and response.status != 404:
            found.append(f"{exchange.path}: HTTP {response.status}")
    if found:
        yield Finding(
            message="the metrics listener serves more than health and metrics",
            expected="HTTP 404 for /version, /debug/vars and /v3",
            observed="; ".join(found),
            reproduce=(curl(version.url, role=version.role, path=found[0].partition(":")[0], look=STATUS),),
            level=Level.SHOULD if version.url.startswith("https:") else None,
        )


def _from_outside(answer: Answer, listener: ListenerFacts) -> Mapping[str, Any]:
    url = "http://192.0.2.1:2381"
    attempt = replace(answer.tls[0], way=Way.SERVED, alert=None, response=Response(status=200))
    return {
        "answer": replace(answer, tls=(), plaintext=attempt),
        "listener": replace(listener, scheme="http", host="192.0.2.1", url=url),
    }


@check("api.metrics-exposed", on={Role.METRICS}, counterexample=_from_outside)
def plain_metrics_stay_on_loopback(answer: Answer, listener: ListenerFacts) -> Iterator[Statement]:
    """A metrics listener without TLS is on loopback only.

    Metrics tell versions, addresses of the members, sizes and load to everybody who reaches the port.
    kubeadm's default is http on 127.0.0.1.

    Spec: etcd --listen-metrics-urls
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Severity: low
    Level: SHOULD
    Remediation: name an https URL in --listen-metrics-urls, or one on 127.0.0.1.
    """
    if listener.scheme == "https":
        yield Note("the metrics listener has TLS")
    elif (
        answer.plaintext is not None and answer.plaintext.way is Way.SERVED and not is_loopback(listener.host)
    ):
        yield Finding(
            message="metrics are served without TLS beyond loopback",
            expected="https, or an address of loopback",
            observed=f"{listener.url}: {answer.plaintext.describe()}",
            reproduce=(curl(listener.url, role=listener.role, path="/metrics", look=STATUS),),
        )
