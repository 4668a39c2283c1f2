"""One ClientHello, encoded without a TLS library, and the server's reply to it.

What a server supports shows in the first message that it sends back: a ServerHello or HelloRetryRequest that
names its choice, or an alert (RFC 8446, 4.1). No client certificate and no key is needed for that, so nothing
is accepted or refused here, and the handshake is left there.

A TLS library cannot send these hellos. It offers only what it supports itself, so a suite that it lacks (RC4,
triple DES) or a version that it has dropped would look refused by the server. Here any number can be offered,
also those that no server knows. No secret is derived: the key share of X25519 is random octets.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import (
    Attempt,
    Ending,
    StreamEnd,
    alert_text,
    extensions,
    handshake_messages,
)
from pytest_etcdtls.tls.connection import (
    DialError,
    carrier_said,
    dial,
    local_address,
    server_address,
    sni,
)
from pytest_etcdtls.tls.suites import MODERN, RENEGOTIATION_SCSV, group_name, suite_name
from pytest_etcdtls.untrusted.printable import printable

SSL3, TLS1_0, TLS1_1, TLS1_2, TLS1_3 = 0x0300, 0x0301, 0x0302, 0x0303, 0x0304

VERSION_NAMES: Mapping[int, str] = {
    SSL3: "SSLv3",
    TLS1_0: "TLSv1.0",
    TLS1_1: "TLSv1.1",
    TLS1_2: "TLSv1.2",
    TLS1_3: "TLSv1.3",
}
"""Protocol versions by their number in messages."""

_ALERT, _HANDSHAKE = 21, 22
_FATAL = 2
_CLIENT_HELLO, _SERVER_HELLO, _SERVER_KEY_EXCHANGE, _SERVER_HELLO_DONE = 1, 2, 12, 14
_SERVER_NAME, _SUPPORTED_GROUPS, _EC_POINT_FORMATS, _SIGNATURE_ALGORITHMS, _ALPN = 0, 10, 11, 13, 16
_EXTENDED_MASTER_SECRET, _SUPPORTED_VERSIONS, _PSK_MODES, _KEY_SHARE = 23, 43, 45, 51
_NAMED_CURVE = 3
_X25519 = 29
_GREASE, _LAST_GREASE = 0x2A2A, 0x3A3A
"""Two of the values that RFC 8701 reserves for suites, groups, extensions and versions."""
_RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""The random of a HelloRetryRequest: SHA-256 of that word (RFC 8446 section 4.1.3)."""

_LIMIT = 256 * 1024
_CLOSE_SECONDS = 1.0
"""Seconds to wait until the server closes the connection too."""


SIGNATURES = (
    *(0x0403, 0x0503, 0x0603),  # ECDSA on P-256, P-384, P-521
    *(0x0807, 0x0808),  # Ed25519, Ed448
    *(0x0804, 0x0805, 0x0806, 0x0809, 0x080A, 0x080B),  # RSA-PSS
    *(0x0401, 0x0501, 0x0601),  # RSA PKCS #1 v1.5
    *(0x0203, 0x0201),  # SHA-1 with ECDSA and RSA
)
"""Signature schemes of TLS 1.2 and 1.3 (RFC 8446 section 4.2.3)."""

SHA1_SIGNATURES = SIGNATURES[-2:]
"""ecdsa_sha1 and rsa_pkcs1_sha1, which RFC 9155 forbids."""


def version_name(number: int) -> str:
    """Return ``TLSv1.2`` for 0x0303."""
    return VERSION_NAMES.get(number, f"0x{number:04X}")


class ClientHello(Struct, frozen=True, kw_only=True):
    """What a ClientHello offers.

    Attributes:
        purpose: a few words for the report.
        version: the highest version offered; only this one and no lower one if it is TLS 1.3.
        suites: numbers of cipher suites and signaling values, in the order offered.
        groups: numbers of key exchange groups, in the order offered.
        key_share: a TLS 1.3 hello carries a key share for X25519; without one the server names the group
            that it selects in a HelloRetryRequest.
        alpn: protocol names offered (RFC 7301).
        compression: numbers of compression methods; 0 is none.
        grease: the lists include reserved values that no server knows (RFC 8701).
        signatures: numbers of signature schemes, in the order offered.
        to_key_exchange: read on to the ServerKeyExchange, which names the group in TLS 1.2.
        once: it is not sent again if there is no answer, since its parts are sent alone then.
    """

    purpose: str
    version: int
    suites: tuple[int, ...]
    groups: tuple[int, ...] = tuple(group.code for group in MODERN)
    key_share: bool = True
    alpn: tuple[str, ...] = ()
    compression: tuple[int, ...] = (0,)
    grease: bool = False
    signatures: tuple[int, ...] = SIGNATURES
    to_key_exchange: bool = False
    once: bool = False


class Reply(StrEnum):
    """What the server sent."""

    SERVER_HELLO = "server hello"
    """The server accepted the offer; a HelloRetryRequest counts, since it names what the server accepts."""
    ALERT = "alert"
    """The server refused the offer with an alert."""
    ENDED = "ended"
    """The connection ended without an answer."""
    SILENCE = "silence"
    """No data arrived in time."""
    OTHER = "other"
    """The server sent something other than TLS."""


class ServerHello(Struct, frozen=True, kw_only=True):
    """What a server chose.

    Attributes:
        version: number of the protocol version.
        suite: number of the cipher suite.
        compression: number of the compression method.
        group: number of the key exchange group; ``None`` if it was not named in what was read.
        alpn: the protocol selected, empty if the ServerHello names none; TLS 1.3 encrypts it.
        extensions: numbers of the extensions present.
        retry: it was a HelloRetryRequest.
    """

    version: int
    suite: int
    compression: int = 0
    group: int | None = None
    alpn: str = ""
    extensions: frozenset[int] = frozenset()
    retry: bool = False

    def describe(self) -> str:
        """Return version, suite and group in words."""
        suite = suite_name(self.suite) if self.version < TLS1_3 else f"0x{self.suite:04X}"
        group = f", {group_name(self.group)}" if self.group is not None else ""
        return f"{version_name(self.version)}, {suite}{group}"


class HelloExchange(Struct, frozen=True, kw_only=True):
    """One ClientHello, sent on a connection of its own, and the server's reply.

    Attributes:
        purpose: why it was sent, in a few words.
        offered: the version offered, as a name; empty if nothing was sent.
        reply: what the server sent.
        server_hello: what the server chose, for :attr:`Reply.SERVER_HELLO`.
        alert: number of the alert, for :attr:`Reply.ALERT`.
        detail: how the exchange ended, in words.
        local_address: our address and port, as the server's log may show it.
        server_address: the IP address that was connected to, empty without a connection.
        started_at: aware UTC.
        milliseconds: from the first SYN to the answer.
        refused: every address of the host refused the TCP connection.
    """

    url: str
    purpose: str
    offered: str
    reply: Reply
    started_at: datetime
    server_hello: ServerHello | None = None
    alert: int | None = None
    detail: str = ""
    local_address: str = ""
    server_address: str = ""
    milliseconds: float = 0.0
    refused: bool = False

    @property
    def answered(self) -> bool:
        """Whether the server answered with a ServerHello or an alert."""
        return self.reply in (Reply.SERVER_HELLO, Reply.ALERT)

    @property
    def outcome(self) -> str:
        """The reply in one word, as reports show it next to the endings of attempts."""
        return {Reply.SERVER_HELLO: "answered", Reply.ALERT: "other"}.get(self.reply, "unclear")

    def describe(self) -> str:
        """Return the reply in words: ``alert 70 protocol_version``."""
        if self.server_hello is not None:
            return f"accepted: {self.server_hello.describe()}"
        if self.alert is not None:
            return f"alert {alert_text(self.alert)}"
        return self.detail or str(self.reply)


Connection = Attempt | HelloExchange
"""A connection that was made, for any purpose."""


def is_served(connection: Connection) -> bool:
    """Return whether the server sent application data on it."""
    return isinstance(connection, Attempt) and connection.ending is Ending.SERVED


def exchange_hello(listener: Listener, hello: ClientHello, timeout: float) -> HelloExchange:
    """Send a ClientHello on a connection of its own and return the reply within that many seconds."""
    return _exchange(listener, hello.purpose, timeout, hello)


def keep_silent(listener: Listener, purpose: str, seconds: float) -> HelloExchange:
    """Connect, send nothing, and return whether the server closed the connection within that time."""
    return _exchange(listener, purpose, seconds)


def _exchange(
    listener: Listener, purpose: str, timeout: float, hello: ClientHello | None = None
) -> HelloExchange:
    record = client_hello(hello, sni(listener.name)) if hello else b""
    to_key_exchange = hello is not None and hello.to_key_exchange
    started_at, started = datetime.now(UTC), time.monotonic()
    deadline = started + timeout
    answer: ServerHello | int | None = None
    address = server = ""
    refused = False
    try:
        connected = dial(listener, deadline)
    except DialError as error:
        refused = error.stream_end is StreamEnd.CONNECTION_REFUSED
        reply = Reply.SILENCE if error.stream_end is StreamEnd.TIMEOUT else Reply.ENDED
        detail, ended = str(error), time.monotonic()
    else:
        with connected:
            address = local_address(connected)
            server = server_address(connected)
            with contextlib.suppress(OSError):  # a failure shows in the reply
                connected.sendall(record)
            reply, detail, answer = _read_reply(connected, deadline, to_key_exchange=to_key_exchange)
            ended = time.monotonic()
            _close(connected)
    return HelloExchange(
        url=listener.url,
        purpose=purpose,
        offered=version_name(hello.version) if hello else "",
        reply=reply,
        started_at=started_at,
        server_hello=answer if isinstance(answer, ServerHello) else None,
        alert=answer if isinstance(answer, int) else None,
        detail=detail,
        local_address=address,
        server_address=server,
        milliseconds=round((ended - started) * 1000, 3),
        refused=refused,
    )


def _read_reply(
    connected: socket.socket, deadline: float, *, to_key_exchange: bool
) -> tuple[Reply, str, ServerHello | int | None]:
    """Read until the server has answered, the connection has ended or the time is over."""
    data = b""
    while len(data) <= _LIMIT:
        try:
            answer = read_answer(data, to_key_exchange=to_key_exchange)
        except NotTLSError as error:
            return Reply.OTHER, str(error), None
        if answer is not None:
            return Reply.SERVER_HELLO if isinstance(answer, ServerHello) else Reply.ALERT, "", answer
        try:
            connected.settimeout(max(0.001, deadline - time.monotonic()))
            chunk = connected.recv(65536)
        except TimeoutError:
            said = carrier_said(connected, ended=False)
            return Reply.SILENCE, f"no data arrived in time{said}", None
        except OSError as error:
            return Reply.ENDED, f"connection reset ({error.strerror})", None
        if not chunk:
            why = carrier_said(connected, ended=True)
            return Reply.ENDED, f"the connection was closed without an answer{why}", None
        data += chunk
    return Reply.OTHER, f"no answer of TLS in {_LIMIT} octets", None


def _close(connected: socket.socket) -> None:
    """Close our side and read until the server closes, so that unread data does not cause a reset."""
    deadline = time.monotonic() + _CLOSE_SECONDS
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_WR)
        while (left := deadline - time.monotonic()) > 0:
            connected.settimeout(left)
            if not connected.recv(65536):
                return


def client_hello(hello: ClientHello, server_name: str | None = None) -> bytes:
    """Return the record that carries the hello, with a server name in ASCII, ``None`` for an address."""
    suites = list(hello.suites)
    if hello.version < TLS1_3:
        suites.append(RENEGOTIATION_SCSV)
    if hello.grease:
        suites.insert(0, _GREASE)
    # TLS 1.3 is offered by an extension; this field stays at 1.2 (RFC 8446 section 4.1.2).
    body = _u16(min(hello.version, TLS1_2)) + os.urandom(32) + _vector8(b"")
    body += _vector16(_numbers(*suites))
    body += _vector8(bytes(hello.compression))
    if hello.version > SSL3:
        body += _vector16(b"".join(_offered_extensions(hello, server_name)))
    message = bytes([_CLIENT_HELLO]) + len(body).to_bytes(3, "big") + body
    return bytes([_HANDSHAKE]) + _u16(min(hello.version, TLS1_0)) + _vector16(message)


def _offered_extensions(hello: ClientHello, server_name: str | None) -> list[bytes]:
    grease = [_GREASE] if hello.grease else []
    extensions = [_extension(code, b"") for code in grease]
    if server_name is not None:
        extensions.append(_extension(_SERVER_NAME, _vector16(b"\0" + _vector16(server_name.encode("ascii")))))
    extensions.append(_extension(_SUPPORTED_GROUPS, _vector16(_numbers(*grease, *hello.groups))))
    extensions.append(_extension(_EC_POINT_FORMATS, _vector8(b"\0")))
    extensions.append(_extension(_EXTENDED_MASTER_SECRET, b""))
    if hello.version >= TLS1_2:
        extensions.append(_extension(_SIGNATURE_ALGORITHMS, _vector16(_numbers(*grease, *hello.signatures))))
    if names := [name.encode("ascii") for name in hello.alpn]:
        names = [_u16(_GREASE), *names] if hello.grease else names
        extensions.append(_extension(_ALPN, _vector16(b"".join(map(_vector8, names)))))
    if hello.version >= TLS1_3:
        extensions += _tls13_extensions(hello, grease)
    # Some servers reject a hello whose last extension is empty, so the last one is not empty.
    if grease:
        extensions.append(_extension(_LAST_GREASE, b"\0"))
    return extensions


def _tls13_extensions(hello: ClientHello, grease: list[int]) -> list[bytes]:
    shares = b"".join(_u16(code) + _vector16(b"\0") for code in grease)
    if hello.key_share:
        # Every string of 32 octets is a public key of X25519; no secret will be derived from it.
        shares += _u16(_X25519) + _vector16(os.urandom(32))
    return [
        _extension(_SUPPORTED_VERSIONS, _vector8(_numbers(*grease, TLS1_3))),
        _extension(_PSK_MODES, _vector8(b"\x01")),
        _extension(_KEY_SHARE, _vector16(shares)),
    ]


def _extension(code: int, body: bytes) -> bytes:
    return _u16(code) + _vector16(body)


def _u16(number: int) -> bytes:
    return number.to_bytes(2, "big")


def _numbers(*numbers: int) -> bytes:
    return b"".join(map(_u16, numbers))


def _vector8(body: bytes) -> bytes:
    return bytes([len(body)]) + body


def _vector16(body: bytes) -> bytes:
    return _u16(len(body)) + body


class NotTLSError(ValueError):
    """The received bytes are not a TLS reply."""


def read_answer(data: bytes, *, to_key_exchange: bool = False) -> ServerHello | int | None:
    """Return the ServerHello, the number of a fatal alert, or ``None`` if more must be read.

    Args:
        data: all bytes received so far.
        to_key_exchange: a TLS 1.2 ServerHello counts only together with the ServerKeyExchange, or with the
            ServerHelloDone if there is no ServerKeyExchange.

    Raises:
        NotTLSError: if the bytes are not a TLS reply.
    """
    handshake, alert = _records(data)
    messages = handshake_messages(handshake)
    if messages and messages[0][0] != _SERVER_HELLO:
        raise NotTLSError(f"handshake message {messages[0][0]} instead of a ServerHello")
    if messages:
        hello = _server_hello(messages[0][1])
        if not to_key_exchange or hello.version >= TLS1_3:
            return hello
        for kind, body in messages[1:]:
            if kind == _SERVER_KEY_EXCHANGE:
                # ServerECDHParams: named_curve, then the number of the group (RFC 8422 section 5.4).
                has_group = len(body) >= 3 and body[0] == _NAMED_CURVE
                return replace(hello, group=int.from_bytes(body[1:3], "big")) if has_group else hello
            if kind == _SERVER_HELLO_DONE:
                return hello
    return alert


def _records(data: bytes) -> tuple[bytes, int | None]:
    """Return the handshake data of complete records, and the first fatal alert."""
    handshake, alert, position = b"", None, 0
    while len(data) - position >= 5:
        kind, length = data[position], int.from_bytes(data[position + 3 : position + 5], "big")
        # Every version of TLS has the major number 3; types are 20 to 24 (RFC 8446 section 5.1, RFC 6520).
        if data[position + 1] != 3 or kind not in range(20, 25):
            raise NotTLSError(f"no TLS record: {data[position : position + 5].hex(' ')}")
        body = data[position + 5 : position + 5 + length]
        if len(body) < length:
            break
        if kind == _HANDSHAKE:
            handshake += body
        elif kind == _ALERT and length == 2 and body[0] == _FATAL and alert is None:
            alert = body[1]
        position += 5 + length
    if 0 < len(data) < 5 and data[0] not in range(20, 25):
        raise NotTLSError(f"no TLS record: {data.hex(' ')}")
    return handshake, alert


def _server_hello(body: bytes) -> ServerHello:
    try:
        session_id = body[34]
        position = 35 + session_id
        suite = int.from_bytes(body[position : position + 2], "big")
        compression = body[position + 2]
        by_number = extensions(body[position + 3 :])
        # In TLS 1.3 the extension has the version, and the message begins with that of TLS 1.2.
        version = int.from_bytes(by_number.get(_SUPPORTED_VERSIONS, body)[:2], "big")
        share = by_number.get(_KEY_SHARE, b"")
        names = by_number.get(_ALPN, b"")
    except IndexError as error:
        raise NotTLSError("the ServerHello ends too early") from error
    return ServerHello(
        version=version,
        suite=suite,
        compression=compression,
        group=int.from_bytes(share[:2], "big") if share else None,
        alpn=printable(names[3:]),
        extensions=frozenset(by_number),
        retry=body[2:34] == _RETRY,
    )
