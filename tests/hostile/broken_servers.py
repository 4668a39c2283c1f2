"""Servers that do what no etcd does: before, during and after the handshake, and to a request.

Each handler takes one connection, and returns or raises OSError when the client has gone. A thread of its own
runs it.
"""

from __future__ import annotations

import itertools
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography import x509
from hpack import Encoder
from hyperframe.frame import DataFrame, Frame, HeadersFrame, SettingsFrame
from OpenSSL import SSL
from servers import Handler, etcd_context
from tls.hello_server import TLS1_2, server_hello

from pytest_etcdtls.pki.authority import CertificateAuthority

TLSHandler = Callable[[ssl.SSLSocket, bytes], None]
"""What a server does on a connection after the handshake, given the first bytes of the request."""

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def _client_hello(connection: socket.socket) -> None:
    if not connection.recv(65536):
        raise ConnectionError


def _flood(connection: socket.socket | ssl.SSLSocket, parts: Iterator[bytes]) -> None:
    """Send without end, in pieces of about 64 KiB."""
    while True:
        piece = b""
        while len(piece) < 65536:
            piece += next(parts)
        connection.sendall(piece)


def forever(part: bytes, head: bytes = b"") -> Handler:
    """Answer the hello with a head, and then with the same bytes without end."""

    def handle(connection: socket.socket) -> None:
        _client_hello(connection)
        connection.sendall(head)
        _flood(connection, itertools.repeat(part * max(1, 16384 // len(part))))

    return handle


def once(answer: bytes, *, then: Callable[[socket.socket], None] | None = None) -> Handler:
    """Answer the hello with these bytes, and then close or do something else."""

    def handle(connection: socket.socket) -> None:
        _client_hello(connection)
        connection.sendall(answer)
        if then is not None:
            then(connection)

    return handle


def hold(connection: socket.socket) -> None:
    """Say nothing more until the client goes."""
    while connection.recv(65536):
        pass


def every_second(first: Handler, second: Handler) -> Handler:
    """Serve connections by turns."""
    turn = itertools.count()

    def handle(connection: socket.socket) -> None:
        (second if next(turn) % 2 else first)(connection)

    return handle


def handshake_message(kind: int, body: bytes, *, length: int | None = None) -> bytes:
    """Return a record with one handshake message, of which the length may be a lie."""
    message = bytes([kind]) + (len(body) if length is None else length).to_bytes(3, "big") + body
    return b"".join(
        bytes([22, 3, 3]) + len(piece).to_bytes(2, "big") + piece
        for piece in (message[at : at + 16384] for at in range(0, len(message), 16384))
    )


HELLO12 = server_hello(TLS1_2, 0xC02B, bytes.fromhex("ff01000100"))
"""A ServerHello of TLS 1.2, after which all goes on in the clear."""


def certificate_message(*certificates: bytes) -> bytes:
    """Return the record of a Certificate message of TLS 1.2."""
    chain = b"".join(len(certificate).to_bytes(3, "big") + certificate for certificate in certificates)
    return handshake_message(11, len(chain).to_bytes(3, "big") + chain)


def good_answer(request: bytes) -> bytes:
    """Return what an etcd answers to a request of HTTP/1.1 for its version or health."""
    body = b'{"etcdserver":"3.6.16","etcdcluster":"3.6.0"}'
    if b" /health " in request:
        body = b'{"health":"true","reason":""}'
    elif b" /version " not in request:
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


class Served:
    """A TLS server with the cluster's own certificate, so that a handshake succeeds."""

    def __init__(self, pki: Path) -> None:
        self._pki = pki

    def tls(self, then: TLSHandler, context: ssl.SSLContext | None = None) -> Handler:
        """Finish the handshake, read the beginning of a request, and go on."""
        usual = context or etcd_context(self._pki)

        def handle(connection: socket.socket) -> None:
            with usual.wrap_socket(connection, server_side=True) as stream:
                first = stream.recv(65536)
                if first:
                    then(stream, first)

        return handle

    def http1(self, head: bytes, body: Iterator[bytes] | bytes = b"") -> Handler:
        """Answer a request of HTTP/1.1 with this; close where HTTP/2 is spoken."""

        def answer(stream: ssl.SSLSocket, first: bytes) -> None:
            if first.startswith(PREFACE[:14]):
                return
            stream.sendall(head)
            if isinstance(body, bytes):
                stream.sendall(body)
            else:
                _flood(stream, body)

        return self.tls(answer)

    def http2(self, *frames: Frame | bytes, endless: Frame | bytes | None = None) -> Handler:
        """Answer over HTTP/2 with these frames, after SETTINGS, and HTTP/1.1 as a good etcd does.

        Args:
            frames: of the answer.
            endless: what follows without end.
        """

        def answer(stream: ssl.SSLSocket, first: bytes) -> None:
            if not first.startswith(PREFACE[:14]):
                stream.sendall(good_answer(first))
                return
            stream.sendall(b"".join(map(_serialized, (SettingsFrame(0), *frames))))
            if endless is None:
                hold(stream)
            else:
                _flood(stream, itertools.repeat(_serialized(endless)))

        return self.tls(answer)

    def relayed(self, send: Callable[[socket.socket, bytes], None]) -> Handler:
        """Serve well, but pass everything that the server sends through a function."""
        context = etcd_context(self._pki)

        def handle(connection: socket.socket) -> None:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(incoming, outgoing, server_side=True)
            done = False
            while True:
                try:
                    if not done:
                        tls.do_handshake()
                        done = True
                    elif first := tls.read(65536):
                        tls.write(good_answer(first))
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLError:
                    send(connection, outgoing.read())
                    return
                if data := outgoing.read():
                    send(connection, data)
                    continue
                received = connection.recv(65536)
                if not received:
                    return
                incoming.write(received)

        return handle

    def chain_of(self, count: int) -> Handler:
        """Serve a chain of that many certificates."""
        context = self._openssl_context()
        extra = x509.load_pem_x509_certificate((self._pki / "client-ca.crt").read_bytes())
        for _ in range(count):
            context.add_extra_chain_cert(extra)
        return self._openssl(context)

    def asking_for(self, authorities: int) -> Handler:
        """Ask for a certificate of that many CAs."""
        context = self._openssl_context()
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
        for number in range(authorities):
            context.add_client_ca(CertificateAuthority.create(f"Authority {number}").certificate)
        return self._openssl(context)

    def tickets(self, count: int) -> Handler:
        """Send that many session tickets after a handshake of TLS 1.3."""
        context = etcd_context(self._pki)
        context.num_tickets = count
        return self.tls(
            lambda stream, _: stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), context
        )

    def renegotiating(self) -> Handler:
        """Ask for a new handshake of TLS 1.2 again and again."""
        context = self._openssl_context()
        context.set_max_proto_version(TLS1_2)

        def ask(tls: SSL.Connection) -> None:
            while True:
                tls.renegotiate()
                tls.do_handshake()

        return self._openssl(context, ask)

    def _openssl_context(self) -> SSL.Context:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.use_certificate_file(str(self._pki / "m0" / "server.crt"))
        context.use_privatekey_file(str(self._pki / "m0" / "server.key"))
        return context

    @staticmethod
    def _openssl(context: SSL.Context, then: Callable[[SSL.Connection], None] | None = None) -> Handler:
        def handle(connection: socket.socket) -> None:
            connection.settimeout(None)
            tls = SSL.Connection(context, connection)
            tls.set_accept_state()
            tls.do_handshake()
            if then is not None:
                then(tls)
            tls.recv(65536)
            tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

        return handle


def by_byte(pause: float) -> Callable[[socket.socket, bytes], None]:
    """Send one byte after the other."""

    def send(connection: socket.socket, data: bytes) -> None:
        for byte in data:
            connection.sendall(bytes([byte]))
            if pause:
                # It is the fault, no waiting for anything.
                time.sleep(pause)

    return send


def fragmented(connection: socket.socket, data: bytes) -> None:
    """Cut records in the clear to one octet each (RFC 8446 section 5.1)."""
    out = b""
    while len(data) >= 5:
        kind, length = data[0], int.from_bytes(data[3:5], "big")
        body, data = data[5 : 5 + length], data[5 + length :]
        if kind == 22:
            out += b"".join(bytes([22, 3, 3, 0, 1, octet]) for octet in body)
        else:
            out += bytes([kind, 3, 3]) + length.to_bytes(2, "big") + body
    connection.sendall(out)


def half_then(end: Callable[[socket.socket], None]) -> Callable[[socket.socket, bytes], None]:
    """Send half of the first flight, and end the connection."""

    def send(connection: socket.socket, data: bytes) -> None:
        connection.sendall(data[: len(data) // 2])
        end(connection)
        raise ConnectionError

    return send


def headers_frame(
    block: bytes, *, ends_headers: bool = True, ends_stream: bool = False, stream: int = 1
) -> bytes:
    """Return a HEADERS frame with a block that is encoded already."""
    frame = HeadersFrame(stream, data=block)
    if ends_headers:
        frame.flags.add("END_HEADERS")
    if ends_stream:
        frame.flags.add("END_STREAM")
    return frame.serialize()


def _serialized(frame: Frame | bytes) -> bytes:
    return frame if isinstance(frame, bytes) else frame.serialize()


def literal(name: bytes, value: bytes) -> bytes:
    """Return a header field of HPACK that is never indexed (RFC 7541 section 6.2.3)."""
    return bytes(Encoder().encode([(name, value, True)], huffman=False))


STATUS_200 = b"\x88"
GRPC_HEADERS = headers_frame(STATUS_200 + literal(b"content-type", b"application/grpc"))


def grpc_answer(*trailers: tuple[bytes, bytes], message: bytes = b"\0\0\0\0\0") -> Iterator[bytes]:
    """Yield the frames of a gRPC answer with these trailers."""
    yield GRPC_HEADERS
    yield DataFrame(1, data=message).serialize()
    block = b"".join(literal(name, value) for name, value in trailers)
    yield headers_frame(block, ends_stream=True)
