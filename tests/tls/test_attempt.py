"""Each of the five endings of an attempt, on real sockets and with real handshakes."""

from __future__ import annotations

import gc
import socket
import ssl
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL
from servers import Handler, Server, reset

from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.identities import foreign_ca
from pytest_etcdtls.role import Protocol, Role, TLSVersion
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Attempt, Ending, Phase, Request, SessionSlot, StreamEnd
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


def _tls(context: ssl.SSLContext, then: Callable[[ssl.SSLSocket], object]) -> Handler:
    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as stream:
            _read_request(stream)
            then(stream)

    return handle


def _said(answer: bytes) -> Handler:
    """Read once, say this, and read to the end."""

    def handle(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(answer)
        while answer and connection.recv(4096):
            pass

    return handle


def _attempt(listener: Listener, seconds: float = 5, **request: Any) -> Attempt:
    return make_attempt(listener, Request(purpose="t", **request), seconds)


@pytest.fixture
def asking(tls_context: ssl.SSLContext, pki: tuple[ClusterPKI, Path]) -> ssl.SSLContext:
    """The context of a server that requires a certificate of the client's CA."""
    tls_context.verify_mode = ssl.CERT_REQUIRED
    tls_context.load_verify_locations(pki[1] / "client-ca.crt")
    return tls_context


@EVERY_VERSION
def test_served(serve: Serve, tls_context: ssl.SSLContext, version: TLSVersion) -> None:
    server = serve(_tls(tls_context, lambda stream: stream.sendall(ANSWER)))
    attempt = _attempt(server.listener(), version=version)
    assert attempt.ending is Ending.SERVED
    assert attempt.response is not None
    assert (attempt.response.status, attempt.response.body) == (200, b"{}")
    assert (attempt.version, attempt.certificate_requested) == (str(version), False)
    assert attempt.group
    assert len(attempt.chain) == 1
    elsewhere = replace(server.listener(), host="etcd.invalid", connect_to=("127.0.0.1", server.port))
    attempt = _attempt(elsewhere, version=version)
    assert (attempt.ending, attempt.url) == (Ending.SERVED, f"https://etcd.invalid:{server.port}")


def test_what_openssl_allocates_is_freed_without_a_collection(
    serve: Serve, tls_context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collection may run in any thread, while OpenSSL works in others."""
    made: list[weakref.ref[Any]] = []

    class Connection(SSL.Connection):
        def __init__(self, context: SSL.Context, end: None = None) -> None:
            super().__init__(context, end)
            made.extend((weakref.ref(self), weakref.ref(context)))

    monkeypatch.setattr(SSL, "Connection", Connection)
    server = serve(_tls(tls_context, lambda stream: stream.sendall(ANSWER)))
    gc.disable()
    try:
        assert _attempt(server.listener(), keep=SessionSlot()).ending is Ending.SERVED
        assert [reference() for reference in made] == [None, None]
    finally:
        gc.enable()


@EVERY_VERSION
@pytest.mark.parametrize("presented", [True, False])
def test_refused_with_a_certificate_alert(
    serve: Serve, asking: ssl.SSLContext, version: TLSVersion, presented: bool
) -> None:
    listener = serve(_tls(asking, _read_request)).listener()
    given: dict[str, Any] = {"identity": foreign_ca()} if presented else {}
    attempt = _attempt(listener, version=version, **given)
    assert (attempt.ending, attempt.certificate_requested) == (Ending.REFUSED, True)
    # After the ServerHelloDone, the alert 40 is about the certificate.
    assert attempt.alert == (48 if presented else 40 if version is TLSVersion.TLS1_2 else 116)
    # Python's ssl announces no names: asked for, and an empty list, are two facts.
    assert attempt.announced_ca == ()
    # Under TLS 1.3 our handshake is over before the server has looked at the certificate.
    assert (attempt.phase is Phase.HANDSHAKE) == (version is TLSVersion.TLS1_2)


@EVERY_VERSION
@pytest.mark.parametrize("alert", [40, 42, 80, 116])
def test_an_alert_before_the_server_hello_is_not_about_a_certificate(
    serve: Serve, version: TLSVersion, alert: int
) -> None:
    listener = serve(_said(bytes([21, 3, 3, 0, 2, 2, alert]))).listener()
    attempt = _attempt(listener, version=version)
    assert (attempt.ending, attempt.alert, attempt.phase) == (Ending.OTHER, alert, Phase.HANDSHAKE)
    assert attempt.certificate_requested is None


@EVERY_VERSION
@pytest.mark.parametrize(
    ("then", "ending", "end"),
    [
        # unwrap() sends close_notify and waits for ours.
        (lambda stream: stream.unwrap(), Ending.CLOSED, StreamEnd.CLOSE_NOTIFY),
        (lambda stream: stream.shutdown(socket.SHUT_WR), Ending.UNCLEAR, StreamEnd.EOF),
        (reset, Ending.UNCLEAR, StreamEnd.RESET),
    ],
    ids=["close_notify", "end of stream", "reset"],
)
def test_an_end_without_an_answer(
    serve: Serve,
    tls_context: ssl.SSLContext,
    version: TLSVersion,
    then: Callable[[Any], object],
    ending: Ending,
    end: StreamEnd,
) -> None:
    attempt = _attempt(serve(_tls(tls_context, then)).listener(), version=version)
    assert (attempt.ending, attempt.stream_end, attempt.alert) == (ending, end, None)


def test_what_is_no_tls_is_unclear(serve: Serve) -> None:
    def silent(connection: socket.socket) -> None:
        while connection.recv(4096):
            pass

    attempt = _attempt(serve(silent).listener(), seconds=0.3)
    assert (attempt.ending, attempt.stream_end) == (Ending.UNCLEAR, StreamEnd.TIMEOUT)
    assert attempt.phase is Phase.HANDSHAKE
    for handler in (_said(b""), _said(b"HTTP/1.1 400 Bad Request\r\n\r\n")):
        attempt = _attempt(serve(handler).listener())
        assert (attempt.ending, attempt.phase, attempt.local) == (Ending.UNCLEAR, Phase.HANDSHAKE, False)


def test_no_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    listener = Listener(role=Role.CLIENT, scheme="https", host="127.0.0.1", port=port, member="m", label="m")
    for host, detail in {
        "127.0.0.1": f"127.0.0.1 port {port}: Connection refused",
        "etcd.invalid": "etcd.invalid",
    }.items():
        attempt = _attempt(replace(listener, host=host))
        assert (attempt.ending, attempt.phase) == (Ending.UNCLEAR, Phase.CONNECT)
        assert detail in attempt.detail


def test_an_answer_that_is_not_http_is_served_all_the_same(serve: Serve, tls_context: ssl.SSLContext) -> None:
    def then(stream: ssl.SSLSocket) -> None:
        stream.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
        stream.unwrap()

    attempt = _attempt(serve(_tls(tls_context, then)).listener())
    assert (attempt.ending, attempt.response) == (Ending.SERVED, None)
    assert attempt.first_bytes.startswith(b"SSH-2.0")


def test_the_alert_is_read_although_the_server_closed_while_we_were_writing(
    serve: Serve, asking: ssl.SSLContext
) -> None:
    """A refusal under TLS 1.3, then a close with our data unread: the kernel resets the connection."""

    def handle(connection: socket.socket) -> None:
        with pytest.raises(ssl.SSLError):
            asking.wrap_socket(connection, server_side=True)

    listener = serve(handle).listener()
    ends = set()
    for protocol in (Protocol.GATEWAY, Protocol.GRPC):
        for _ in range(25):
            attempt = _attempt(
                listener, version=TLSVersion.TLS1_3, protocol=protocol, path="/x", body=b"x" * 200_000
            )
            ends.add((attempt.ending, attempt.alert))
    assert ends == {(Ending.REFUSED, 116)}


@EVERY_VERSION
def test_a_key_of_another_certificate_is_our_own_limit(serve: Serve, version: TLSVersion) -> None:
    identity = replace(foreign_ca(), key=foreign_ca().key)
    attempt = _attempt(serve(lambda _: None).listener(), version=version, identity=identity)
    assert (attempt.ending, attempt.local) == (Ending.UNCLEAR, True)
    assert "foreign-ca" in attempt.detail


def test_a_long_answer_is_cut(serve: Serve, tls_context: ssl.SSLContext) -> None:
    long = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000
    attempt = _attempt(serve(_tls(tls_context, lambda stream: stream.sendall(long))).listener())
    assert attempt.response is not None
    assert len(attempt.response.body) == 65536
