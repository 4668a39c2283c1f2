"""Responses that no etcd sends: of another server at its address, or of a proxy in front of it.

Real sockets and handshakes; etcd has no flag for a wrong clock, a redirection, or gRPC over HTTP/1.1.
"""

from __future__ import annotations

import socket
import ssl

import pytest
from impostors.impostor import PREFACE, Answer, answers
from impostors.staging import FakeCluster
from servers import etcd_context
from tls.hello_server import TLS1_3, parse_client_hello
from zoo.members import FAKES

from pytest_etcdtls.checks.results import Level, Outcome
from pytest_etcdtls.role import Role


def _is_found(fake: FakeCluster, check: str) -> bool:
    [result] = fake.judge(check)
    return result.outcome is (Outcome.VIOLATES if result.level is Level.MUST else Outcome.WARNS)


@pytest.mark.parametrize("role", [Role.CLIENT, Role.PEER])
def test_a_correct_server_is_clean(fake: FakeCluster, role: Role) -> None:
    fake.put_up(role)
    results = fake.judge("listener", "api")
    assert results
    assert {result.outcome for result in results} <= {Outcome.CONFORMS, Outcome.NOT_VERIFIED}, results


@pytest.mark.parametrize("check", FAKES)
def test_one_wrong_response_is_found(fake: FakeCluster, check: str) -> None:
    fake.put_up(overrides=FAKES[check])
    assert _is_found(fake, check)


HALF_A_PAIR = Answer(status=503, body=b'{"code":14,"message":"remote error: tls: internal error"}')
"""The response of the gateway for a second after it dialled etcd while the served pair was being replaced."""


@pytest.mark.parametrize(("failures", "outcome"), [(2, Outcome.CONFORMS), (3, Outcome.WARNS)])
def test_a_gateway_request_is_repeated_after_a_dial_failure(
    fake: FakeCluster, failures: int, outcome: Outcome
) -> None:
    path, requests = "/v3/maintenance/status", []

    def recovers(stream: ssl.SSLSocket, first: bytes) -> bool:
        if path.encode() in first:
            requests.append(path)
            if len(requests) > failures:
                fake.responses[path] = answers("3.6.16")[path]
        return False

    fake.put_up(overrides={path: HALF_A_PAIR}, refuses=recovers)
    assert [result.outcome for result in fake.judge("api.gateway-works")] == [outcome]
    # Once in each TLS version, and once more.
    assert len(requests) == 3


def test_a_gateway_request_is_not_repeated_after_a_refused_certificate(fake: FakeCluster) -> None:
    path = "/v3/maintenance/status"
    fake.put_up(
        overrides={path: Answer(status=503, body=b'{"message":"remote error: tls: bad certificate"}')}
    )
    [found] = fake.judge("api.gateway-works")
    assert found.outcome is Outcome.WARNS
    assert "bad certificate" in found.findings[0].observed
    assert found.remediation


@pytest.mark.kills("api.peer-over-http1")
def test_a_peer_port_with_http2_only_after_h2_is_found(fake: FakeCluster) -> None:
    fake.put_up(
        Role.PEER,
        refuses=lambda stream, first: (
            stream.selected_alpn_protocol() == "h2" and not first.startswith(PREFACE)
        ),
    )
    assert _is_found(fake, "api.peer-over-http1")


@pytest.mark.kills("mtls.same-verdict-every-version")
@pytest.mark.parametrize("role", [Role.CLIENT, Role.PEER])
def test_a_certificate_request_in_tls13_only_is_found(fake: FakeCluster, role: Role) -> None:
    strict, lax = etcd_context(fake.directory, role), etcd_context(fake.directory, role, ssl.CERT_NONE)

    def by_hello(connection: socket.socket) -> ssl.SSLContext:
        hello = parse_client_hello(connection.recv(65536, socket.MSG_PEEK))
        return strict if TLS1_3 in hello.versions else lax

    fake.put_up(role, context=by_hello)
    [result] = fake.judge("mtls.same-verdict-every-version")
    assert result.outcome is Outcome.VIOLATES
    assert {finding.evidence["identity"] for finding in result.findings} >= {"none", "foreign-ca"}


@pytest.mark.kills("advisory.cve-2018-16886-inferred", "advisory.cve-2020-15136-inferred")
@pytest.mark.parametrize("check", ["advisory.cve-2018-16886-inferred", "advisory.cve-2020-15136-inferred"])
def test_a_version_before_the_fixes_is_found(fake: FakeCluster, check: str) -> None:
    fake.put_up(version="3.3.10")
    assert _is_found(fake, check)
