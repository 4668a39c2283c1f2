"""Sessions, ALPN and renegotiation on servers of OpenSSL that do what Go's TLS never does."""

from __future__ import annotations

import socket
import ssl

import pytest
from impostors.impostor import answers, over_http1
from impostors.staging import FakeCluster
from OpenSSL import SSL
from servers import Handler, etcd_context

from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.role import Role

RESUMPTION = "mtls.resumption-keeps-verdict"
TRANSFER = "mtls.ticket-not-transferable"
_ALLOW_CLIENT_RENEGOTIATION = 1 << 8


def put_up(fake: FakeCluster, context: ssl.SSLContext, role: Role = Role.CLIENT) -> None:
    fake.put_up(role, context=lambda _: context)


def forgetful(context: SSL.Context) -> Handler:
    """Return a handler with pyOpenSSL and no session id context, which breaks resumption."""

    def handle(connection: socket.socket) -> None:
        stream = SSL.Connection(context, connection)
        stream.set_accept_state()
        data = b""
        try:
            stream.do_handshake()
            while b"\r\n\r\n" not in (data := data + stream.recv(4096)):
                pass
            stream.sendall(over_http1(answers("3.6.16")["/version"]))
            stream.shutdown()
        except SSL.Error as error:
            raise OSError(str(error)) from error

    return handle


def test_the_hellos_are_those_of_a_client(fake: FakeCluster) -> None:
    fake.put_up()
    results = fake.judge("tls", "!tls.stalled-handshake")
    # What OpenSSL has by default, and Python's ssl, which goes on without a protocol where none fits.
    usual = {"tls.cbc-suites", "tls.hybrid-group", "tls.alpn-unknown-refused"}
    assert {result.check for result in results if result.outcome is not Outcome.CONFORMS} <= usual, results


# -- sessions ----------------------------------------------------------------------------------------


def test_ports_with_ticket_keys_of_their_own(fake: FakeCluster) -> None:
    for role in (Role.CLIENT, Role.PEER):
        put_up(fake, etcd_context(fake.directory, role), role)
    results = fake.judge(RESUMPTION, TRANSFER)
    assert {result.outcome for result in results} == {Outcome.CONFORMS}, results
    resumed = [result.reason for result in results if result.check == RESUMPTION]
    assert resumed == ["TLSv1.2: resumed; TLSv1.3: resumed"] * 2


@pytest.mark.kills("mtls.ticket-not-transferable")
def test_ports_that_share_their_ticket_keys(fake: FakeCluster) -> None:
    context = etcd_context(fake.directory)
    context.load_verify_locations(fake.directory / "peer-ca.crt")
    for role in (Role.CLIENT, Role.PEER):
        put_up(fake, context, role)
    results = fake.judge(RESUMPTION, TRANSFER, "mtls.no-certificate")
    found = [result for result in results if result.outcome is not Outcome.CONFORMS]
    assert [(result.check, result.outcome) for result in found] == [(TRANSFER, Outcome.VIOLATES)] * 2, results
    for result in found:
        assert {finding.message.rpartition(" ")[2] for finding in result.findings} == {"TLSv1.2", "TLSv1.3"}
        texts = [text for finding in result.findings for text in finding.commands]
        assert all("(printf" in text for text in texts), texts


def test_the_other_port_must_be_known(fake: FakeCluster) -> None:
    fake.put_up()
    (result,) = fake.judge(TRANSFER)
    assert result.outcome is Outcome.NOT_VERIFIED
    assert "--etcd-peer-endpoint" in result.reason


def test_a_port_without_sessions(fake: FakeCluster) -> None:
    for role in (Role.CLIENT, Role.PEER):
        context = etcd_context(fake.directory, role)
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        context.maximum_version = ssl.TLSVersion.TLSv1_3
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        put_up(fake, context, role)
    results = fake.judge(RESUMPTION, TRANSFER, "tls.early-data")
    assert {result.outcome for result in results} == {Outcome.CONFORMS}, results
    assert {result.reason for result in results if result.check == RESUMPTION} == {"TLSv1.3: not resumed"}


@pytest.mark.kills("mtls.resumption-keeps-verdict")
def test_a_server_that_refuses_its_own_sessions(fake: FakeCluster) -> None:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    pair = fake.directory / "m0"
    context.use_certificate_file(str(pair / "server.crt"))
    context.use_privatekey_file(str(pair / "server.key"))
    context.load_verify_locations(str(fake.directory / "client-ca.crt"))
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    fake.listeners.append(fake.serve(forgetful(context)).listener())
    (result,) = fake.judge(RESUMPTION)
    assert result.outcome is Outcome.VIOLATES, result
    assert all("accepted, but not with its session" in finding.message for finding in result.findings)
    assert all("alert 80 internal_error" in finding.observed for finding in result.findings)


@pytest.mark.parametrize("forgets", [True, False])
def test_a_revocation_list_that_is_forgotten_when_a_session_is_resumed(
    fake: FakeCluster, forgets: bool
) -> None:
    revoked = fake.pki.revoked.chain[0].serial_number

    def refuses(stream: ssl.SSLSocket, _: bytes) -> bool:
        shown = stream.getpeercert()
        assert shown is not None
        return int(str(shown["serialNumber"]), 16) == revoked and not (forgets and stream.session_reused)

    fake.put_up(refuses=refuses)
    (result,) = fake.judge(RESUMPTION)
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
def test_protocols_that_are_selected(fake: FakeCluster, names: list[str], outcome: Outcome) -> None:
    put_up(fake, etcd_context(fake.directory, protocols=names))
    known, unknown = fake.judge("tls.alpn-*")
    assert (known.check, known.outcome) == ("tls.alpn-h2", outcome), known
    # Python's ssl goes on without a protocol where none fits.
    assert (unknown.check, unknown.outcome) == ("tls.alpn-unknown-refused", Outcome.WARNS), unknown
    assert [finding.message.rpartition(" ")[2] for finding in unknown.findings] == ["TLSv1.2", "TLSv1.3"]


# -- renegotiation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("allowed", [True, False])
def test_a_client_that_renegotiates(fake: FakeCluster, allowed: bool) -> None:
    context = etcd_context(fake.directory)
    if allowed:
        context.options |= _ALLOW_CLIENT_RENEGOTIATION
    put_up(fake, context)
    (result,) = fake.judge("tls.renegotiation")
    assert result.outcome is (Outcome.VIOLATES if allowed else Outcome.CONFORMS), result
    assert [finding.message for finding in result.findings] == ["a client can renegotiate"] * allowed
