"""What a stranger gets: nothing of the API answers without a certificate.

mtls.no-certificate says whether strangers are let in; these checks say to what. The handshake comes before
any path, so that with etcd alone all of them or none violate; what stands before it can make a difference.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any

from pytest_etcdtls.checks.mtls_refusals import let_in
from pytest_etcdtls.observations.admission import Admission
from pytest_etcdtls.observations.api import StrangerExchange
from pytest_etcdtls.observations.attempt import Attempt, Protocol, Response, Way
from pytest_etcdtls.refusal import ControlState, rule
from pytest_etcdtls.registry import check
from pytest_etcdtls.reproduce import curl
from pytest_etcdtls.results import Finding, Outcome, Statement, Verdict
from pytest_etcdtls.target import Role

_WITH_HTTP = frozenset({Role.CLIENT, Role.CLIENT_HTTP, Role.METRICS})
_WITH_GATEWAY = frozenset({Role.CLIENT, Role.CLIENT_HTTP})


def _answered(stranger: StrangerExchange) -> Mapping[str, Any]:
    answer = replace(stranger.attempt, way=Way.SERVED, alert=None, response=Response(status=200))
    return {"stranger": replace(stranger, tries=(answer,))}


@check("api.health-needs-certificate", on=_WITH_HTTP, counterexample=_answered)
def health_is_not_told_to_strangers(stranger: Annotated[StrangerExchange, "/health"]) -> Iterator[Statement]:
    """/health does not answer without a certificate.

    Load balancers and probes that cannot present one have the metrics listener for that; a hole for them in
    the client port is a hole for everybody.

    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Severity: medium
    Level: MUST
    Remediation: require certificates for every path, and let probes ask --listen-metrics-urls instead.
    """
    yield from _judge(stranger)


@check("api.metrics-needs-certificate", on=_WITH_HTTP, counterexample=_answered)
def metrics_are_not_told_to_strangers(
    stranger: Annotated[StrangerExchange, "/metrics"],
) -> Iterator[Statement]:
    """/metrics does not answer without a certificate.

    Metrics tell versions, addresses of the members, sizes and load.

    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Severity: medium
    Level: MUST
    Remediation: require certificates for every path, and let Prometheus ask --listen-metrics-urls on
        loopback instead.
    """
    yield from _judge(stranger)


@check("api.debug-vars", on=_WITH_GATEWAY, counterexample=_answered)
def debug_variables_are_not_told_to_strangers(
    stranger: Annotated[StrangerExchange, "/debug/vars"],
) -> Iterator[Statement]:
    """/debug/vars does not answer without a certificate.

    etcd always serves it, with its whole command line; its threat model relies on mutual TLS to protect it.

    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Severity: low
    Level: MUST
    Remediation: require certificates on the client port, with --client-cert-auth and --trusted-ca-file.
    """
    yield from _judge(stranger)


@check("api.gateway-needs-certificate", on=_WITH_GATEWAY, counterexample=let_in)
def the_gateway_does_not_answer_strangers(admission: Annotated[Admission, "none"]) -> Iterator[Statement]:
    """The JSON gateway does not answer without a certificate.

    Through it everything can be read and written with curl.

    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Severity: critical
    Level: MUST
    Remediation: require certificates on the client port, with --client-cert-auth and --trusted-ca-file.
    """
    yield from _judge_cells(admission, Protocol.GATEWAY, "the JSON gateway")


@check("api.grpc-needs-certificate", on={Role.CLIENT}, counterexample=let_in)
def grpc_does_not_answer_strangers(admission: Annotated[Admission, "none"]) -> Iterator[Statement]:
    """No gRPC call is answered without a certificate.

    It is what every client uses to read and write keys.

    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Severity: critical
    Level: MUST
    Remediation: require certificates on the client port, with --client-cert-auth and --trusted-ca-file.
    """
    yield from _judge_cells(admission, Protocol.GRPC, "gRPC")


def _judge(stranger: StrangerExchange) -> Iterator[Statement]:
    line = curl(stranger.url, role=stranger.role, path=stranger.path)
    yield from _one(stranger.attempt, stranger.control, stranger.path, line)


def _judge_cells(admission: Admission, protocol: Protocol, what: str) -> Iterator[Statement]:
    cells = [cell for cell in admission.cells if cell.protocol is protocol]
    if not cells:
        yield Verdict(Outcome.NOT_APPLICABLE, f"{admission.url} does not answer {what} to the good client")
    for cell in cells:
        line = curl(admission.url, role=admission.role, version=cell.version, protocol=protocol)
        statements = list(_one(cell.attempt, cell.control.attempt, f"{what} in {cell.version}", line))
        yield from statements
        if any(isinstance(statement, Finding) for statement in statements):
            return


def _one(attempt: Attempt, control: Attempt | None, what: str, line: str) -> Iterator[Statement]:
    ruling = rule(attempt.way, ControlState(control.way) if control else ControlState.NONE_KNOWN)
    if ruling.outcome is Outcome.VIOLATES:
        if not _turned_away(attempt):
            yield Finding(
                message=f"{what} answers without a certificate",
                expected="a certificate alert",
                observed=attempt.describe(),
                reproduce=(line,),
            )
    elif ruling.outcome is not Outcome.CONFORMS:
        reason = ruling.note if ruling.outcome is Outcome.NOT_VERIFIED else attempt.describe()
        yield Verdict(ruling.outcome, f"{what}: {reason}")


def _turned_away(attempt: Attempt) -> bool:
    """Whether the answer is an error of HTTP: somebody was let in, to nothing."""
    return attempt.response is not None and attempt.response.status >= 400
