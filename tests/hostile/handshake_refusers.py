"""Servers on which no TLS handshake ever succeeds, each in its own way."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from hostile.broken_servers import certificate_message, handshake_message, hold, once
from servers import Handler, reset
from tls.hello_server import alert, server_hello


def drain(connection: socket.socket) -> None:
    """Read until the client closes, so that what was sent is not lost to a reset."""
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(65536):
        pass


def sends(data: bytes) -> Handler:
    """Return a handler that sends the same to everybody, once the client has sent something."""
    return once(data, then=drain)


def _first(data: bytes) -> Handler:
    """Return a handler that sends the same to everybody before the client sends."""

    def handle(connection: socket.socket) -> None:
        connection.sendall(data)
        drain(connection)

    return handle


_RSA_WITH_AES_128_GCM = 0x009C
_ECDHE_WITH_AES_128_GCM = 0xC02B
_CERTIFICATE_REQUEST = handshake_message(13, b"\x01\x40" + b"\x00\x02\x04\x03" + b"\x00\x00")
_DONE = handshake_message(14, b"")


def _echoes(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


def _http(connection: socket.socket) -> None:
    data = connection.recv(65536)
    status, body = ("200 OK", b'{"etcdserver":"3.6.16"}') if data[:4] == b"GET " else ("400 Bad Request", b"")
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    connection.sendall(head.encode() + body)
    drain(connection)


def _trickles(connection: socket.socket) -> None:
    """Send a TLS record that never ends, an octet for each that comes."""
    connection.sendall(b"\x16\x03\x03\x40\x00")
    while connection.recv(1):
        connection.sendall(b"\x02")


_TLS_1_1 = 0x0302


def _of_version(version: int) -> Handler:
    """Return a handler that answers a hello up to TLS 1.1 with that version, and any other with alert 70."""

    def handle(connection: socket.socket) -> None:
        hello = connection.recv(65536)
        fits = hello[:1] == b"\x16" and version <= int.from_bytes(hello[9:11], "big") <= _TLS_1_1
        fits = fits and bytes.fromhex("002b0003020304") not in hello
        connection.sendall(
            server_hello(version, _RSA_WITH_AES_128_GCM, b"") + alert(40) if fits else alert(70)
        )
        drain(connection)

    return handle


def refusers(chain: tuple[bytes, ...]) -> Mapping[str, Handler]:
    """Return what each server does with a connection, by name.

    Args:
        chain: DER of the certificate of a member, which anybody can copy; the key is not there.
    """
    hello = server_hello(0x0303, _RSA_WITH_AES_128_GCM, b"")
    copied = hello + certificate_message(*chain)
    return {
        **{f"alert {number}": sends(alert(number)) for number in (40, 42, 70, 116)},
        "alert 42 before anything": _first(alert(42)),
        "close_notify": sends(alert(0, 1)),
        "a thousand warnings": sends(alert(90, 1) * 1000),
        "TLS 1.0 alone": _of_version(0x0301),
        "TLS 1.1 alone": _of_version(0x0302),
        "TLS 1.0 to everybody": sends(server_hello(0x0301, 0x002F, b"")),
        "closes at once": lambda connection: connection.close(),
        "closes": once(b""),
        "resets at once": reset,
        "resets": once(b"", then=reset),
        "never answers": hold,
        "echoes": _echoes,
        "trickles": _trickles,
        "garbage": sends(bytes(range(255, 0, -1)) * 20),
        "an empty record": sends(b"\x16\x03\x03\0\0"),
        "application data": sends(b"\x17\x03\x03\0\x05hello"),
        "half a ServerHello, then an alert": sends(b"\x16\x03\x03\0\x14" + hello[5:25] + alert(42)),
        "a ServerHello alone": sends(hello),
        "a ServerHello of a suite that was not offered": sends(server_hello(0x0303, 0x0000, b"")),
        "a certificate that is none": sends(hello + certificate_message(b"\x30\x03\x02\x01\x00") + _DONE),
        "a copied certificate": sends(copied + _DONE),
        "a copied certificate that asks for one, then an alert": sends(
            copied + _CERTIFICATE_REQUEST + _DONE + alert(42)
        ),
        "a copied certificate without a signature": sends(
            server_hello(0x0303, _ECDHE_WITH_AES_128_GCM, b"") + certificate_message(*chain) + _DONE
        ),
        "HTTP": _http,
        "HTTP to everything": sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        "HTTP/2 in clear": _first(bytes.fromhex("000000040000000000")),
        "SSH": _first(b"SSH-2.0-OpenSSH_9.6\r\n"),
    }
