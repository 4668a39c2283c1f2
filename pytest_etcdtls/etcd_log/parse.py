"""etcd's log: its entries in journal, container and syslog formats, and the connections in them.

A file is read in three steps:

1. :func:`read_entries` removes what is around a line that etcd has written: ``journalctl`` in its text
   formats, Docker's ``json-file``, the kubelet's CRI format, syslog. Some of these have a time.
2. It reads the line itself in one of four formats: zap's JSON and console formats (the default from 3.5 on),
   capnslog's text (of 3.4), and what gRPC writes past etcd's logger.
3. :func:`rejections` picks the entries about rejected connections.

etcd logs a rejected connection when the handshake or its own check after it has failed
(client/pkg/transport/listener_tls.go, acceptLoop; server/embed/config_logging.go, logTLSHandshakeFailureFunc;
up to 3.4 logTLSHandshakeFailure). The line has the client's address and server name, Go's error, and the
names in the certificate if Go has verified its chain, but never its subject or serial number. A port that
etcd leaves to gRPC has gRPC's line instead (internal/transport/http2_server.go, NewServerTransport).

The log belongs to somebody else, and a client decides a part of it. So what is longer than etcd writes is cut
or skipped, and the text of a rejection is made printable.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import force_setattr

from pytest_etcdtls.errors import UnreadableFileError, UnreadableJSONError, UsageError
from pytest_etcdtls.role import Side
from pytest_etcdtls.untrusted.json_text import JSONValue, read_json
from pytest_etcdtls.untrusted.printable import LINE_LIMIT, LONG_LIMIT, printable
from pytest_etcdtls.untrusted.regular_files import open_regular


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
        # Go, crypto/tls/handshake_server.go, processCertsFromClient, which verifies by crypto/x509/verify.go.
        (r"didn't provide a certificate", Cause.NO_CERTIFICATE),
        (r"certificate signed by unknown authority", Cause.UNKNOWN_CA),
        (r"x509: unhandled critical extension", Cause.EXTENSION),
        (r"has expired or is not yet valid.* is before ", Cause.NOT_YET_VALID),
        (r"has expired or is not yet valid", Cause.EXPIRED),
        (r"incompatible key usage", Cause.USAGE),
        # etcd, client/pkg/transport: VerifyPeerCertificate in listener.go, baseConfig; then, in
        # listener_tls.go, checkCertSAN (Go's HostnameError if there are addresses only) and checkCRL.
        (r"client certificate authentication failed", Cause.NAME_NOT_ALLOWED),
        (
            r"does not match any of DNSNames|certificate is (?:not )?valid for|contain any IP SANs",
            Cause.ADDRESS,
        ),
        (r"certificate serial \w+ revoked", Cause.REVOKED),
        (r"malformed crl|asn1: ", Cause.CRL_UNREADABLE),
        # Go, crypto/tls: conn.go, readRecordOrCCS; handshake_server.go, readClientHello (the last text:
        # before Go 1.12), pickCipherSuite, and negotiateALPN; tls.go, X509KeyPair.
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
        # An alert of the client. In TLS 1.3 it may come in a form that the server cannot decrypt.
        (r"remote error: tls: |local error: tls: bad record MAC", Cause.REFUSED_BY_CLIENT),
        # Go, net and internal/poll: etcd closed the listener, the handshake's deadline, the client's end.
        (r"use of closed network connection", Cause.STOPPING),
        (r"i/o timeout|context deadline exceeded", Cause.SILENT),
        (r"connection reset by peer|broken pipe|EOF$", Cause.GONE),
    )
)
"""What an error contains. The first match counts: the text of NOT_YET_VALID contains that of EXPIRED."""

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
        # etcd reads its certificate and key before it requests the client's (transport.TLSInfo.baseConfig,
        # GetCertificate), and the CRL after the handshake, if there was a certificate (newTLSListener).
        return Cause.CRL_UNREADABLE if certificate_seen else Cause.SERVED_PAIR
    return next((cause for pattern, cause in _PATTERNS if pattern.search(error)), Cause.OTHER)


def first_match(words: str, pattern: re.Pattern[str], message: str) -> re.Match[str] | None:
    """Return the match at the first occurrence of the words with which the pattern begins."""
    # A search that fails at each of many occurrences takes time that grows with the square of the length.
    begin = message.find(words)
    return pattern.match(message, begin) if begin >= 0 else None


REJECTION_WORDS: Final = ("rejected connection", "failed to complete security handshake", "ServerHandshake(")
"""Texts, one of which every line about a rejected connection contains."""

_STRING = r'"((?:[^"\\]|\\.)*+)"'
_REJECTED_TEXT = re.compile(
    rf"rejected connection from {_STRING} \(error {_STRING}, ServerName {_STRING}(, IPAddresses )?"
)
_REJECTED_GRPC = re.compile(
    rf"Server\.Serve failed to complete security handshake from {_STRING}: (?P<error>.*)"
    r'|ServerHandshake\(\\?"(?P<address>[^"\\]+)\\?"\) failed: (?P<why>.*?)"?$'
)
"""gRPC's messages. 3.5.33 logs the second form, and only at debug level."""


class Rejection(Struct, frozen=True, kw_only=True):
    """One connection that etcd rejected. Its texts are printable and bounded.

    Attributes:
        line: the line in the log, counted from 1.
        time: the time of the entry, aware UTC; ``None`` if the log does not contain date, time and zone.
        remote_address: host and port of the client as seen by etcd, an IPv6 address in brackets.
        endpoint: ``client`` covers metrics as well; ``None`` in versions that do not log it.
        error: the error as logged.
        cause: the cause derived from the error.
    """

    line: int
    time: datetime | None
    remote_address: str
    error: str
    cause: Cause
    endpoint: Side | None = None

    def __post_init__(self) -> None:
        force_setattr(self, "remote_address", printable(self.remote_address))
        force_setattr(self, "error", printable(self.error, LINE_LIMIT))

    @property
    def remote_host(self) -> str:
        """The remote address without the port."""
        if self.remote_address == "@":
            return "a Unix domain socket"
        return self.remote_address.rpartition(":")[0].strip("[]")


def rejections(entries: Iterable[LogEntry]) -> Iterator[Rejection]:
    """Yield the rejected connections in the order of the log."""
    return filter(None, map(_rejection, entries))


def _rejection(entry: LogEntry) -> Rejection | None:
    sides: tuple[Side, ...] = ("client", "peer")
    endpoint, seen, by_grpc = None, False, False
    if entry.message.startswith("rejected connection") and (address := entry.text("remote-addr")):
        error, seen = entry.text("error"), "ip-addresses" in entry.fields
        endpoint = next((side for side in sides if entry.message.endswith(f"on {side} endpoint")), None)
    elif match := first_match("rejected connection from ", _REJECTED_TEXT, entry.message):
        address, error, seen = _unescaped(match[1]), _unescaped(match[2]), match[4] is not None
    elif match := _REJECTED_GRPC.search(entry.message):
        address, error, by_grpc = match["address"] or match[1], match["error"] or match["why"], True
    else:
        return None
    cause = cause_of(error, certificate_seen=seen)
    if by_grpc and cause is Cause.PLAINTEXT:
        # Up to 3.5, the peer port hands HTTP/2 to a gRPC server that expects TLS inside the TLS connection.
        cause, endpoint = Cause.HTTP2_ON_PEER_PORT, "peer"
    return Rejection(
        line=entry.line,
        time=entry.time,
        remote_address=address,
        error=error,
        cause=cause,
        endpoint=endpoint,
    )


def _unescaped(text: str) -> str:
    try:
        return str(read_json(f'"{text}"'))
    except UnreadableJSONError:
        return text


MAXIMUM_LINE: Final = 256 * 1024
"""The longest line that is read, in characters. etcd's longest, of a start, has a few thousand."""

_BEGIN = re.compile(
    r'\{"level":|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ [A-Z] \| '
    r"|\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d{4})\t[a-zA-Z]+\t"
)
"""The beginning of a line written by etcd, after any prefix."""

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d))")
_SYSLOG_TAG = re.compile(r" (\S{1,200}): ")
_SYSLOG_PREFIX = 320
# The kubelet's CRI log format: time, stream, F (full line) or P (part of a line), text.
_CRI = re.compile(r"^\S+ (?:stdout|stderr) [FP] ")


def _object(text: str, *, raw: bool = False) -> dict[str, JSONValue] | None:
    """Return a JSON object; ``None`` for other text, and for one deeper or longer than etcd writes."""
    try:
        value = read_json(text, size=MAXIMUM_LINE, raw=raw)
    except UnreadableJSONError:
        return None
    return value if isinstance(value, dict) else None


_YEARS = range(1990, 2201)
"""The years of a log. Python cannot convert the first and the last year to every time zone."""


def _unix_time(seconds: float) -> datetime | None:
    try:
        time = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):  # not a number, too large, too large for this system
        return None
    return time if time.year in _YEARS else None


def parse_time(value: object) -> datetime | None:
    """Return a time with a zone, or a Unix time in seconds, as aware UTC; ``None`` for other values."""
    if isinstance(value, int | float):
        return _unix_time(value)
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value.replace(",", "."))
    except ValueError:
        return None
    return time.astimezone(UTC) if time.tzinfo is not None and time.year in _YEARS else None


_TEXT = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) ([A-Z]) \| ([\w/.-]+): (.*)")
_CONSOLE = re.compile(r"(\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d{4}))\t(\w+)\t(.*)")
_GRPC = re.compile(
    r"(?:(WARNING|ERROR|INFO): )?(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) (?:(WARNING|ERROR|INFO): "
    ")?(.*)"
)
_LEVELS = {"D": "debug", "I": "info", "N": "info", "W": "warn", "E": "error", "C": "fatal"}


class LogEntry(Struct, frozen=True, kw_only=True):
    """One log entry.

    Attributes:
        line: the line in the file, counted from 1.
        time: the time of the entry, aware UTC; ``None`` if the line does not contain date, time and zone.
        level: ``debug``, ``info``, ``warn``, ``error``, ``fatal``; empty if unknown.
        message: the message without its fields.
        fields: the fields of a structured entry, by name.
    """

    line: int
    time: datetime | None
    level: str
    message: str
    fields: Mapping[str, JSONValue] = {}

    def text(self, name: str) -> str:
        """Return a field as text; empty if there is none."""
        value = self.fields.get(name, "")
        return value if isinstance(value, str) else json.dumps(value)


def read_entries(text: str, *, about: Collection[str] = ()) -> Iterator[LogEntry]:
    """Yield the entries of a log. A line of unknown form is an entry too.

    Times without a zone, in 3.4's text format and gRPC's lines, are read as UTC.

    Args:
        text: the text of the log.
        about: texts, one of which a line must contain; other lines are skipped. Empty for all lines.
    """
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if len(line) <= MAXIMUM_LINE and (not about or any(word in line for word in about)):
            written, time = _unwrapped(line)
            if payload := written.strip():
                yield _parse(payload, number, time)


def _unwrapped(line: str) -> tuple[str, datetime | None]:
    """Return what etcd has written of a line, and the time of the format around it, aware UTC."""
    if line.startswith("{") and (fields := _object(line, raw=True)) is not None:
        if "msg" in fields:
            return line, None
        # Docker's logging driver json-file.
        return str(fields.get("log", "")), parse_time(fields.get("time"))
    stamp = _TIME.search(line[:80])
    time = parse_time(stamp[1]) if stamp else None
    if begin := _BEGIN.search(line):
        return line[begin.start() :], time
    if match := _CRI.match(line):
        return line[match.end() :], time
    for tag in _SYSLOG_TAG.finditer(line[:_SYSLOG_PREFIX]):
        if "etcd" in tag[1] and tag.start() <= 120:
            return line[tag.end() :], time
    return line, time


def _parse(payload: str, line: int, outer: datetime | None) -> LogEntry:
    if payload.startswith("{") and (fields := _object(payload)) is not None and "msg" in fields:
        time = parse_time(fields.pop("ts", None)) or outer
        level, message = str(fields.pop("level", "")), str(fields.pop("msg"))[:LONG_LIMIT]
        return LogEntry(line=line, time=time, level=level, message=message, fields=fields)
    payload = payload[:LONG_LIMIT]
    if match := _TEXT.match(payload):
        time = _naive(match[1], "%Y-%m-%d %H:%M:%S.%f")
        return LogEntry(line=line, time=time, level=_LEVELS.get(match[2], ""), message=match[4])
    if match := _CONSOLE.match(payload):
        return _console(match, line)
    if match := _GRPC.match(payload):
        level = (match[1] or match[3] or "").lower().replace("warning", "warn")
        time = _naive(match[2], "%Y/%m/%d %H:%M:%S")
        return LogEntry(line=line, time=time, level=level, message=match[4])
    return LogEntry(line=line, time=outer, level="", message=payload)


def _console(match: re.Match[str], line: int) -> LogEntry:
    parts = match[3].split("\t")
    fields = _object(parts[-1]) if parts[-1].startswith("{") else None
    message = parts[-2] if fields is not None and len(parts) > 1 else parts[-1]
    return LogEntry(
        line=line, time=parse_time(match[1]), level=match[2].lower(), message=message, fields=fields or {}
    )


def _naive(text: str, form: str) -> datetime | None:
    try:
        time = datetime.strptime(text, form).replace(tzinfo=UTC)
    except ValueError:
        return None
    return time if time.year in _YEARS else None


MAXIMUM_SIZE: Final = 32 * 1024 * 1024
"""How many bytes of a log are read, from its end."""

_OF_ETCD: Final = (
    '"caller":"',
    '\\"caller\\":\\"',
    "etcd Version: ",
    " | etcdserver: ",
    " | raft: ",
    " | embed: ",
    "\tetcdserver/",
    "\tembed/",
)
"""Texts that identify etcd's log, plain or encoded in JSON."""

_MIB: Final = 1024 * 1024
_TAIL: Final = 200
"""How many of the last lines are searched for a time."""


class EtcdLog(Struct, frozen=True, kw_only=True):
    """The TLS-related content of one member's log.

    Attributes:
        rejections: the connections that the member rejected.
        latest: the time of the last entry that has one, aware UTC.
    """

    rejections: tuple[Rejection, ...]
    latest: datetime | None = None


def parse_log(text: str) -> EtcdLog:
    """Parse the text of a log."""
    rejected = tuple(rejections(read_entries(text, about=REJECTION_WORDS)))
    return EtcdLog(rejections=rejected, latest=_latest(text))


def read_log(path: Path, *, option: str = "--etcd-log") -> EtcdLog:
    """Read and parse a log. Of a very large log, only the end is read.

    Raises:
        UsageError: if it cannot be read, is empty or is not etcd's log.
    """
    try:
        data, _ = read_octets(path)
    except UnreadableFileError as error:
        raise UsageError(f"{option} {path} {error}") from error
    except OSError as error:
        raise UsageError(f"{option} {path} cannot be read: {error.strerror}") from error
    is_journal = re.search(
        rb'^(?:__REALTIME_TIMESTAMP=|\{.*"__REALTIME_TIMESTAMP")', data[:_MIB], re.MULTILINE
    )
    if is_journal or b"\0" in data[:4096]:
        problem = "is a journal in the export format or in JSON" if is_journal else "is binary"
        raise UsageError(f"{option} {path} {problem}: write the journal with journalctl -u etcd -o short-iso")
    text = text_of(data)
    log = parse_log(text)
    if not log.rejections and not any(mark in text for mark in _OF_ETCD):
        problem = "is no log of etcd" if text.strip() else "is empty, and that is no log of etcd"
        raise UsageError(
            f"{option} {path} {problem}: pass what kubectl logs, docker logs or journalctl -u etcd print"
        )
    return log


def read_octets(path: Path) -> tuple[bytes, bool]:
    """Return the content of a file, and whether it is only the end of a very large one.

    Raises:
        UnreadableFileError: if it cannot be opened, or is not a regular file.
        OSError: if it cannot be read.
    """
    with open_regular(path) as file:
        size = file.seek(0, 2)
        begin = max(0, size - MAXIMUM_SIZE)
        file.seek(begin)
        return file.read(MAXIMUM_SIZE), begin > 0


def text_of(data: bytes) -> str:
    """Decode the bytes of a log."""
    return data.decode("utf-8-sig", errors="replace")


def _latest(text: str) -> datetime | None:
    tail = text.rsplit("\n", _TAIL)[1:] if text.count("\n") > _TAIL else [text]
    times = [entry.time for entry in read_entries("\n".join(tail))]
    return next((time for time in reversed(times) if time is not None), None)


class LogSource(Struct, frozen=True):
    """A member's log. Reading raises OSError or UnreadableFileError if it is no longer readable.

    Attributes:
        name: the path of the file, or a description.
        read: returns the text as it is now, and whether it is only the end of the log.
    """

    name: str
    read: Callable[[], tuple[str, bool]]


def own_log(name: str, text: Callable[[], str]) -> LogSource:
    """Return the log of an owned etcd, by a function that returns it as it is now."""
    return LogSource(name, lambda: (text(), False))


def log_file(path: Path, *, option: str = "--etcd-log") -> LogSource:
    """Return the log in a file that another process writes.

    The file is opened for each reading, so that a rotated log is followed.

    Raises:
        UsageError: if the file does not contain etcd's log.
    """
    read_log(path, option=option)

    def read() -> tuple[str, bool]:
        data, truncated = read_octets(path)
        return text_of(data), truncated

    return LogSource(str(path), read)
