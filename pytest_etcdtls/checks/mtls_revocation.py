"""Revoked certificates are refused, whatever is spoken after the handshake."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any

from pytest_etcdtls.checks.mtls_refusals import let_in
from pytest_etcdtls.judgement import judge
from pytest_etcdtls.observations.admission import Admission
from pytest_etcdtls.observations.attempt import Protocol
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.results import Outcome, Statement, Verdict
from pytest_etcdtls.target import Role

OVER_HTTP = frozenset({Protocol.HTTP1, Protocol.HTTP2, Protocol.GATEWAY})
OVER_GRPC = frozenset({Protocol.GRPC})


def only(admission: Admission, protocols: frozenset[Protocol]) -> Admission:
    """Return the part of the admission that was seen in those protocols."""
    return replace(admission, cells=tuple(cell for cell in admission.cells if cell.protocol in protocols))


def _served_over(protocols: frozenset[Protocol], admission: Admission) -> Mapping[str, Any]:
    served: Admission = let_in(only(admission, protocols))["admission"]
    others = only(admission, frozenset(Protocol) - protocols)
    return {"admission": replace(admission, cells=(*served.cells, *others.cells))}


def _over_http(admission: Admission) -> Mapping[str, Any]:
    return _served_over(OVER_HTTP, admission)


def _over_grpc(admission: Admission) -> Mapping[str, Any]:
    return _served_over(OVER_GRPC, admission)


@check("mtls.revoked-http", on=EVERY_LISTENER, counterexample=_over_http)
def a_revoked_certificate_is_refused_over_http(
    admission: Annotated[Admission, "revoked"],
) -> Iterator[Statement]:
    """A client with a revoked certificate is refused over HTTP.

    etcd compares serial numbers with the list at every connection and closes after the handshake. A YAML
    configuration has no key for the list: given there, it is ignored without a word.

    Spec: etcd --{side}-crl-file
    Spec: RFC 5280 section 5
    Severity: critical
    Level: MUST
    Remediation: give etcd the list with the flag --{side}-crl-file, not in a configuration file, DER encoded.
    """
    seen = only(admission, OVER_HTTP)
    if not seen.cells:
        yield Verdict(Outcome.NOT_APPLICABLE, f"{admission.url} does not speak HTTP to clients")
    yield from judge(seen, "a client with a revoked certificate")


@check("mtls.revoked-grpc", on={Role.CLIENT}, counterexample=_over_grpc)
def a_revoked_certificate_is_refused_over_grpc(
    admission: Annotated[Admission, "revoked"],
) -> Iterator[Statement]:
    """A client with a revoked certificate is refused over gRPC.

    gRPC is what clients use to read and write keys. Where HTTP has a listener of its own, the list was not
    looked at on the gRPC port before etcd 3.5.32, 3.6.13 and 3.7.0.

    Spec: etcd --client-crl-file
    Spec: RFC 5280 section 5
    Severity: critical
    Level: MUST
    Remediation: upgrade to etcd 3.5.32, 3.6.13 or 3.7.0, or drop --listen-client-http-urls; give the list
        with the flag --client-crl-file, not in a configuration file, DER encoded.
    """
    seen = only(admission, OVER_GRPC)
    if not seen.cells:
        yield Verdict(Outcome.NOT_APPLICABLE, f"{admission.url} does not speak gRPC to clients")
    yield from judge(seen, "a client with a revoked certificate")
