"""A ClientHello as bytes (RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2).

Written here because a hello must offer what no library of ours can: the OpenSSL that makes the handshakes
has no 3DES, no RC4 and no SSLv3, and what it cannot offer nobody can refuse. Pure: sends nothing, and knows
no answer.
"""

from __future__ import annotations

import os

from pytest_etcdtls.observations.cipher_suites import RENEGOTIATION_SCSV
from pytest_etcdtls.observations.greeting import SSL3, TLS1_0, TLS1_2, TLS1_3, Hello

_HANDSHAKE, _CLIENT_HELLO = 22, 1
_X25519 = 29
_GREASE = 0x2A2A
"""One of the values that RFC 8701 reserves for suites, groups, extensions and versions."""

_SIGNATURES = (
    *(0x0403, 0x0503, 0x0603),  # ECDSA on P-256, P-384, P-521
    *(0x0807, 0x0808),  # Ed25519, Ed448
    *(0x0804, 0x0805, 0x0806, 0x0809, 0x080A, 0x080B),  # RSA-PSS
    *(0x0401, 0x0501, 0x0601),  # RSA PKCS #1 v1.5
    *(0x0203, 0x0201),  # SHA-1 with ECDSA and RSA
)


def client_hello(hello: Hello, server_name: str | None = None) -> bytes:
    """Return the record that carries the hello.

    Args:
        hello: what to offer.
        server_name: for SNI, in ASCII; ``None`` for an address.
    """
    suites = list(hello.suites)
    if hello.version < TLS1_3:
        suites.append(RENEGOTIATION_SCSV)
    if hello.grease:
        suites.insert(0, _GREASE)
    body = _u16(min(hello.version, TLS1_2)) + os.urandom(32)
    body += _vector8(b"")
    body += _vector16(b"".join(map(_u16, suites)))
    body += _vector8(bytes(hello.compression))
    if hello.version > SSL3:
        body += _vector16(b"".join(_extensions(hello, server_name)))
    message = bytes([_CLIENT_HELLO]) + len(body).to_bytes(3, "big") + body
    return bytes([_HANDSHAKE]) + _u16(min(hello.version, TLS1_0)) + _vector16(message)


def _extensions(hello: Hello, server_name: str | None) -> list[bytes]:
    grease = [_GREASE] if hello.grease else []
    extensions = [_extension(code, b"") for code in grease]
    if server_name is not None:
        extensions.append(_extension(0, _vector16(b"\0" + _vector16(server_name.encode("ascii")))))
    extensions.append(_extension(10, _vector16(b"".join(map(_u16, (*grease, *hello.groups))))))
    extensions.append(_extension(11, _vector8(b"\0")))
    extensions.append(_extension(23, b""))
    if hello.version >= TLS1_2:
        extensions.append(_extension(13, _vector16(b"".join(map(_u16, (*grease, *_SIGNATURES))))))
    if names := [name.encode("ascii") for name in hello.alpn]:
        names = [_u16(_GREASE), *names] if hello.grease else names
        extensions.append(_extension(16, _vector16(b"".join(map(_vector8, names)))))
    if hello.version >= TLS1_3:
        extensions += _of_tls13(hello, grease)
    # Some servers are known to reject a hello whose last extension is empty, so none stands there.
    if grease:
        extensions.append(_extension(0x3A3A, b"\0"))
    return extensions


def _of_tls13(hello: Hello, grease: list[int]) -> list[bytes]:
    shares = b"".join(_u16(code) + _vector16(b"\0") for code in grease)
    if hello.key_share:
        # Every string of 32 octets is a public key of X25519; no secret will be derived from it.
        shares += _u16(_X25519) + _vector16(os.urandom(32))
    return [
        _extension(43, _vector8(b"".join(map(_u16, (*grease, TLS1_3))))),
        _extension(45, _vector8(b"\x01")),
        _extension(51, _vector16(shares)),
    ]


def _extension(code: int, body: bytes) -> bytes:
    return _u16(code) + _vector16(body)


def _u16(number: int) -> bytes:
    return number.to_bytes(2, "big")


def _vector8(body: bytes) -> bytes:
    return bytes([len(body)]) + body


def _vector16(body: bytes) -> bytes:
    return _u16(len(body)) + body
