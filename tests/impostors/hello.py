"""Reads a ClientHello without consuming it."""

from __future__ import annotations

import socket

from tls.hello_server import parse_client_hello

_SUPPORTED_VERSIONS = 43
_TLS13 = b"\x03\x04"


def offers_tls13(connection: socket.socket) -> bool:
    """Whether the client that has connected offers TLS 1.3 (RFC 8446 section 4.2.1)."""
    data = b""
    while len(data) < 5 or len(data) < 5 + int.from_bytes(data[3:5], "big"):
        data = connection.recv(65536, socket.MSG_PEEK)
        if not data:
            raise ConnectionError("no hello came")
    hello = parse_client_hello(data[: 5 + int.from_bytes(data[3:5], "big")])
    versions = hello.extensions.get(_SUPPORTED_VERSIONS, b"\0")[1:]
    return _TLS13 in {versions[at : at + 2] for at in range(0, len(versions), 2)}
