"""A server's answer to a ClientHello, read from bytes (RFC 8446 section 4.1.3, RFC 5246 section 7.4.1.3).

Pure: knows neither sockets nor what was offered.
"""

from __future__ import annotations

from pytest_etcdtls.observations.greeting import TLS1_3, ServerHello

_ALERT, _HANDSHAKE = 21, 22
_SERVER_HELLO, _SERVER_KEY_EXCHANGE, _SERVER_HELLO_DONE = 2, 12, 14
_FATAL = 2
_NAMED_CURVE = 3
_RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""The random of a HelloRetryRequest: SHA-256 of that word (RFC 8446 section 4.1.3)."""

_ALPN, _SUPPORTED_VERSIONS, _KEY_SHARE = 16, 43, 51


class NotTLSError(ValueError):
    """What came is not an answer of TLS."""


def read_answer(data: bytes, *, to_key_exchange: bool = False) -> ServerHello | int | None:
    """Return the server's hello, the number of its fatal alert, or ``None`` if more must be read.

    Args:
        data: everything that came so far.
        to_key_exchange: a hello of TLS 1.2 counts only with the ServerKeyExchange, or with the
            ServerHelloDone before which there was none.

    Raises:
        NotTLSError: if it is something else.
    """
    handshake, alert = _records(data)
    messages = _messages(handshake)
    if messages and messages[0][0] != _SERVER_HELLO:
        raise NotTLSError(f"handshake message {messages[0][0]} instead of a ServerHello")
    if messages:
        hello = _server_hello(messages[0][1])
        if not to_key_exchange or hello.version >= TLS1_3:
            return hello
        for kind, body in messages[1:]:
            if kind == _SERVER_KEY_EXCHANGE:
                return _with_group(hello, body)
            if kind == _SERVER_HELLO_DONE:
                return hello
    return alert


def _records(data: bytes) -> tuple[bytes, int | None]:
    """Return what complete records carry of the handshake, and the first fatal alert."""
    handshake, alert, position = b"", None, 0
    while len(data) - position >= 5:
        kind, length = data[position], int.from_bytes(data[position + 3 : position + 5], "big")
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


def _messages(handshake: bytes) -> list[tuple[int, bytes]]:
    messages, position = [], 0
    while len(handshake) - position >= 4:
        length = int.from_bytes(handshake[position + 1 : position + 4], "big")
        body = handshake[position + 4 : position + 4 + length]
        if len(body) < length:
            break
        messages.append((handshake[position], body))
        position += 4 + length
    return messages


def _server_hello(body: bytes) -> ServerHello:
    try:
        session_id = body[34]
        position = 35 + session_id
        suite = int.from_bytes(body[position : position + 2], "big")
        compression = body[position + 2]
        extensions = _extensions(body[position + 3 :])
        version = int.from_bytes(extensions.get(_SUPPORTED_VERSIONS, body[:2]), "big")
        share = extensions.get(_KEY_SHARE, b"")
        names = extensions.get(_ALPN, b"")
    except IndexError as error:
        raise NotTLSError("the ServerHello ends too early") from error
    return ServerHello(
        version=version,
        suite=suite,
        compression=compression,
        group=int.from_bytes(share[:2], "big") if share else None,
        alpn=names[3:].decode("ascii", "replace"),
        extensions=frozenset(extensions),
        retry=body[2:34] == _RETRY,
    )


def _extensions(block: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    position = 2
    while len(block) - position >= 4:
        code = int.from_bytes(block[position : position + 2], "big")
        length = int.from_bytes(block[position + 2 : position + 4], "big")
        found[code] = block[position + 4 : position + 4 + length]
        position += 4 + length
    return found


def _with_group(hello: ServerHello, key_exchange: bytes) -> ServerHello:
    if len(key_exchange) < 3 or key_exchange[0] != _NAMED_CURVE:
        return hello
    return ServerHello(
        version=hello.version,
        suite=hello.suite,
        compression=hello.compression,
        group=int.from_bytes(key_exchange[1:3], "big"),
        alpn=hello.alpn,
        extensions=hello.extensions,
    )
