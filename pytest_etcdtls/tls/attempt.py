"""One attempt: the request, how it ended, and the session that it leaves. No input or output.

An attempt is the evidence about one client: a handshake, a request and what came back. It ends in one of the
five ways of :class:`Ending`, because a handshake alone proves nothing. In TLS 1.3 the client finishes first
and the server verifies its certificate afterwards (RFC 8446, section 2), so a refusal is an alert on the
first read. And etcd checks revocation and addresses after the handshake, and then closes the connection
without an alert (client/pkg/transport/listener_tls.go, acceptLoop).

The session tickets of TLS 1.3 come after the handshake, encrypted with the server's application traffic
secret (RFC 8446, 4.6.1). pyOpenSSL does not show their fields. So :class:`SessionSlot` takes
the secret from the key log, and :func:`read_tickets` decrypts the recorded bytes a second time.
"""

from __future__ import annotations

import itertools
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, HashAlgorithm
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from msgspec import Struct
from OpenSSL import SSL

from pytest_etcdtls.errors import UnreadableJSONError
from pytest_etcdtls.pki.profile import NO_CERTIFICATE, Identity
from pytest_etcdtls.role import Protocol, TLSVersion
from pytest_etcdtls.untrusted.json_text import JSONValue, read_json
from pytest_etcdtls.untrusted.printable import printable

NOT_RESOLVED: Final = "was not resolved"
"""How a connection ended to a host without an address."""


class Ending(StrEnum):
    """How an attempt ended."""

    SERVED = "served"
    """At least one byte of application data came from the server."""
    REFUSED = "refused"
    """The server sent an alert about our certificate, or its absence, which it can judge only after its own
    part of the handshake."""
    OTHER = "other"
    """The server sent another alert."""
    CLOSED = "closed"
    """Our handshake finished, the server sent ``close_notify`` and no application data."""
    UNCLEAR = "unclear"
    """Anything else: timeout, reset, end of stream without ``close_notify``, a limit of our own library."""


class Phase(StrEnum):
    """How far an attempt got."""

    CONNECT = "connect"
    HANDSHAKE = "handshake"
    REQUEST = "request"
    READ = "read"


class StreamEnd(StrEnum):
    """How the TCP stream ended."""

    OPEN = "open"
    """The server did not end it: the response was complete and we closed."""
    CLOSE_NOTIFY = "close_notify"
    ALERT = "alert"
    EOF = "end of stream"
    RESET = "reset"
    TIMEOUT = "time-out"
    CONNECTION_REFUSED = "connection refused"
    """Every address of the host refused the TCP connection."""
    FAILED = "failed"
    """Our own library or the operating system gave up."""


HANDSHAKE_FAILURE = 40
"""Go's alert for a client without a certificate in TLS 1.2, and for an offer with nothing in common."""

CERTIFICATE_ALERTS = frozenset({HANDSHAKE_FAILURE, 42, 43, 44, 45, 46, 48, 49, 51, 116})
"""Alerts that count as a refusal of the certificate (RFC 8446 section 6.2)."""

ALERT_NAMES: Mapping[int, str] = {
    **{alert.value: alert.name.removeprefix("ALERT_DESCRIPTION_").lower() for alert in ssl.AlertDescription},
    **{86: "inappropriate_fallback", 90: "user_canceled", 109: "missing_extension"},
    **{116: "certificate_required", 120: "no_application_protocol"},
}
"""TLS alert descriptions by number (IANA registry, RFC 8446 section 6); Python does not know all of them."""


_APPLICATION_DATA, _HANDSHAKE = 23, 22
_NEW_SESSION_TICKET, _KEY_UPDATE = 4, 24
_EARLY_DATA = 42

_SUITES: dict[str, tuple[type[AESGCM | ChaCha20Poly1305], HashAlgorithm, int]] = {
    "TLS_AES_128_GCM_SHA256": (AESGCM, SHA256(), 16),
    "TLS_AES_256_GCM_SHA384": (AESGCM, SHA384(), 32),
    "TLS_CHACHA20_POLY1305_SHA256": (ChaCha20Poly1305, SHA256(), 32),
}
_TRAFFIC_SECRET = b"SERVER_TRAFFIC_SECRET_0"
"""The label of the server's first application secret in a key log, as ``SSLKEYLOGFILE`` has it."""

_STATUS_LINE = re.compile(rb"HTTP/[0-9]")
_SETTINGS = b"\x04\0\0\0\0\0"
_NEEDS_HTTPS = (b"HTTPS server", b"sent to HTTPS port", b"SSL-enabled server port")


def alert_text(number: int) -> str:
    """Return ``42 bad_certificate`` for 42."""
    return f"{number} {ALERT_NAMES.get(number, 'unassigned')}"


_YEARS = (1950, 9998)
"""Those in which a certificate can be valid, and with which one can calculate."""


class Response(Struct, frozen=True):
    """A response over HTTP.

    Attributes:
        status: the HTTP status code.
        headers: lower-case names, at most 64; of repeated ones the last. Printable and bounded.
        body: at most the first 64 KiB, as they were sent: a content encoding is not removed.
    """

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""

    @property
    def content_encoding(self) -> str:
        """The encoding of the body (RFC 9110 section 8.4), empty if it has none."""
        name = self.headers.get("content-encoding", "").strip().lower()
        return "" if name == "identity" else name

    @property
    def date(self) -> datetime | None:
        """The server's time in the Date header (RFC 9110 section 6.6.1), ``None`` without a usable one."""
        try:
            when = parsedate_to_datetime(self.headers.get("date", ""))
        except (ValueError, OverflowError):
            return None
        return when if when.tzinfo and _YEARS[0] <= when.year <= _YEARS[1] else None

    @property
    def grpc_status(self) -> int | None:
        """The status of a gRPC call (``google.golang.org/grpc/codes``), ``None`` without a number there."""
        text = self.headers.get("grpc-status", "")
        return int(text) if re.fullmatch("[0-9]{1,4}", text) else None

    @property
    def fields(self) -> Mapping[str, JSONValue]:
        """The members of the JSON object in the body; none for another body."""
        try:
            value = read_json(self.body)
        except UnreadableJSONError:
            return {}
        return value if isinstance(value, dict) else {}

    def excerpt(self, limit: int = 200) -> str:
        """Return the beginning of the body as printable text of at most so many characters."""
        return printable(self.body[: 4 * limit + 4].strip(), limit)


class Attempt(Struct, frozen=True, kw_only=True):
    """One connection to a listener, or a further request on it.

    Attributes:
        url: the listener's URL.
        purpose: what the connection was made for, in a few words.
        identity: name of the identity presented.
        offered_version: the only TLS version offered; ``None`` if all were, or for plaintext.
        protocol: the protocol used after the handshake.
        offered_alpn: protocol names offered by ALPN (RFC 7301), none if empty.
        ending: how it ended.
        phase: how far it got.
        stream_end: how the TCP stream ended.
        alert: the alert that the server sent, other than ``close_notify``; ``None`` if it sent none.
        detail: the end in words, for people.
        local: the attempt ended at a limit of our own library, not by the server.
        version: the TLS version negotiated, ``None`` if the handshake did not get there.
        cipher: OpenSSL's name of the cipher suite.
        group: name of the key exchange group.
        alpn: the protocol selected by ALPN, empty if none.
        certificate_requested: the server sent a CertificateRequest; ``None`` if the handshake ended before
            that was known.
        announced_ca: DER of each distinguished name in the CertificateRequest.
        chain: DER of each certificate served, leaf first.
        resumed: the handshake finished without the server's certificate: a session was resumed.
        ticket: the server gave out a session ticket.
        renegotiated: a second handshake was made on the connection.
        first_bytes: the first application data, at most 64 octets; :attr:`first_text` shows them.
        key_proved: the server proved that it holds the key of its certificate, by a signature over the
            handshake or by finishing it.
        response: the HTTP response, if one could be parsed.
        local_address: our address and port, as the server's log may show it.
        server_address: the IP address that was connected to, empty without a connection.
        started_at: aware UTC.
        milliseconds: from the first SYN to the end.
    """

    url: str
    purpose: str
    identity: str
    protocol: Protocol
    ending: Ending
    phase: Phase
    started_at: datetime
    stream_end: StreamEnd = StreamEnd.OPEN
    offered_version: TLSVersion | None = None
    offered_alpn: tuple[str, ...] = ()
    alert: int | None = None
    detail: str = ""
    local: bool = False
    version: str | None = None
    cipher: str | None = None
    group: str | None = None
    alpn: str = ""
    certificate_requested: bool | None = None
    announced_ca: tuple[bytes, ...] = ()
    chain: tuple[bytes, ...] = ()
    resumed: bool = False
    ticket: bool = False
    renegotiated: bool = False
    key_proved: bool = False
    first_bytes: bytes = b""
    response: Response | None = None
    local_address: str = ""
    server_address: str = ""
    milliseconds: float = 0.0

    @property
    def first_text(self) -> str:
        """The first application data as printable text."""
        return printable(self.first_bytes)

    @property
    def is_http(self) -> bool:
        """Whether HTTP/1 was served, or HTTP/2.

        The banner of another protocol, a part of a TLS message and an echo of the request are not HTTP.
        """
        return _STATUS_LINE.match(self.first_bytes) is not None or self.is_http2

    @property
    def is_http2(self) -> bool:
        """Whether HTTP/2 was served, whose first frame is SETTINGS (RFC 9113 section 3.4)."""
        data = self.first_bytes
        length = int.from_bytes(data[:3], "big")
        # Type, no flags, stream 0; settings of six octets each in a frame of at most the initial size.
        return data[3:9] == _SETTINGS and length % 6 == 0 and length <= 1 << 14

    @property
    def answers_plaintext(self) -> bool:
        """Whether plain HTTP is served.

        The reply of a TLS server to a request without TLS does not count: an alert, the error with status 400
        that Go, nginx and Apache send, or a redirection to https.
        """
        response = self.response or Response(status=0)
        needs_https = response.status == 400 and any(text in response.body for text in _NEEDS_HTTPS)
        location = response.headers.get("location", "").lower()
        redirects = 300 <= response.status < 400 and location.startswith("https://")
        return self.is_http and not needs_https and not redirects

    def describe(self) -> str:
        """Return the end in words: ``refused in read: alert 116 certificate_required``."""
        text = f"{self.ending} in {self.phase}"
        if self.response is not None and self.ending is Ending.SERVED:
            return f"served: HTTP {self.response.status}"
        if self.alert is not None:
            return f"{text}: alert {alert_text(self.alert)}"
        return f"{text}: {self.detail}" if self.detail else text


class Ticket(Struct, frozen=True, kw_only=True):
    """The fields of a TLS 1.3 session ticket that are not secret.

    Attributes:
        lifetime: seconds for which the client may use it.
        max_early_data: octets that the client may send before the handshake; 0 forbids early data.
    """

    lifetime: int
    max_early_data: int


@dataclass(slots=True, repr=False)
class _Secret:
    """The secret that decrypts the tickets of the first connection of a context.

    The callback of the context keeps it, and it keeps nothing. So a context and its callback are freed by the
    thread that used them last, not by a collection of garbage in another one.
    """

    octets: bytes = b""
    is_awaited: bool = True

    def note(self, _connection: SSL.Connection, line: bytes) -> None:
        """Take the secret from a line that OpenSSL logs."""
        label, _, rest = line.partition(b" ")
        if label == _TRAFFIC_SECRET and self.is_awaited:
            self.octets = bytes.fromhex(rest.partition(b" ")[2].decode())


@dataclass(slots=True)
class SessionSlot:
    """The session of one connection, empty until the connection is made.

    Attributes:
        context: shared by every connection that offers the session; it presents no certificate.
        session: ``None`` if there was no handshake.
        tickets: the TLS 1.3 tickets that could be read.
    """

    context: SSL.Context | None = field(default=None, repr=False)
    session: SSL.Session | None = field(default=None, repr=False)
    tickets: tuple[Ticket, ...] = ()
    _connection: SSL.Connection | None = field(default=None, repr=False)
    _secret: _Secret = field(default_factory=_Secret, repr=False)

    def watch(self, context: SSL.Context) -> None:
        """Register for the secret that decrypts the tickets of the first connection of a new context.

        pyOpenSSL frees a callback when its context is freed or another one is registered on it, also while
        OpenSSL calls it in another thread. A connection keeps its context.
        """
        self.context, self.session, self.tickets = context, None, ()
        self._secret = _Secret()
        context.set_keylog_callback(self._secret.note)

    def fill(self, connection: SSL.Connection, received: bytes) -> None:
        """Take the session of a finished connection, and read its tickets.

        Args:
            connection: kept alive, since OpenSSL marks the session of one that is freed as not resumable.
            received: all data that was received on it.
        """
        self._connection = connection
        self.session = connection.get_session()
        suite = connection.get_cipher_name()
        if self._secret.octets and suite is not None:
            self.tickets = read_tickets(received, self._secret.octets, suite)
        self._secret.octets, self._secret.is_awaited = b"", False


def read_tickets(received: bytes, secret: bytes, suite: str) -> tuple[Ticket, ...]:
    """Return the TLS 1.3 session tickets that a server sent on a connection.

    Args:
        received: all data that was received on the connection, from its first byte.
        secret: the server's application traffic secret.
        suite: the name of the TLS 1.3 cipher suite.

    Raises:
        KeyError: for a suite that is not one of TLS 1.3's three.
    """
    cipher, algorithm, length = _SUITES[suite]
    opener = cipher(_expand(algorithm, secret, b"key", length))
    nonce = _expand(algorithm, secret, b"iv", 12)
    messages = handshake_messages(b"".join(_handshake_data(received, opener, nonce)))
    # After a KeyUpdate the server uses other keys (RFC 8446 section 4.6.3).
    before = itertools.takewhile(lambda message: message[0] != _KEY_UPDATE, messages)
    return tuple(_ticket(body) for kind, body in before if kind == _NEW_SESSION_TICKET)


def _handshake_data(received: bytes, opener: AESGCM | ChaCha20Poly1305, nonce: bytes) -> Iterator[bytes]:
    """Yield the handshake data in records protected with the application traffic keys."""
    sequence = position = 0
    while len(received) - position >= 5:
        header = received[position : position + 5]
        body = received[position + 5 : position + 5 + int.from_bytes(header[3:], "big")]
        position += 5 + len(body)
        if header[0] != _APPLICATION_DATA:
            continue
        number = int.from_bytes(nonce, "big") ^ sequence  # RFC 8446 section 5.3
        try:
            inner = opener.decrypt(number.to_bytes(12, "big"), body, header).rstrip(b"\0")
        except InvalidTag:
            # Protected with the handshake keys, which precede the application traffic keys.
            continue
        sequence += 1
        if inner and inner[-1] == _HANDSHAKE:
            yield inner[:-1]


def _ticket(body: bytes) -> Ticket:
    # NewSessionTicket: lifetime, age_add, nonce, ticket, extensions (RFC 8446 section 4.6.1).
    position = 9 + body[8]
    position += 2 + int.from_bytes(body[position : position + 2], "big")
    early = extensions(body[position:]).get(_EARLY_DATA, b"")
    return Ticket(lifetime=int.from_bytes(body[:4], "big"), max_early_data=int.from_bytes(early, "big"))


def handshake_messages(data: bytes) -> list[tuple[int, bytes]]:
    """Return type and body of each complete handshake message (RFC 8446 section 4)."""
    messages, position = [], 0
    while len(data) - position >= 4:
        length = int.from_bytes(data[position + 1 : position + 4], "big")
        body = data[position + 4 : position + 4 + length]
        if len(body) < length:
            break
        messages.append((data[position], body))
        position += 4 + length
    return messages


def extensions(block: bytes) -> dict[int, bytes]:
    """Return extensions by number, from the block that begins with its length in two octets."""
    by_number: dict[int, bytes] = {}
    position = 2
    while len(block) - position >= 4:
        code = int.from_bytes(block[position : position + 2], "big")
        length = int.from_bytes(block[position + 2 : position + 4], "big")
        by_number[code] = block[position + 4 : position + 4 + length]
        position += 4 + length
    return by_number


def _expand(algorithm: HashAlgorithm, secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand-Label with an empty context (RFC 8446 section 7.1)."""
    label = b"tls13 " + label
    info = length.to_bytes(2, "big") + bytes([len(label)]) + label + b"\0"
    return HKDFExpand(algorithm, length, info).derive(secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to do on one connection.

    Attributes:
        purpose: a few words for the report.
        version: the only TLS version to offer; ``None`` for all supported versions.
        protocol: the protocol to use after the handshake.
        path: of the URL; of a gRPC call, its service and method.
        method: of HTTP; empty for POST with a body and to the gateway, else GET.
        body: ``None`` for none. May hold a password, never shown.
        alpn: names to offer; ``None`` for those of ``protocol``.
        plaintext: no TLS at all.
        may_end: the server may end the stream without an answer, which is then no reason to try again.
        server_name: name to send by SNI, empty for none; ``None`` for the listener's host, if that is a name.
        headers: further request headers; may hold a token, never shown.
        only_to: DER of the leaf that must be served, else nothing is sent; ``None`` for any.
        proved: DER of the leaves for which the server has proved who it is. If another one is served, neither
            a certificate nor a request is sent. ``None`` for any.
        suites: OpenSSL's names of the TLS 1.2 suites to offer; empty for the usual ones.
        keep: where the TLS session of this connection is put.
        resume: the TLS session to offer, of an earlier connection in the same TLS version.
        renegotiate: request a second handshake before the request (TLS 1.2).
    """

    purpose: str
    identity: Identity = NO_CERTIFICATE
    version: TLSVersion | None = None
    protocol: Protocol = Protocol.HTTP1
    path: str = "/version"
    method: str = ""
    body: bytes | None = field(default=None, repr=False)
    alpn: tuple[str, ...] | None = None
    plaintext: bool = False
    may_end: bool = False
    server_name: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    only_to: bytes | None = field(default=None, repr=False)
    proved: frozenset[bytes] | None = field(default=None, repr=False)
    suites: str = ""
    keep: SessionSlot | None = field(default=None, repr=False)
    resume: SessionSlot | None = field(default=None, repr=False)
    renegotiate: bool = False
