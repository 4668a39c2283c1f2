"""One connection: what was asked of it and how it ended.

Facts only. The five ways an attempt can end are those of the project's refusal table; no exception
of any library decides between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class TLSVersion(StrEnum):
    """A protocol version, spelled as in RFC 8446 and RFC 5246."""

    TLS1_2 = "TLSv1.2"
    TLS1_3 = "TLSv1.3"


class Protocol(StrEnum):
    """What is spoken after the handshake."""

    HTTP1 = "http/1.1"
    """A GET over HTTP/1.1."""
    HTTP2 = "h2"
    """A GET over HTTP/2."""
    GATEWAY = "gateway"
    """A POST to etcd's JSON gateway, over HTTP/1.1."""
    GRPC = "grpc"
    """A unary gRPC call over HTTP/2."""


class Way(StrEnum):
    """How an attempt ended."""

    SERVED = "served"
    """At least one byte of application data came from the server."""
    REFUSED = "refused"
    """The server sent an alert about our certificate."""
    OTHER = "other"
    """The server sent another alert."""
    CLOSED = "closed"
    """Our handshake finished, the server sent ``close_notify`` and no application data."""
    UNCLEAR = "unclear"
    """All else: time-out, reset, end of stream without ``close_notify``, a limit of our own library."""


class Stage(StrEnum):
    """How far an attempt got."""

    CONNECT = "connect"
    HANDSHAKE = "handshake"
    REQUEST = "request"
    READ = "read"


class Ending(StrEnum):
    """What the stream itself saw last."""

    OPEN = "open"
    """Nothing ended it: the answer was complete and we closed."""
    CLOSE_NOTIFY = "close_notify"
    ALERT = "alert"
    EOF = "end of stream"
    RESET = "reset"
    TIMEOUT = "time-out"
    CONNECTION_REFUSED = "connection refused"
    """Every address of the host refused the TCP connection."""
    FAILED = "failed"
    """Our own library or the operating system gave up."""


CERTIFICATE_ALERTS = frozenset({40, 42, 43, 44, 45, 46, 48, 49, 51, 116})
"""Alerts that count as a refusal of the certificate (RFC 8446 section 6.2)."""

ALERT_NAMES: Mapping[int, str] = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    22: "record_overflow",
    40: "handshake_failure",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    100: "no_renegotiation",
    109: "missing_extension",
    110: "unsupported_extension",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
}
"""TLS alert descriptions by number (IANA registry, RFC 8446 section 6)."""


_SETTINGS = b"\x04"
_NEEDS_HTTPS = (b"HTTPS server", b"sent to HTTPS port", b"SSL-enabled server port")


def alert_text(number: int) -> str:
    """Return ``42 bad_certificate`` for 42."""
    return f"{number} {ALERT_NAMES.get(number, 'unassigned')}"


@dataclass(frozen=True, slots=True)
class Response:
    """What came back over HTTP.

    Attributes:
        status: the HTTP status code.
        headers: lower-case names; of repeated ones the last.
        body: at most the first 64 KiB.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One connection to a listener.

    Attributes:
        url: the listener's URL.
        purpose: what the connection was made for, in a few words.
        identity: name of the identity presented.
        asked: the only TLS version offered; ``None`` if every version that we have was, or for plaintext.
        protocol: what was spoken.
        offered_alpn: protocol names offered by ALPN (RFC 7301), none if empty.
        way: how it ended.
        stage: how far it got.
        ending: what the stream saw last.
        alert: the alert that the server sent, close_notify apart; ``None`` if it sent none.
        detail: the end in words, for people.
        local: the end is a limit of our own library, not the server's doing.
        version: the TLS version negotiated, ``None`` if the handshake did not get there.
        cipher: OpenSSL's name of the cipher suite.
        group: name of the key exchange group.
        alpn: the protocol selected by ALPN, empty if none.
        certificate_requested: the server sent a CertificateRequest.
        announced_ca: DER of each distinguished name in the CertificateRequest.
        chain: DER of each certificate served, leaf first.
        resumed: the handshake finished without the server's certificate: a session was resumed.
        ticket: the server gave out a session ticket.
        renegotiated: a second handshake was made on the connection.
        first_bytes: the first application data, at most 64 octets.
        response: the HTTP answer, if one could be parsed.
        local_address: our address and port, as the server's log may show it.
        started_at: aware UTC.
        milliseconds: from the first SYN to the end.
    """

    url: str
    purpose: str
    identity: str
    protocol: Protocol
    way: Way
    stage: Stage
    started_at: datetime
    ending: Ending = Ending.OPEN
    asked: TLSVersion | None = None
    offered_alpn: tuple[str, ...] = ()
    alert: int | None = None
    detail: str = ""
    local: bool = False
    version: str | None = None
    cipher: str | None = None
    group: str | None = None
    alpn: str = ""
    certificate_requested: bool = False
    announced_ca: tuple[bytes, ...] = ()
    chain: tuple[bytes, ...] = ()
    resumed: bool = False
    ticket: bool = False
    renegotiated: bool = False
    first_bytes: bytes = b""
    response: Response | None = None
    local_address: str = ""
    milliseconds: float = 0.0

    @property
    def answers_plaintext(self) -> bool:
        """Whether plain HTTP is served, HTTP/1.1 or the SETTINGS frame of HTTP/2 (RFC 9113 section 3.4).

        What a TLS server says of a request that is not TLS is none: an alert, or an error of status 400 from
        Go, nginx and Apache.
        """
        is_http = self.first_bytes.startswith(b"HTTP/") or self.first_bytes[3:4] == _SETTINGS
        status, body = (self.response.status, self.response.body) if self.response else (0, b"")
        complains = status == 400 and any(word in body for word in _NEEDS_HTTPS)
        return is_http and not complains

    def describe(self) -> str:
        """Return the end in words: ``refused in read: alert 116 certificate_required``."""
        text = f"{self.way} in {self.stage}"
        if self.response is not None and self.way is Way.SERVED:
            return f"served: HTTP {self.response.status}"
        if self.alert is not None:
            return f"{text}: alert {alert_text(self.alert)}"
        return f"{text}: {self.detail}" if self.detail else text
