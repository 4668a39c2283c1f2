"""What should not be served, or not on that port: old APIs, profiles, and APIs on the metrics listener."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from msgspec.structs import replace

from pytest_etcdtls.checks.api_answers import judge_status, unanswered
from pytest_etcdtls.checks.judgement import SERVED, changed
from pytest_etcdtls.checks.mtls_refusals import as_if_accepted
from pytest_etcdtls.checks.refusal_table import ControlState, rule
from pytest_etcdtls.checks.registry import CLIENT_PORTS, CLIENT_PORTS_AND_METRICS, check
from pytest_etcdtls.checks.results import (
    CannotJudge,
    Finding,
    Level,
    Note,
    Outcome,
    Statement,
    not_applicable,
)
from pytest_etcdtls.declared.cures import client_certificates, https_metrics, no_profiles, without
from pytest_etcdtls.declared.declaration import is_loopback
from pytest_etcdtls.facts.access_matrix import AccessMatrix
from pytest_etcdtls.facts.api import ClientExchange, UnauthenticatedExchange, serves_grpc_only
from pytest_etcdtls.facts.listener import FirstContact
from pytest_etcdtls.role import Protocol, Role
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import Attempt, Ending, Response
from pytest_etcdtls.tls.command import STATUS, Command, curl

_there = changed("exchange.tries.*", response=Response(status=200, body=b"{}"))


@check("api.v2-disabled", on=CLIENT_PORTS, counterexample=_there, cure=without("enable-v2"))
def the_v2_api_is_off(exchange: Annotated[ClientExchange, "/v2/keys"]) -> Iterator[Statement]:
    """The v2 API is not served.

    Its key space is separate from v3's. It has its own authentication, which is disabled unless it is
    configured separately.

    Spec: etcd --enable-v2
    Severity: medium
    Level: SHOULD
    Remediation: do not set --enable-v2; etcd 3.6 and newer has no v2 API.
    """
    yield from judge_status(exchange, {404}, "the v2 API is served", "HTTP 404")


@check("api.pprof-hidden", on=CLIENT_PORTS, counterexample=_there, cure=no_profiles)
def profiles_are_off(exchange: Annotated[ClientExchange, "/debug/pprof/"]) -> Iterator[Statement]:
    """Profiles (pprof) are not served.

    Heap and goroutine profiles expose data from etcd's memory, and taking one slows etcd down.
    --log-level=debug enables them as well.

    Spec: etcd --enable-pprof
    Spec: etcd THREAT_MODEL.md, opt-in debugging
    Severity: low
    Level: SHOULD
    Remediation: remove --enable-pprof and --log-level=debug after the investigation.
    """
    yield from judge_status(exchange, {404}, "profiles are served", "HTTP 404")


_client_port = changed("version.tries.*", response=SERVED["response"])


@check("api.metrics-scope", on={Role.METRICS}, counterexample=_client_port)
def the_metrics_listener_serves_metrics_only(
    here: Listener,
    version: Annotated[ClientExchange, "/version"],
    variables: Annotated[ClientExchange, "/debug/vars"],
    gateway: Annotated[ClientExchange, "/v3/maintenance/status"],
) -> Iterator[Statement]:
    """The metrics listener serves only health and metrics.

    It is reachable from more hosts than the client port, often without TLS. If it serves more, a port forward
    or a proxy exposes the client port there. Over https, access without a certificate is judged by
    mtls.no-certificate.

    Spec: etcd --listen-metrics-urls
    Severity: high
    Level: MUST, SHOULD where clients need a certificate
    Remediation: let monitoring connect to --listen-metrics-urls, and not to --listen-client-urls.
    """
    served: list[str] = []
    for exchange in (version, variables, gateway):
        yield from unanswered(exchange)
        response = exchange.attempt.response
        if response is not None and response.status != 404:
            served.append(f"{exchange.path}: HTTP {response.status}")
    if served:
        yield Finding(
            message="the metrics listener serves more than health and metrics",
            expected="HTTP 404 for /version, /debug/vars and /v3",
            observed="; ".join(served),
            reproduce=(curl(here.url, path=served[0].partition(":")[0], look=STATUS),),
            level=Level.SHOULD if here.scheme == "https" else None,
        )


def _from_outside(answer: FirstContact, here: Listener) -> Mapping[str, Any]:
    attempt = replace(answer.tls[0], ending=Ending.SERVED, alert=None, response=Response(status=200))
    return {
        "answer": replace(answer, tls=(), plaintext=attempt),
        "here": dataclasses.replace(here, scheme="http", host="192.0.2.1"),
    }


@check("api.metrics-exposed", on={Role.METRICS}, counterexample=_from_outside, cure=https_metrics)
def plain_metrics_stay_on_loopback(answer: FirstContact, here: Listener) -> Iterator[Statement]:
    """A metrics listener without TLS listens on loopback only.

    Metrics disclose versions, member addresses, sizes and load to any client that reaches the port. kubeadm's
    default is http on 127.0.0.1.

    Spec: etcd --listen-metrics-urls
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Severity: low
    Level: SHOULD
    Remediation: let --listen-metrics-urls name 127.0.0.1, or an https URL: scrapers then need a client
        certificate, and a probe of the kubelet, which has none, fails.
    """
    if here.scheme == "https":
        yield Note("the metrics listener has TLS")
    elif (
        answer.plaintext is not None
        and answer.plaintext.ending is Ending.SERVED
        and not here.is_local
    ):
        yield Finding(
            message="metrics are served without TLS beyond loopback",
            expected="https, or a loopback address",
            observed=f"{here.url}: {answer.plaintext.describe()}",
            reproduce=(curl(here.url, path="/metrics", look=STATUS),),
        )


_answered = changed("unauthenticated.tries.*", **SERVED)


@check(
    "api.health-needs-certificate",
    on=CLIENT_PORTS_AND_METRICS,
    counterexample=_answered,
    cure=client_certificates,
)
def health_needs_a_certificate(
    unauthenticated: Annotated[UnauthenticatedExchange, "/health"],
) -> Iterator[Statement]:
    """/health does not answer without a certificate.

    An exception for probes on the client port is open to every client. Load balancers and probes without a
    certificate can use the metrics listener.

    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Follows: mtls.no-certificate
    Severity: medium
    Level: MUST
    Remediation: require certificates for every path, and let probes use --listen-metrics-urls instead.
    """
    yield from _judge(unauthenticated)


@check(
    "api.metrics-needs-certificate",
    on=CLIENT_PORTS_AND_METRICS,
    counterexample=_answered,
    cure=client_certificates,
)
def metrics_need_a_certificate(
    unauthenticated: Annotated[UnauthenticatedExchange, "/metrics"],
) -> Iterator[Statement]:
    """/metrics does not answer without a certificate.

    Metrics disclose versions, member addresses, sizes and load.

    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Follows: mtls.no-certificate
    Severity: medium
    Level: MUST
    Remediation: require certificates for every path, and let Prometheus use --listen-metrics-urls on loopback
        instead.
    """
    yield from _judge(unauthenticated)


@check("api.debug-vars", on=CLIENT_PORTS, counterexample=_answered, cure=client_certificates)
def debug_variables_need_a_certificate(
    unauthenticated: Annotated[UnauthenticatedExchange, "/debug/vars"],
) -> Iterator[Statement]:
    """/debug/vars does not answer without a certificate.

    etcd always serves it, and it discloses etcd's whole command line. etcd's threat model relies on mutual
    TLS to protect it.

    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Follows: mtls.no-certificate
    Severity: low
    Level: MUST
    Remediation: require certificates on the client port, with --client-cert-auth and --trusted-ca-file.
    """
    yield from _judge(unauthenticated)


@check(
    "api.gateway-needs-certificate", on=CLIENT_PORTS, counterexample=as_if_accepted, cure=client_certificates
)
def the_gateway_needs_a_certificate(
    here: Listener, target: Target, matrix: Annotated[AccessMatrix, "none"]
) -> Iterator[Statement]:
    """The JSON gateway does not answer without a certificate.

    Any client can read and write every key through it, for example with curl.

    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Follows: mtls.no-certificate
    Severity: critical
    Level: MUST
    Remediation: require certificates on the client port, with --client-cert-auth and --trusted-ca-file.
    """
    if matrix.cases.protocols == (Protocol.GRPC,):
        raise serves_grpc_only(here, target)
    yield from _judge_cases(here, matrix, Protocol.GATEWAY, "the JSON gateway")


@check(
    "api.grpc-needs-certificate", on={Role.CLIENT}, counterexample=as_if_accepted, cure=client_certificates
)
def grpc_needs_a_certificate(here: Listener, matrix: Annotated[AccessMatrix, "none"]) -> Iterator[Statement]:
    """No gRPC call is answered without a certificate.

    Any client can read and write every key over gRPC.

    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Follows: mtls.no-certificate
    Severity: critical
    Level: MUST
    Remediation: require certificates on the client port, with --client-cert-auth and --trusted-ca-file.
    """
    yield from _judge_cases(here, matrix, Protocol.GRPC, "gRPC")


def _judge(unauthenticated: UnauthenticatedExchange) -> Iterator[Statement]:
    line = curl(unauthenticated.attempt.url, path=unauthenticated.path)
    yield from _judge_attempt(unauthenticated.attempt, unauthenticated.control, unauthenticated.path, line)


def _judge_cases(
    here: Listener, matrix: AccessMatrix, protocol: Protocol, subject: str
) -> Iterator[Statement]:
    cases = matrix.cases.over(protocol)
    if not cases:
        yield not_applicable(f"{here.url} does not answer {subject} to the good client")
    for case in cases:
        line = curl(here.url, version=case.version, protocol=protocol)
        control = case.control.attempt if case.control else None
        statements = list(_judge_attempt(case.attempt, control, f"{subject} in {case.version}", line))
        yield from statements
        if any(isinstance(statement, Finding) for statement in statements):
            return


def _judge_attempt(
    attempt: Attempt, control: Attempt | None, subject: str, line: Command
) -> Iterator[Statement]:
    if attempt.response is not None and attempt.response.status >= 400:
        return  # The client got nothing, whoever sent the error.
    ruling = rule(attempt.ending, ControlState(control.ending) if control else ControlState.NONE_KNOWN)
    if ruling.outcome is Outcome.VIOLATES:
        yield Finding(
            message=f"{subject} answers without a certificate",
            expected="a certificate alert",
            observed=attempt.describe(),
            reproduce=(line,),
        )
    elif ruling.outcome is not Outcome.CONFORMS:
        reason = ruling.note if ruling.outcome is Outcome.NOT_VERIFIED else attempt.describe()
        yield CannotJudge(ruling.outcome, f"{subject}: {reason}")
