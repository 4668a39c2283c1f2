"""What no etcd can be brought to: answers of something that passes as an etcd, or stands before one.

Real sockets and handshakes; etcd has no flag for a wrong clock, a redirection, or gRPC over HTTP/1.1.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

import pytest
from impostors.hello import offers_tls13
from impostors.impostor import PREFACE, Answer, answers
from impostors.staging import Stage

from pytest_etcdtls.registry import catalogue
from pytest_etcdtls.results import Level, Outcome
from pytest_etcdtls.role import Role

HTML = Answer(body=b"<html>It works!</html>", headers={"Content-Type": "text/html"})
STATUS = "/etcdserverpb.Maintenance/Status"


def _is_found(phase: Stage, check: str) -> bool:
    level = catalogue()[check].level
    return phase.judge(check).outcome is (Outcome.VIOLATES if level is Level.MUST else Outcome.WARNS)


@pytest.mark.parametrize("role", [Role.CLIENT, Role.PEER])
def test_one_that_tells_no_lies_is_clean(phase: Stage, role: Role) -> None:
    listener = phase.put_up(role)
    for check in catalogue().values():
        if check.family in {"listener", "api"} and role in check.roles:
            outcome = phase.judge(check.id, listener).outcome
            assert outcome in (Outcome.CONFORMS, Outcome.NOT_VERIFIED), check.id


LIES = [
    ("listener.is-etcd", Role.PEER, {"/version": HTML}),
    ("api.version-answers", Role.CLIENT, {"/version": Answer(status=404)}),
    ("api.version-body", Role.CLIENT, {"/version": HTML}),
    ("api.healthy", Role.CLIENT, {"/health": Answer(status=503, body=b'{"health":"false"}')}),
    ("api.no-redirect", Role.CLIENT, {"/version": Answer(status=302, headers={"Location": "/login"})}),
    (
        "api.no-content-encoding",
        Role.CLIENT,
        {
            "/version": Answer(
                body=b'{"etcdserver":"3.6.16","etcdcluster":"3.6.0"}', headers={"Content-Encoding": "gzip"}
            )
        },
    ),
    (
        "api.clock-agrees",
        Role.PEER,
        {
            "/version": Answer(
                body=b'{"etcdserver":"3.6.16","etcdcluster":"3.6.0"}',
                headers={"Date": "Sat, 01 Jan 2000 00:00:00 GMT"},
            )
        },
    ),
    ("api.grpc-range", Role.CLIENT, {"/etcdserverpb.KV/Range": Answer(grpc_status=14)}),
    (
        "api.grpc-over-http2-only",
        Role.CLIENT,
        {f"http/1.1:{STATUS}": Answer(headers={"Content-Type": "application/grpc"})},
    ),
]


@pytest.mark.kills(
    "listener.is-etcd",
    "api.version-answers",
    "api.version-body",
    "api.healthy",
    "api.no-redirect",
    "api.no-content-encoding",
    "api.clock-agrees",
    "api.grpc-range",
    "api.grpc-over-http2-only",
)
@pytest.mark.parametrize(("check", "role", "lies"), LIES, ids=[check for check, _, _ in LIES])
def test_one_lie(phase: Stage, check: str, role: Role, lies: dict[str, Answer]) -> None:
    phase.put_up(role, overrides=lies)
    assert _is_found(phase, check)


HALF_A_PAIR = Answer(status=503, body=b'{"code":14,"message":"remote error: tls: internal error"}')
"""What the gateway says for a second when it has dialled etcd while the served pair was being replaced."""


@pytest.mark.parametrize(("failures", "outcome"), [(2, Outcome.CONFORMS), (3, Outcome.WARNS)])
def test_a_gateway_that_could_not_dial_is_asked_once_more(
    phase: Stage, failures: int, outcome: Outcome
) -> None:
    path, asked = "/v3/maintenance/status", []

    def recovers(stream: ssl.SSLSocket, first: bytes) -> bool:
        if path.encode() in first:
            asked.append(path)
            if len(asked) > failures:
                phase.responses[path] = answers("3.6.16")[path]
        return False

    phase.put_up(overrides={path: HALF_A_PAIR}, closes=recovers)
    assert phase.judge("api.gateway-works").outcome is outcome
    # Once in each TLS version, and once more.
    assert len(asked) == 3


def test_a_gateway_whose_certificate_is_refused_is_not_asked_again(phase: Stage) -> None:
    path = "/v3/maintenance/status"
    phase.put_up(
        overrides={path: Answer(status=503, body=b'{"message":"remote error: tls: bad certificate"}')}
    )
    found = phase.judge("api.gateway-works")
    assert found.outcome is Outcome.WARNS
    assert "bad certificate" in found.findings[0].observed
    assert found.remediation


@pytest.mark.kills("api.peer-over-http1")
def test_a_peer_port_that_means_what_it_negotiates(phase: Stage) -> None:
    phase.put_up(
        Role.PEER,
        closes=lambda stream, first: (
            stream.selected_alpn_protocol() == "h2" and not first.startswith(PREFACE)
        ),
    )
    assert _is_found(phase, "api.peer-over-http1")


@pytest.mark.kills("mtls.same-verdict-every-version")
@pytest.mark.parametrize("role", [Role.CLIENT, Role.PEER])
def test_a_certificate_is_asked_for_in_tls13_only(phase: Stage, role: Role) -> None:
    strict, lax = phase.context(role), phase.context(role, ssl.CERT_NONE)

    def by_hello(connection: socket.socket) -> ssl.SSLContext:
        return strict if offers_tls13(connection) else lax

    phase.put_up(role, context=by_hello)
    result = phase.judge("mtls.same-verdict-every-version")
    assert result.outcome is Outcome.VIOLATES
    assert {finding.evidence["identity"] for finding in result.findings} >= {"none", "foreign-ca"}


def _closes_revoked(phase: Stage) -> Callable[[ssl.SSLSocket, bytes], bool]:
    serial = f"{phase.pki.revoked.chain[0].serial_number:X}"

    def closes(stream: ssl.SSLSocket, first: bytes) -> bool:
        certificate = stream.getpeercert() or {}
        return str(certificate.get("serialNumber", "")).lstrip("0") == serial

    return closes


@pytest.mark.kills("mtls.same-verdict-grpc-and-http", "advisory.ghsa-3wh4-j44w-pg92-proved")
def test_the_crl_counts_for_http_only(phase: Stage) -> None:
    phase.put_up(Role.CLIENT, closes=lambda _stream, first: not first.startswith(PREFACE))
    phase.put_up(Role.CLIENT_HTTP, closes=_closes_revoked(phase))
    for check in ("mtls.same-verdict-grpc-and-http", "advisory.ghsa-3wh4-j44w-pg92-proved"):
        result = phase.judge(check)
        assert result.outcome is Outcome.VIOLATES
        assert result.findings[0].evidence["identity"] == "revoked"


@pytest.mark.kills("advisory.cve-2018-16886-inferred", "advisory.cve-2020-15136-inferred")
@pytest.mark.parametrize("check", ["advisory.cve-2018-16886-inferred", "advisory.cve-2020-15136-inferred"])
def test_a_release_from_before_the_fixes(phase: Stage, check: str) -> None:
    phase.put_up(version="3.3.10")
    assert _is_found(phase, check)
