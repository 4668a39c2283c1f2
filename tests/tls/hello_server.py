"""A server that answers hellos by a policy, as no etcd and no OpenSSL does.

It says ServerHello and then that it cannot go on. A client that would go on is refused at once.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from servers import Handler

SSL3, TLS1_0, TLS1_1, TLS1_2, TLS1_3 = 0x0300, 0x0301, 0x0302, 0x0303, 0x0304
HANDSHAKE_FAILURE, ILLEGAL_PARAMETER, PROTOCOL_VERSION, INAPPROPRIATE_FALLBACK = 40, 47, 70, 86
NO_APPLICATION_PROTOCOL = 120
FALLBACK_SCSV = 0x5600
GREASE = {0x0A0A + 0x1010 * number for number in range(16)}
_RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")


@dataclass(frozen=True)
class ClientHello:
    """What a client offers, as a server reads it."""

    version: int
    suites: tuple[int, ...]
    compression: tuple[int, ...]
    extensions: dict[int, bytes] = field(default_factory=dict)

    @property
    def versions(self) -> tuple[int, ...]:
        """From supported_versions, else the one version in the hello."""
        body = self.extensions.get(43)
        return _numbers(body[1:]) if body else (self.version,)

    def offers(self, version: int) -> bool:
        """Whether it offers a version; without supported_versions, every one up to its own (RFC 5246 E.1)."""
        return version in self.versions if 43 in self.extensions else version <= self.version

    @property
    def groups(self) -> tuple[int, ...]:
        return _numbers(self.extensions.get(10, b"")[2:])

    @property
    def signatures(self) -> tuple[int, ...]:
        return _numbers(self.extensions.get(13, b"")[2:])

    @property
    def shares(self) -> tuple[int, ...]:
        body, found = self.extensions.get(51, b"")[2:], []
        while len(body) >= 4:
            found.append(int.from_bytes(body[:2], "big"))
            body = body[4 + int.from_bytes(body[2:4], "big") :]
        return tuple(found)

    @property
    def alpn(self) -> tuple[str, ...]:
        body, found = self.extensions.get(16, b"")[2:], []
        while body:
            found.append(body[1 : 1 + body[0]].decode("latin-1"))
            body = body[1 + body[0] :]
        return tuple(found)

    @property
    def is_openssl(self) -> bool:
        """Whether it is of a client that will finish the handshake: it requests a session ticket."""
        return 35 in self.extensions

    @property
    def has_grease(self) -> bool:
        return bool(GREASE & {*self.suites, *self.extensions, *self.groups, *self.versions})


def parse_client_hello(record: bytes) -> ClientHello:
    """Read a hello out of one record, strictly: every length must fit."""
    assert record[0] == 22
    assert record[1] == 3
    body = _exactly(record[3:], 2)
    assert body[0] == 1
    body = _exactly(body[1:], 3)
    version, body = int.from_bytes(body[:2], "big"), body[34:]
    body = body[1 + body[0] :]
    suites, body = _prefixed(body, 2)
    compression, body = _prefixed(body, 1)
    extensions: dict[int, bytes] = {}
    if body:
        block = _exactly(body, 2)
        while block:
            code = int.from_bytes(block[:2], "big")
            assert code not in extensions
            extensions[code], block = _prefixed(block[2:], 2)
    return ClientHello(version, _numbers(suites), tuple(compression), extensions)


def _prefixed(data: bytes, size: int) -> tuple[bytes, bytes]:
    length = int.from_bytes(data[:size], "big")
    assert len(data) >= size + length
    return data[size : size + length], data[size + length :]


def _exactly(data: bytes, size: int) -> bytes:
    body, rest = _prefixed(data, size)
    assert not rest
    return body


def _numbers(data: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))


@dataclass(frozen=True)
class Policy:
    """How the server answers; the default is correct.

    Attributes:
        compression: the method that it selects if it is offered.
        secure_renegotiation: its hello has the extension of RFC 5746.
        honours_fallback: it refuses a hello with TLS_FALLBACK_SCSV in a version below its highest.
        tolerates_grease: it ignores values that it does not know.
        signs_with_sha1: it answers a client that accepts no other signatures.
        alpn: the protocols that it selects; ``None`` for a server without ALPN.
        raw: returns the answer to a hello as raw bytes; ``None`` for the usual one. An empty one closes.
    """

    versions: tuple[int, ...] = (TLS1_2, TLS1_3)
    suites: tuple[int, ...] = (0xC02B, 0xC02C, 0xCCA9)
    groups: tuple[int, ...] = (0x11EC, 29, 23, 24)
    compression: int = 0
    secure_renegotiation: bool = True
    honours_fallback: bool = True
    tolerates_grease: bool = True
    signs_with_sha1: bool = False
    alpn: tuple[str, ...] | None = ("h2", "http/1.1")
    raw: Callable[[ClientHello], bytes | None] = lambda _: None

    def answer(self, hello: ClientHello) -> bytes:
        """Return a record with a ServerHello, or with an alert."""
        if (raw := self.raw(hello)) is not None:
            return raw
        if hello.has_grease and not self.tolerates_grease:
            return alert(ILLEGAL_PARAMETER)
        versions = [version for version in self.versions if hello.offers(version)]
        if not versions:
            return alert(PROTOCOL_VERSION)
        if hello.is_openssl:
            return alert(HANDSHAKE_FAILURE)
        version = max(versions)
        if FALLBACK_SCSV in hello.suites and self.honours_fallback and version < max(self.versions):
            return alert(INAPPROPRIATE_FALLBACK)
        if hello.alpn and self.alpn is not None and not set(hello.alpn) & set(self.alpn):
            return alert(NO_APPLICATION_PROTOCOL)
        group = next((group for group in self.groups if group in hello.groups), None)
        if version == TLS1_3:
            return self._tls13(hello, group)
        return self._tls12(hello, version, group)

    def _tls13(self, hello: ClientHello, group: int | None) -> bytes:
        if group is None:
            return alert(HANDSHAKE_FAILURE)
        retry = group not in hello.shares
        share = _u16(group) + (b"" if retry else _vector16(os.urandom(32)))
        extensions = _extension(43, _u16(TLS1_3)) + _extension(51, share)
        return server_hello(TLS1_2, 0x1301, extensions, random=_RETRY if retry else os.urandom(32)) + alert(
            HANDSHAKE_FAILURE
        )

    def _tls12(self, hello: ClientHello, version: int, group: int | None) -> bytes:
        suites = [suite for suite in self.suites if suite in hello.suites]
        if group is None:
            suites = [suite for suite in suites if suite < 0xC000]
        sha1_alone = bool(hello.signatures) and set(hello.signatures) <= {0x0203, 0x0201}
        if not suites or (sha1_alone and not self.signs_with_sha1):
            return alert(HANDSHAKE_FAILURE)
        extensions = b""
        if self.secure_renegotiation:
            extensions += _extension(0xFF01, b"\0")
        selected = next((name for name in self.alpn or () if name in hello.alpn), None)
        if selected is not None:
            extensions += _extension(16, _vector16(bytes([len(selected)]) + selected.encode()))
        compression = self.compression if self.compression in hello.compression else 0
        answer = server_hello(version, suites[0], extensions, compression=compression)
        if group is not None and suites[0] >= 0xC000:
            point = bytes([3]) + _u16(group) + bytes([32]) + os.urandom(32)
            answer += _record(22, bytes([12]) + len(point).to_bytes(3, "big") + point)
        return answer + alert(HANDSHAKE_FAILURE)

    def handler(self) -> Handler:
        """Return the handler of each connection."""

        def handle(connection: socket.socket) -> None:
            connection.settimeout(10)
            data = b""
            while len(data) < 5 or len(data) < 5 + int.from_bytes(data[3:5], "big"):
                chunk = connection.recv(65536)
                if not chunk:
                    return
                data += chunk
                if data[0] != 22:
                    return
            answer = self.answer(parse_client_hello(data))
            connection.sendall(answer)
            while answer and connection.recv(65536):
                pass

        return handle


def server_hello(
    version: int, suite: int, extensions: bytes, *, compression: int = 0, random: bytes | None = None
) -> bytes:
    """Return the record of a ServerHello."""
    body = _u16(version) + (random or os.urandom(32)) + b"\0" + _u16(suite) + bytes([compression])
    body += _vector16(extensions) if extensions else b""
    return _record(22, bytes([2]) + len(body).to_bytes(3, "big") + body)


def alert(number: int, level: int = 2) -> bytes:
    """Return the record of an alert."""
    return _record(21, bytes([level, number]))


def _record(kind: int, body: bytes) -> bytes:
    return bytes([kind, 3, 3]) + _vector16(body)


def _extension(code: int, body: bytes) -> bytes:
    return _u16(code) + _vector16(body)


def _u16(number: int) -> bytes:
    return number.to_bytes(2, "big")


def _vector16(body: bytes) -> bytes:
    return _u16(len(body)) + body
