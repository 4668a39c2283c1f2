"""Each of the five endings of an attempt, on real sockets and with real handshakes."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from servers import Handler, Server, reset

from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.identities import foreign_ca
from pytest_etcdtls.role import Protocol, Role, TLSVersion
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Ending, Phase, Request, StreamEnd
from pytest_etcdtls.tls.connection import make_attempt

Serve = Callable[[Handler], Server]
EVERY_VERSION = pytest.mark.parametrize("version", list(TLSVersion))
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def _read_request(stream: ssl.SSLSocket) -> None:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = stream.recv(4096)
        if not chunk:
            return
        data += chunk


def _tls(context: ssl.SSLContext, then: Callable[[ssl.SSLSocket], None]) -> Handler:
    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as stream:
            then(stream)

    return handle


@EVERY_VERSION
def test_served(serve: Serve, tls_context: ssl.SSLContext, version: TLSVersion) -> None:
    def then(stream: ssl.SSLSocket) -> None:
        _read_request(stream)
        stream.sendall(ANSWER)

    attempt = make_attempt(
        serve(_tls(tls_context, then)).listener(), Request(purpose="t", version=version), 5
    )
    assert attempt.ending is Ending.SERVED
    assert attempt.response is not None
    assert (attempt.response.status, attempt.response.body) == (200, b"{}")
    assert (attempt.version, attempt.certificate_requested) == (str(version), False)
    assert attempt.group
    assert len(attempt.chain) == 1


@EVERY_VERSION
def test_refused_with_a_certificate_alert(
    serve: Serve, tls_context: ssl.SSLContext, pki: tuple[ClusterPKI, Path], version: TLSVersion
) -> None:
    tls_context.verify_mode = ssl.CERT_REQUIRED
    tls_context.load_verify_locations(pki[1] / "client-ca.crt")
    listener = serve(_tls(tls_context, _read_request)).listener()
    attempt = make_attempt(listener, Request(purpose="t", version=version, identity=foreign_ca()), 5)
    assert attempt.ending is Ending.REFUSED
    assert attempt.alert == 48
    assert attempt.certificate_requested
    # Python's ssl announces no names: asked for, and an empty list, are two facts.
    assert attempt.announced_ca == ()
    # Under TLS 1.3 our handshake is over before the server has looked at the certificate.
    assert (attempt.phase is Phase.HANDSHAKE) == (version is TLSVersion.TLS1_2)


@EVERY_VERSION
def test_no_certificate_where_one_is_required(
    serve: Serve, tls_context: ssl.SSLContext, version: TLSVersion
) -> None:
    tls_context.verify_mode = ssl.CERT_REQUIRED
    listener = serve(_tls(tls_context, _read_request)).listener()
    attempt = make_attempt(listener, Request(purpose="t", version=version), 5)
    assert (attempt.ending, attempt.certificate_requested) == (Ending.REFUSED, True)
    # After the ServerHelloDone, the alert 40 is about the certificate.
    assert attempt.alert == (40 if version is TLSVersion.TLS1_2 else 116)


@EVERY_VERSION
@pytest.mark.parametrize("alert", [40, 42, 116])
def test_an_alert_before_the_server_hello_is_not_about_a_certificate(
    serve: Serve, version: TLSVersion, alert: int
) -> None:
    def handle(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(bytes([21, 3, 3, 0, 2, 2, alert]))
        connection.recv(4096)

    attempt = make_attempt(serve(handle).listener(), Request(purpose="t", version=version), 5)
    assert (attempt.ending, attempt.alert, attempt.phase) == (Ending.OTHER, alert, Phase.HANDSHAKE)
    assert attempt.certificate_requested is None


@EVERY_VERSION
def test_another_alert(serve: Serve, version: TLSVersion) -> None:
    def handle(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"\x15\x03\x03\x00\x02\x02\x50")  # fatal internal_error
        connection.recv(4096)

    attempt = make_attempt(serve(handle).listener(), Request(purpose="t", version=version), 5)
    assert (attempt.ending, attempt.alert, attempt.phase) == (Ending.OTHER, 80, Phase.HANDSHAKE)


def test_a_version_that_is_not_offered(serve: Serve, tls_context: ssl.SSLContext) -> None:
    tls_context.maximum_version = ssl.TLSVersion.TLSv1_2
    listener = serve(_tls(tls_context, _read_request)).listener()
    attempt = make_attempt(listener, Request(purpose="t", version=TLSVersion.TLS1_3), 5)
    assert (attempt.ending, attempt.alert, attempt.phase) == (Ending.OTHER, 70, Phase.HANDSHAKE)


@EVERY_VERSION
def test_closed(serve: Serve, tls_context: ssl.SSLContext, version: TLSVersion) -> None:
    def then(stream: ssl.SSLSocket) -> None:
        _read_request(stream)
        # unwrap() sends close_notify and waits for ours.
        stream.unwrap()

    attempt = make_attempt(
        serve(_tls(tls_context, then)).listener(), Request(purpose="t", version=version), 5
    )
    assert (attempt.ending, attempt.stream_end, attempt.alert) == (
        Ending.CLOSED,
        StreamEnd.CLOSE_NOTIFY,
        None,
    )


@EVERY_VERSION
def test_end_of_stream_without_close_notify_is_unclear(
    serve: Serve, tls_context: ssl.SSLContext, version: TLSVersion
) -> None:
    def then(stream: ssl.SSLSocket) -> None:
        _read_request(stream)
        stream.shutdown(socket.SHUT_WR)

    attempt = make_attempt(
        serve(_tls(tls_context, then)).listener(), Request(purpose="t", version=version), 5
    )
    assert (attempt.ending, attempt.stream_end) == (Ending.UNCLEAR, StreamEnd.EOF)


@EVERY_VERSION
def test_reset_is_unclear(serve: Serve, tls_context: ssl.SSLContext, version: TLSVersion) -> None:
    def then(stream: ssl.SSLSocket) -> None:
        _read_request(stream)
        reset(stream)

    attempt = make_attempt(
        serve(_tls(tls_context, then)).listener(), Request(purpose="t", version=version), 5
    )
    assert (attempt.ending, attempt.stream_end) == (Ending.UNCLEAR, StreamEnd.RESET)


def test_silence_is_unclear_and_ends_with_the_timeout(serve: Serve) -> None:
    def handle(connection: socket.socket) -> None:
        while connection.recv(4096):
            pass

    attempt = make_attempt(serve(handle).listener(), Request(purpose="t"), 0.3)
    assert (attempt.ending, attempt.stream_end, attempt.phase) == (
        Ending.UNCLEAR,
        StreamEnd.TIMEOUT,
        Phase.HANDSHAKE,
    )


def test_end_inside_the_handshake_is_unclear(serve: Serve) -> None:
    def handle(connection: socket.socket) -> None:
        connection.recv(10)

    attempt = make_attempt(serve(handle).listener(), Request(purpose="t"), 5)
    assert attempt.ending is Ending.UNCLEAR
    assert attempt.phase is Phase.HANDSHAKE


def test_no_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    listener = Listener(role=Role.CLIENT, scheme="https", host="127.0.0.1", port=port, member="m", label="m")
    attempt = make_attempt(listener, Request(purpose="t"), 5)
    assert (attempt.ending, attempt.phase) == (Ending.UNCLEAR, Phase.CONNECT)
    assert f"127.0.0.1 port {port}: Connection refused" in attempt.detail


def test_no_such_name() -> None:
    listener = Listener(
        role=Role.CLIENT, scheme="https", host="etcd.invalid", port=2379, member="m", label="m"
    )
    attempt = make_attempt(listener, Request(purpose="t"), 5)
    assert (attempt.ending, attempt.phase) == (Ending.UNCLEAR, Phase.CONNECT)
    assert "etcd.invalid" in attempt.detail


def test_connect_to(serve: Serve, tls_context: ssl.SSLContext) -> None:
    def then(stream: ssl.SSLSocket) -> None:
        _read_request(stream)
        stream.sendall(ANSWER)

    server = serve(_tls(tls_context, then))
    listener = replace(server.listener(), host="etcd.invalid", connect_to=("127.0.0.1", server.port))
    attempt = make_attempt(listener, Request(purpose="t"), 5)
    assert attempt.ending is Ending.SERVED
    assert attempt.url == f"https://etcd.invalid:{server.port}"


def test_plaintext_server_behind_https(serve: Serve) -> None:
    def handle(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    attempt = make_attempt(serve(handle).listener(), Request(purpose="t"), 5)
    assert (attempt.ending, attempt.phase, attempt.local) == (Ending.UNCLEAR, Phase.HANDSHAKE, False)


def test_an_answer_that_is_not_http_is_served_all_the_same(serve: Serve, tls_context: ssl.SSLContext) -> None:
    def then(stream: ssl.SSLSocket) -> None:
        _read_request(stream)
        stream.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
        stream.unwrap()

    attempt = make_attempt(serve(_tls(tls_context, then)).listener(), Request(purpose="t"), 5)
    assert (attempt.ending, attempt.response) == (Ending.SERVED, None)
    assert attempt.first_bytes.startswith(b"SSH-2.0")


def test_the_alert_is_read_although_the_server_closed_while_we_were_writing(
    serve: Serve, tls_context: ssl.SSLContext, pki: tuple[ClusterPKI, Path]
) -> None:
    """A refusal under TLS 1.3, then a close with our data unread: the kernel resets the connection."""
    tls_context.verify_mode = ssl.CERT_REQUIRED
    tls_context.load_verify_locations(pki[1] / "client-ca.crt")

    def handle(connection: socket.socket) -> None:
        with pytest.raises(ssl.SSLError):
            tls_context.wrap_socket(connection, server_side=True)

    listener = serve(handle).listener()
    ends = set()
    for protocol in (Protocol.GATEWAY, Protocol.GRPC):
        for _ in range(25):
            body = b"x" * 200_000
            request = Request(purpose="t", version=TLSVersion.TLS1_3, protocol=protocol, path="/x", body=body)
            attempt = make_attempt(listener, request, 5)
            ends.add((attempt.ending, attempt.alert))
    assert ends == {(Ending.REFUSED, 116)}


@EVERY_VERSION
def test_a_key_of_another_certificate_is_our_own_limit(serve: Serve, version: TLSVersion) -> None:
    identity = replace(foreign_ca(), key=foreign_ca().key)
    server = serve(lambda c: None)
    attempt = make_attempt(server.listener(), Request(purpose="t", version=version, identity=identity), 5)
    assert (attempt.ending, attempt.local) == (Ending.UNCLEAR, True)
    assert "foreign-ca" in attempt.detail


def test_a_long_answer_is_cut(serve: Serve, tls_context: ssl.SSLContext) -> None:
    def then(stream: ssl.SSLSocket) -> None:
        _read_request(stream)
        stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000)

    attempt = make_attempt(serve(_tls(tls_context, then)).listener(), Request(purpose="t"), 5)
    assert attempt.response is not None
    assert len(attempt.response.body) == 65536
