"""A TLS server that chooses what it serves by the client's hello, which etcd does not."""

from __future__ import annotations

import contextlib
import itertools
import socket
from collections.abc import Callable

from OpenSSL import SSL
from servers import Handler
from tls.hello_server import ClientHello, parse_client_hello

from pytest_etcdtls.pki.profile import Identity

Choice = Callable[[ClientHello, int], Identity | bytes]
"""Given a hello and the number of the connection, what to serve, or a record to send and no more."""


def choosing(choose: Choice) -> Handler:
    """Return a handler that makes the handshake, reads a request and closes, as a server without answers."""
    numbers = itertools.count()

    def handle(connection: socket.socket) -> None:
        hello = parse_client_hello(first_record(connection))
        chosen = choose(hello, next(numbers))
        if isinstance(chosen, bytes):
            connection.recv(65536)
            connection.sendall(chosen)
            return
        tls = SSL.Connection(_context(chosen), connection)
        tls.set_accept_state()
        with contextlib.suppress(SSL.Error):
            tls.do_handshake()
            tls.recv(65536)
            tls.shutdown()
        # What is left unread would turn the close into a reset.
        while connection.recv(65536):
            pass

    return handle


def server_name(hello: ClientHello) -> str | None:
    """Return the name that the client sent by SNI."""
    body = hello.extensions.get(0)
    return body[5:].decode("ascii") if body else None


def first_record(connection: socket.socket) -> bytes:
    """Look at the first record without taking it off the socket."""
    data = b""
    while len(data) < 5 or len(data) < 5 + int.from_bytes(data[3:5], "big"):
        data = connection.recv(65536, socket.MSG_PEEK)
        if not data:
            raise ConnectionError("no hello came")
    return data[: 5 + int.from_bytes(data[3:5], "big")]


def _context(identity: Identity) -> SSL.Context:
    assert identity.key is not None
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate(identity.chain[0])
    for certificate in identity.chain[1:]:
        context.add_extra_chain_cert(certificate)
    context.use_privatekey(identity.key)
    return context
