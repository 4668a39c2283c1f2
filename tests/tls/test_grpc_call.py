"""A gRPC call on a connected stream that ends with trailers alone, or without an answer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes

from pytest_etcdtls.role import Protocol, Role
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Request
from pytest_etcdtls.tls.http import AnswerError, encode, fields, over_http2

REQUEST = Request(purpose="range", protocol=Protocol.GRPC, path="/etcdserverpb.KV/Range")
LISTENER = Listener(
    role=Role.CLIENT, scheme="https", host="127.0.0.1", port=2379, member="m0", label="m0-client"
)
OK = [(":status", "200"), ("content-type", "application/grpc")]
Peer = Callable[[H2Connection], None]


class Wire:
    """A stream to a peer that says what it is told once the request is there."""

    def __init__(self, peer: Peer) -> None:
        self._http = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self._http.initiate_connection()
        self.peer: Peer | None = peer
        self.request: dict[str, str] = {}
        self.headers: list[tuple[str, str]] = []

    def write(self, buffer: bytes) -> None:
        for event in self._http.receive_data(buffer) if buffer else []:
            self.headers += getattr(event, "headers", None) or []
            self.request = dict(self.headers)
        if self.peer is not None:
            peer, self.peer = self.peer, None
            peer(self._http)

    def read(self, max_bytes: int) -> bytes:
        return self._http.data_to_send()


def test_trailers_only() -> None:
    def peer(http: H2Connection) -> None:
        http.send_headers(1, [*OK, ("grpc-status", "7"), ("grpc-message", "denied")], end_stream=True)

    response = over_http2(Wire(peer), LISTENER, REQUEST)
    assert (response.headers["grpc-status"], response.headers["grpc-message"]) == ("7", "denied")
    assert response.body == b""


def _reset(http: H2Connection) -> None:
    http.reset_stream(1, ErrorCodes.REFUSED_STREAM)


def _goes_away(http: H2Connection) -> None:
    http.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)


def _says_nothing(http: H2Connection) -> None:
    http.data_to_send()


@pytest.mark.parametrize("peer", [_reset, _goes_away, _says_nothing])
def test_no_answer(peer: Peer) -> None:
    with pytest.raises(AnswerError):
        over_http2(Wire(peer), LISTENER, REQUEST)


def test_a_server_that_answers_http1() -> None:
    class Http1:
        def write(self, buffer: bytes) -> None:
            pass

        def read(self, max_bytes: int) -> bytes:
            reads.append(max_bytes)
            return b"HT" if len(reads) == 1 else b"TP/1.1 400 Bad Request\r\n\r\n"

    reads: list[int] = []
    with pytest.raises(AnswerError, match="no HTTP/2"):
        over_http2(Http1(), LISTENER, REQUEST)
    # A server that keeps the connection open is not waited for.
    assert len(reads) == 2


def test_messages_are_read_as_they_are_written() -> None:
    message = encode({1: b"health", 3: 1, 9: 300, 15: 2**63, 16: b"x" * 200})
    assert fields(message) == {1: [b"health"], 3: [1], 9: [300], 15: [2**63], 16: [b"x" * 200]}
