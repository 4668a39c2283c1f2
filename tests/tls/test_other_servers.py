"""Sessions, ALPN and renegotiation on servers of OpenSSL that do what Go's TLS never does."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from OpenSSL import SSL
from servers import Handler, Server
from tls.etcd_alike import Files, both_ports, etcd_alike, forgetful, judge

from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.role import Role

Serve = Callable[[Handler], Server]

RESUMPTION = "mtls.resumption-keeps-verdict"
TRANSFER = "mtls.ticket-not-transferable"
_ALLOW_CLIENT_RENEGOTIATION = 1 << 8


@pytest.fixture
def files(pki: tuple[ClusterPKI, Path]) -> Files:
    return Files(*pki)


def _outcomes(results: list[CheckResult]) -> dict[str, Outcome]:
    return {result.listener.partition("-")[0]: result.outcome for result in results}


# -- sessions ----------------------------------------------------------------------------------------


def test_ports_with_ticket_keys_of_their_own(serve: Serve, files: Files) -> None:
    servers = [serve(etcd_alike(files.context(role))) for role in (Role.CLIENT, Role.PEER)]
    results = judge(files.target(*both_ports(servers)), RESUMPTION, TRANSFER)
    assert {result.outcome for result in results} == {Outcome.CONFORMS}, results
    resumed = [result.reason for result in results if result.check == RESUMPTION]
    assert resumed == ["TLSv1.2: resumed; TLSv1.3: resumed"] * 2


@pytest.mark.kills("mtls.ticket-not-transferable")
def test_ports_that_share_their_ticket_keys(serve: Serve, files: Files) -> None:
    context = files.context()
    context.load_verify_locations(files.directory / "peer-ca.crt")
    servers = [serve(etcd_alike(context)) for _ in range(2)]
    results = judge(files.target(*both_ports(servers)), RESUMPTION, TRANSFER, "mtls.no-certificate")
    found = [result for result in results if result.outcome is not Outcome.CONFORMS]
    assert [(result.check, result.outcome) for result in found] == [(TRANSFER, Outcome.VIOLATES)] * 2, results
    for result in found:
        assert {finding.message.rpartition(" ")[2] for finding in result.findings} == {"TLSv1.2", "TLSv1.3"}
        texts = [text for finding in result.findings for text in finding.commands]
        assert all("(printf" in text for text in texts), texts


def test_the_other_port_must_be_known(serve: Serve, files: Files) -> None:
    server = serve(etcd_alike(files.context()))
    (result,) = judge(files.target(server.listener()), TRANSFER)
    assert result.outcome is Outcome.NOT_VERIFIED
    assert "--etcd-peer-endpoint" in result.reason


def test_a_port_without_sessions(serve: Serve, files: Files) -> None:
    contexts = [files.context(role) for role in (Role.CLIENT, Role.PEER)]
    for context in contexts:
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        context.maximum_version = ssl.TLSVersion.TLSv1_3
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    servers = [serve(etcd_alike(context)) for context in contexts]
    results = judge(files.target(*both_ports(servers)), RESUMPTION, TRANSFER, "tls.early-data")
    assert {result.outcome for result in results} == {Outcome.CONFORMS}, results
    assert {result.reason for result in results if result.check == RESUMPTION} == {"TLSv1.3: not resumed"}


@pytest.mark.kills("mtls.resumption-keeps-verdict")
def test_a_server_that_refuses_its_own_sessions(serve: Serve, files: Files) -> None:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    pair = files.directory / "m0"
    context.use_certificate_file(str(pair / "server.crt"))
    context.use_privatekey_file(str(pair / "server.key"))
    context.load_verify_locations(str(files.directory / "client-ca.crt"))
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    server = serve(forgetful(context))
    (result,) = judge(files.target(server.listener()), RESUMPTION)
    assert result.outcome is Outcome.VIOLATES, result
    assert all("accepted, but not with its session" in finding.message for finding in result.findings)
    assert all("alert 80 internal_error" in finding.observed for finding in result.findings)


@pytest.mark.parametrize("forgets", [True, False])
def test_a_revocation_list_that_is_forgotten_when_a_session_is_resumed(
    serve: Serve, files: Files, forgets: bool
) -> None:
    revoked = files.pki.revoked.chain[0].serial_number

    def refuses(stream: ssl.SSLSocket) -> bool:
        shown = stream.getpeercert()
        assert shown is not None
        return int(str(shown["serialNumber"]), 16) == revoked and not (forgets and stream.session_reused)

    server = serve(etcd_alike(files.context(), refuses))
    (result,) = judge(files.target(server.listener(), revocation=True), RESUMPTION)
    if not forgets:
        assert result.outcome is Outcome.CONFORMS, result
        return
    assert result.outcome is Outcome.VIOLATES, result
    assert {finding.message for finding in result.findings} == {
        f"a client that is refused otherwise is accepted with its session, in {version}"
        for version in ("TLSv1.2", "TLSv1.3")
    }


# -- ALPN --------------------------------------------------------------------------------------------


@pytest.mark.kills("tls.alpn-h2", "tls.alpn-unknown-refused")
@pytest.mark.parametrize(
    ("names", "outcome"),
    [([], Outcome.VIOLATES), (["http/1.1"], Outcome.VIOLATES), (["h2", "http/1.1"], Outcome.CONFORMS)],
)
def test_protocols_that_are_selected(serve: Serve, files: Files, names: list[str], outcome: Outcome) -> None:
    context = files.context()
    if names:
        context.set_alpn_protocols(names)
    server = serve(etcd_alike(context))
    known, unknown = judge(files.target(server.listener()), "tls.alpn-*")
    assert (known.check, known.outcome) == ("tls.alpn-h2", outcome), known
    # Python's ssl goes on without a protocol where none fits.
    assert (unknown.check, unknown.outcome) == ("tls.alpn-unknown-refused", Outcome.WARNS), unknown
    assert [finding.message.rpartition(" ")[2] for finding in unknown.findings] == ["TLSv1.2", "TLSv1.3"]


# -- renegotiation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("allowed", [True, False])
def test_a_client_that_renegotiates(serve: Serve, files: Files, allowed: bool) -> None:
    context = files.context()
    if allowed:
        context.options |= _ALLOW_CLIENT_RENEGOTIATION
    server = serve(etcd_alike(context))
    (result,) = judge(files.target(server.listener()), "tls.renegotiation")
    assert result.outcome is (Outcome.VIOLATES if allowed else Outcome.CONFORMS), result
    assert [finding.message for finding in result.findings] == ["a client can renegotiate"] * allowed
