"""Entries of etcd's log about rejected connections, failed dials and startup."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Literal

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.errors import UnreadableJSONError
from pytest_etcdtls.etcd_log.lines import LogEntry
from pytest_etcdtls.untrusted import read_json


class Cause(StrEnum):
    """Why a connection was rejected."""

    NO_CERTIFICATE = "no client certificate"
    UNKNOWN_CA = "certificate of another CA"
    EXPIRED = "expired certificate"
    NOT_YET_VALID = "certificate not yet valid"
    USAGE = "certificate is not for this use"
    EXTENSION = "certificate with an unknown critical extension"
    NAME_NOT_ALLOWED = "name in the certificate is not allowed"
    ADDRESS = "names in the certificate do not fit the address"
    REVOKED = "revoked certificate"
    CRL_UNREADABLE = "CRL cannot be read"
    PLAINTEXT = "plaintext on a TLS port"
    HTTP2_ON_PEER_PORT = "HTTP/2 on the peer port"
    PROTOCOL_VERSION = "no common TLS version"
    CIPHER_SUITE = "no common cipher suite"
    ALPN = "no common application protocol"
    SERVED_PAIR = "etcd cannot load its own certificate"
    REFUSED_BY_CLIENT = "the client refused etcd's certificate"
    GONE = "the client went away"
    SILENT = "the client said nothing"
    STOPPING = "etcd was stopping"
    OTHER = "another error"


_PATTERNS: Final[tuple[tuple[re.Pattern[str], Cause], ...]] = tuple(
    (re.compile(pattern), cause)
    for pattern, cause in (
        (r"didn't provide a certificate", Cause.NO_CERTIFICATE),
        (r"certificate signed by unknown authority", Cause.UNKNOWN_CA),
        (r"x509: unhandled critical extension", Cause.EXTENSION),
        (r"has expired or is not yet valid.* is before ", Cause.NOT_YET_VALID),
        (r"has expired or is not yet valid", Cause.EXPIRED),
        (r"incompatible key usage", Cause.USAGE),
        (r"client certificate authentication failed", Cause.NAME_NOT_ALLOWED),
        (
            r"does not match any of DNSNames|certificate is (?:not )?valid for|contain any IP SANs",
            Cause.ADDRESS,
        ),
        (r"certificate serial \w+ revoked", Cause.REVOKED),
        (r"malformed crl|asn1: ", Cause.CRL_UNREADABLE),
        (r"first record does not look like a TLS handshake", Cause.PLAINTEXT),
        (
            r"unsupported versions|protocol version not supported|unsupported, maximum protocol",
            Cause.PROTOCOL_VERSION,
        ),
        (r"no cipher suite supported by both", Cause.CIPHER_SUITE),
        (r"unsupported application protocols", Cause.ALPN),
        (
            r"private key does not match|failed to find any PEM data|failed to parse private key",
            Cause.SERVED_PAIR,
        ),
        (r"remote error: tls: |local error: tls: bad record MAC", Cause.REFUSED_BY_CLIENT),
        (r"use of closed network connection", Cause.STOPPING),
        (r"i/o timeout|context deadline exceeded", Cause.SILENT),
        (r"connection reset by peer|broken pipe|EOF$", Cause.GONE),
    )
)
_OPENED = re.compile(r"\bopen ")
_NOT_OPENED = re.compile(r": (?:no such file or directory|permission denied|is a directory)")
_LONGEST_ERROR = 1000
"""Characters of an error that are searched. Go's errors about certificates have a few hundred."""


def cause_of(error: str, *, certificate_seen: bool) -> Cause:
    """Return the cause behind an error's text.

    Args:
        error: the error as logged.
        certificate_seen: whether the client had presented a certificate, so that the handshake was complete.
    """
    error = error[:_LONGEST_ERROR]
    opened = _OPENED.search(error)
    if opened is not None and _NOT_OPENED.search(error, opened.end() + 1):
        return Cause.CRL_UNREADABLE if certificate_seen else Cause.SERVED_PAIR
    return next((cause for pattern, cause in _PATTERNS if pattern.search(error)), Cause.OTHER)


STARTUP_WORDS: Final = (
    "oaded server configuration",
    "oading server configuration",
    "Running: ",
    "etcd Version: ",
    "Go Version: ",
    "starting an etcd server",
    "starting with client TLS",
    "starting with peer TLS",
    "ClientTLS: ",
    "peerTLS: ",
)
"""Texts, one of which every line about a startup contains."""

_INFO = re.compile(r"(?:^|, )([a-z-]+) ?= ?([^,]*)")
_FIRST = ("loaded server configuration", "Loading server configuration from ", "Running: ", "etcd Version: ")
"""Messages that begin a startup. Which one comes first depends on version and configuration."""

_VERSION = re.compile(r"(?:etcd Version|Go Version): (\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedTLS:
    """TLS settings of one side as etcd logs them at startup; empty strings for settings without a value."""

    cert: str = ""
    key: str = ""
    client_cert: str = ""
    client_key: str = ""
    trusted_ca: str = ""
    client_cert_auth: bool = False
    crl_file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Startup:
    """The last startup in a log.

    Attributes:
        etcd_version: the version of etcd; ``None`` if the log begins after the startup.
        go_version: the version of Go that etcd was built with: ``go1.24.0``.
        client: TLS on client and https metrics listeners; ``None`` without TLS.
        peer: TLS on peer listeners; ``None`` without TLS.
        urls: the URLs by flag name, where the log has them (3.4's text format does not).
        config_file: the configuration file, because of which etcd ignores flags and variables.
    """

    etcd_version: str | None = None
    go_version: str | None = None
    client: LoggedTLS | None = None
    peer: LoggedTLS | None = None
    urls: dict[str, tuple[str, ...]] = field(default_factory=dict)
    config_file: str | None = None


def last_startup(entries: Iterable[LogEntry]) -> Startup:
    """Return the last startup in a log."""
    found = Startup()
    for entry in entries:
        if found.etcd_version is not None and entry.message.startswith(_FIRST):
            found = Startup()  # a new startup
        found = _add(found, entry)
    return found


def _add(found: Startup, entry: LogEntry) -> Startup:
    message = entry.message
    if match := _VERSION.match(message):
        if message.startswith("etcd"):
            return replace(found, etcd_version=match[1])
        return replace(found, go_version=match[1])
    if message == "starting an etcd server":
        urls = {
            name: entry.texts(name)
            for name, value in entry.fields.items()
            if name.endswith("-urls") and isinstance(value, list)
        }
        return replace(
            found,
            etcd_version=entry.text("etcd-version") or found.etcd_version,
            go_version=entry.text("go-version") or found.go_version,
            urls=urls,
        )
    if message.startswith("loaded server configuration"):
        return replace(found, config_file=entry.text("path"))
    if message.startswith("Loading server configuration from "):
        return replace(found, config_file=message.partition('"')[2].partition('"')[0] or None)
    if message == "starting with client TLS" or message.startswith("ClientTLS: "):
        return replace(found, client=_tls(entry.text("tls-info") or message))
    if message == "starting with peer TLS" or message.startswith("peerTLS: "):
        return replace(found, peer=_tls(entry.text("tls-info") or message))
    return found


def _tls(text: str) -> LoggedTLS:
    values = dict(_INFO.findall(text.partition(": ")[2] if "TLS: " in text else text))
    return LoggedTLS(
        cert=values.get("cert", ""),
        key=values.get("key", ""),
        client_cert=values.get("client-cert", ""),
        client_key=values.get("client-key", ""),
        trusted_ca=values.get("trusted-ca", ""),
        client_cert_auth=values.get("client-cert-auth", "") == "true",
        crl_file=values.get("crl-file", "").strip(),
    )


DIAL_WORDS: Final = (
    "prober detected unhealthy status",
    "failed to reach the peer",
    "could not connect: ",
    "addrConn.createTransport failed",
)
"""Texts, one of which every line about a failed dial contains."""

_NOT_TLS = (Cause.OTHER, Cause.STOPPING, Cause.SILENT, Cause.GONE)
"""Causes unrelated to certificates: the other side may be down."""

_DIALLED = re.compile(r"health check for peer (\w+) could not connect: (.*)")
_DIALLED_URL = re.compile(r"failed to reach the peerURL\((\S+)\) of member \w+ \((.*)\)$")
_GATEWAY = re.compile(r'addrConn\.createTransport failed to connect to \{(?:Addr: ")?([^",\s}]+).*?Err: (.*)')


_DIALS = (
    ("health check for peer ", _DIALLED, False),
    ("failed to reach the peerURL(", _DIALLED_URL, False),
    ("addrConn.createTransport failed to connect to {", _GATEWAY, True),
)
"""The words that each pattern begins with, and whether it is about the JSON gateway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DialFailure:
    """One connection that etcd, as a client, could not establish.

    Attributes:
        line: the line in the log, counted from 1.
        target: a URL, an address or the ID of a member.
        gateway: whether the JSON gateway dialed its own server; otherwise a member dialed another.
    """

    line: int
    time: datetime | None
    target: str
    gateway: bool
    error: str
    cause: Cause

    @property
    def meaning(self) -> str:
        """What happened, in one sentence, from the point of view of the dialing side."""
        refused = "remote error: " in self.error
        if self.gateway and refused:
            return "etcd refuses the certificate of its JSON gateway, which connects to its own server"
        if self.gateway:
            return f"the JSON gateway, which connects to its own server, cannot connect: {self.cause}"
        if refused:
            return f"the member {self.target} refuses this member's certificate"
        return f"the member {self.target} serves a certificate that this member does not accept: {self.cause}"


def dial_failures(entries: Iterable[LogEntry]) -> Iterator[DialFailure]:
    """Yield etcd's outgoing connections that failed because of TLS."""
    for entry in entries:
        found = _dialled(entry)
        if found is None:
            continue
        target, error, gateway = found
        cause = cause_of(error, certificate_seen=False)
        if cause not in _NOT_TLS:
            yield DialFailure(
                line=entry.line, time=entry.time, target=target, gateway=gateway, error=error, cause=cause
            )


def _dialled(entry: LogEntry) -> tuple[str, str, bool] | None:
    if entry.message == "prober detected unhealthy status":
        return entry.text("remote-peer-id"), entry.text("error"), False
    if entry.message == "failed to reach the peer URL":
        return entry.text("address"), entry.text("error"), False
    for words, pattern, gateway in _DIALS:
        if match := first_match(words, pattern, entry.message):
            return match[1], match[2], gateway
    return None


def first_match(words: str, pattern: re.Pattern[str], message: str) -> re.Match[str] | None:
    """Return the match at the first place of the words that the pattern begins with.

    Searching at each of many places takes time that grows with the square of the length.
    """
    begin = message.find(words)
    return pattern.match(message, begin) if begin >= 0 else None


Endpoint = Literal["client", "peer"]

REJECTION_WORDS: Final = ("rejected connection", "failed to complete security handshake", "ServerHandshake(")
"""Texts, one of which every line about a rejected connection contains."""

_STRING = r'"((?:[^"\\]|\\.)*)"'
_REJECTED_TEXT = re.compile(
    rf"rejected connection from {_STRING} \(error {_STRING}, ServerName {_STRING}"
    r"(?:, IPAddresses (\[.*?\]), DNSNames (\[.*\]))?\)"
)
_REJECTED_GRPC = re.compile(
    rf"Server\.Serve failed to complete security handshake from {_STRING}: (?P<error>.*)"
    r'|ServerHandshake\(\\?"(?P<address>[^"\\]+)\\?"\) failed: (?P<why>.*?)"?$'
)
"""gRPC's messages. 3.5.33 logs the second form, and only at debug level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """One connection that etcd rejected.

    Attributes:
        line: the line in the log, counted from 1.
        time: the time of the entry, aware UTC; ``None`` if the log does not contain date, time and zone.
        remote_address: host and port of the client as seen by etcd, an IPv6 address in brackets.
        server_name: the server name that the client sent (SNI).
        endpoint: ``client`` covers metrics as well; ``None`` in versions that do not log it.
        error: the error as logged.
        cause: the cause derived from the error.
        certificate_names: the names in the client's certificate; ``None`` if the handshake failed earlier.
    """

    line: int
    time: datetime | None
    remote_address: str
    error: str
    cause: Cause
    server_name: str = ""
    endpoint: Endpoint | None = None
    certificate_names: tuple[str, ...] | None = None

    @property
    def remote_host(self) -> str:
        """The remote address without the port."""
        return self.remote_address.rpartition(":")[0].strip("[]")

    @property
    def remote_port(self) -> int:
        """The port of the remote address; 0 if it has none."""
        port = self.remote_address.rpartition(":")[2]
        return int(port) if re.fullmatch("[0-9]{1,5}", port) else 0


def rejections(entries: Iterable[LogEntry]) -> Iterator[Rejection]:
    """Yield the rejected connections in the order of the log."""
    for entry in entries:
        found = _rejection(entry)
        if found is not None:
            yield found


def _rejection(entry: LogEntry) -> Rejection | None:
    if entry.message.startswith("rejected connection") and entry.text("remote-addr"):
        return _structured(entry)
    if match := first_match("rejected connection from ", _REJECTED_TEXT, entry.message):
        names = None if match[4] is None else tuple(_strings(match[4]) + _strings(match[5]))
        error = _unescaped(match[2])
        return Rejection(
            line=entry.line,
            time=entry.time,
            remote_address=_unescaped(match[1]),
            error=error,
            cause=cause_of(error, certificate_seen=names is not None),
            server_name=_unescaped(match[3]),
            certificate_names=names,
        )
    if match := _REJECTED_GRPC.search(entry.message):
        error = match["error"] or match["why"]
        cause = cause_of(error, certificate_seen=False)
        inside = cause is Cause.PLAINTEXT  # plaintext inside the TLS connection of the peer port
        return Rejection(
            line=entry.line,
            time=entry.time,
            remote_address=match["address"] or match[1],
            error=error,
            cause=Cause.HTTP2_ON_PEER_PORT if inside else cause,
            endpoint="peer" if inside else None,
        )
    return None


def _structured(entry: LogEntry) -> Rejection:
    seen = "ip-addresses" in entry.fields
    names = [*entry.texts("ip-addresses"), *entry.texts("dns-names")] if seen else None
    endpoint: Endpoint | None = None
    if entry.message.endswith("on client endpoint"):
        endpoint = "client"
    elif entry.message.endswith("on peer endpoint"):
        endpoint = "peer"
    return Rejection(
        line=entry.line,
        time=entry.time,
        remote_address=entry.text("remote-addr"),
        error=entry.text("error"),
        cause=cause_of(entry.text("error"), certificate_seen=seen),
        server_name=entry.text("server-name"),
        endpoint=endpoint,
        certificate_names=None if names is None else tuple(names),
    )


def _unescaped(text: str) -> str:
    try:
        return str(read_json(f'"{text}"'))
    except UnreadableJSONError:
        return text


def _strings(text: str) -> list[str]:
    return [_unescaped(found) for found in re.findall(_STRING, text)]


IN_A_SECOND: Final = 100
"""etcd's log sampling writes this many equal lines per second, and then one in a hundred."""


def is_thinned_out(rejections: Iterable[Rejection]) -> bool:
    """Return whether so many connections were rejected within a second that etcd sampled the lines."""
    times: dict[str | None, list[datetime]] = defaultdict(list)
    for rejection in rejections:
        if rejection.time is not None:
            times[rejection.endpoint].append(rejection.time)
    return any(
        last - first <= timedelta(seconds=1)
        for alike in map(sorted, times.values())
        for first, last in zip(alike, alike[IN_A_SECOND - 1 :], strict=False)
    )
