"""What a TLS 1.3 server says in its NewSessionTicket messages (RFC 8446 section 4.6.1).

They are encrypted, and no library tells their early data limit: the records are opened with the traffic
secret that OpenSSL hands to its key log. Pure; keeps no secret.
"""

from __future__ import annotations

from collections.abc import Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, HashAlgorithm
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from pytest_etcdtls.observations.session import Ticket

_APPLICATION_DATA, _HANDSHAKE = 23, 22
_NEW_SESSION_TICKET, _KEY_UPDATE = 4, 24
_EARLY_DATA = 42

_SUITES: dict[str, tuple[type[AESGCM | ChaCha20Poly1305], HashAlgorithm, int]] = {
    "TLS_AES_128_GCM_SHA256": (AESGCM, SHA256(), 16),
    "TLS_AES_256_GCM_SHA384": (AESGCM, SHA384(), 32),
    "TLS_CHACHA20_POLY1305_SHA256": (ChaCha20Poly1305, SHA256(), 32),
}


def read_tickets(received: bytes, secret: bytes, suite: str) -> tuple[Ticket, ...]:
    """Return what the tickets say that a server sent on a connection.

    Args:
        received: everything that came on the connection, from its first byte.
        secret: the server's application traffic secret.
        suite: the name of the TLS 1.3 cipher suite.

    Raises:
        KeyError: for a suite that is not one of TLS 1.3's three.
    """
    cipher, algorithm, length = _SUITES[suite]
    opener = cipher(_expand(algorithm, secret, b"key", length))
    nonce = _expand(algorithm, secret, b"iv", 12)
    handshake = b"".join(_handshake_data(received, opener, nonce))
    tickets: list[Ticket] = []
    position = 0
    while len(handshake) - position >= 4:
        size = int.from_bytes(handshake[position + 1 : position + 4], "big")
        body = handshake[position + 4 : position + 4 + size]
        if handshake[position] == _KEY_UPDATE or len(body) < size:
            break
        if handshake[position] == _NEW_SESSION_TICKET:
            tickets.append(_ticket(body))
        position += 4 + size
    return tuple(tickets)


def _handshake_data(received: bytes, opener: AESGCM | ChaCha20Poly1305, nonce: bytes) -> Iterator[bytes]:
    """Yield what records protected with the application traffic keys carry of the handshake."""
    sequence = position = 0
    while len(received) - position >= 5:
        header = received[position : position + 5]
        body = received[position + 5 : position + 5 + int.from_bytes(header[3:], "big")]
        position += 5 + len(body)
        if header[0] != _APPLICATION_DATA:
            continue
        number = int.from_bytes(nonce, "big") ^ sequence
        try:
            inner = opener.decrypt(number.to_bytes(12, "big"), body, header).rstrip(b"\0")
        except InvalidTag:
            # Protected with the keys of the handshake, which come before the others.
            continue
        sequence += 1
        if inner and inner[-1] == _HANDSHAKE:
            yield inner[:-1]


def _ticket(body: bytes) -> Ticket:
    position = 9 + body[8]
    position += 2 + int.from_bytes(body[position : position + 2], "big")
    end = position + 2 + int.from_bytes(body[position : position + 2], "big")
    position += 2
    early = 0
    while end - position >= 4:
        code = int.from_bytes(body[position : position + 2], "big")
        size = int.from_bytes(body[position + 2 : position + 4], "big")
        if code == _EARLY_DATA:
            early = int.from_bytes(body[position + 4 : position + 4 + size], "big")
        position += 4 + size
    return Ticket(lifetime=int.from_bytes(body[:4], "big"), max_early_data=early)


def _expand(algorithm: HashAlgorithm, secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand-Label with an empty context (RFC 8446 section 7.1)."""
    label = b"tls13 " + label
    info = length.to_bytes(2, "big") + bytes([len(label)]) + label + b"\0"
    return HKDFExpand(algorithm, length, info).derive(secret)
