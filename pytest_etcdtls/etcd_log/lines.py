"""Entries of etcd's log, extracted from journal, container and syslog formats."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import field
from datetime import UTC, datetime, tzinfo
from typing import Final

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.errors import UnreadableJSONError
from pytest_etcdtls.untrusted import JSONValue, escaped, printable, read_json

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
_BINARY_FIELD = re.compile(rb"(?<=\n)([A-Z_][A-Z0-9_]*)\n(.{8})", re.DOTALL)
_CRI = re.compile(r"^\S+ (?:stdout|stderr) [FP] ")


@dataclass(frozen=True, slots=True)
class Wrapped:
    """One line written by etcd, without the format that wraps it.

    Attributes:
        line: the line in the file, counted from 1.
        text: the text as etcd wrote it.
        time: the time in the wrapping format, aware UTC; ``None`` without date, time and zone.
    """

    line: int
    text: str
    time: datetime | None = None


_UNREADABLE = ('"MESSAGE":[', '"MESSAGE" : [', "__REALTIME_TIMESTAMP=")
"""Marks of lines whose text is encoded, or that hold the time of the lines after them."""


def unwrap(text: str, about: Collection[str] = ()) -> Iterator[Wrapped]:
    """Yield etcd's lines in the order of the file.

    Args:
        text: the content of the file.
        about: texts, one of which a line must contain; other lines are skipped. Empty for all lines.
    """
    realtime: datetime | None = None
    words = (*about, *_UNREADABLE) if about else ()
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if words and not any(word in line for word in words):
            continue
        if len(line) > MAXIMUM_LINE:
            continue
        if line.startswith("{") and (found := _object(line)) is not None:
            yield from _of_object(found, line, number)
        elif line.startswith("__REALTIME_TIMESTAMP="):
            realtime = _microseconds(line.partition("=")[2])
        elif line.startswith("MESSAGE="):
            yield Wrapped(number, line.partition("=")[2], realtime)
        elif not re.match(r"_*[A-Z][A-Z0-9_]*=", line):  # other fields of a journal export
            yield _of_text(line, number)


def _object(line: str) -> dict[str, JSONValue] | None:
    """Return a JSON object; ``None`` for other text, and for one deeper or longer than etcd writes."""
    try:
        found = read_json(line, size=MAXIMUM_LINE, raw=True)
    except UnreadableJSONError:
        return None
    return found if isinstance(found, dict) else None


def _of_object(found: dict[str, JSONValue], line: str, number: int) -> Iterator[Wrapped]:
    if "msg" in found:
        yield Wrapped(number, line)
    elif "log" in found:  # Docker's json-file
        yield Wrapped(number, str(found["log"]).rstrip("\n"), parse_time(found.get("time")))
    elif "MESSAGE" in found:  # journalctl -o json, which encodes binary data as a list of numbers
        yield Wrapped(
            number, _message(found["MESSAGE"]), _microseconds(str(found.get("__REALTIME_TIMESTAMP", "")))
        )


def _message(value: JSONValue) -> str:
    if not isinstance(value, list):
        return str(value)
    octets = [one for one in value if isinstance(one, int) and 0 <= one < 256]
    return bytes(octets).decode(errors="replace") if len(octets) == len(value) else str(value)


def _of_text(line: str, number: int) -> Wrapped:
    time = _TIME.search(line[:80])
    outer = parse_time(time[1]) if time else None
    if begin := _BEGIN.search(line):
        return Wrapped(number, line[begin.start() :], outer)
    if match := _CRI.match(line):
        return Wrapped(number, line[match.end() :], outer)
    for tag in _SYSLOG_TAG.finditer(line[:_SYSLOG_PREFIX]):
        if "etcd" in tag[1] and tag.start() <= 120:
            return Wrapped(number, line[tag.end() :], outer)
    return Wrapped(number, line, outer)


def flatten_export(data: bytes) -> bytes:
    """Return a journal export (``journalctl -o export``) with its binary fields as text.

    A field that contains a line end is serialised as its name, a line end, its length in eight bytes, and its
    data (systemd's *Journal Export Formats*). Other data is returned unchanged.
    """
    if b"__REALTIME_TIMESTAMP=" not in data:
        return data
    pieces: list[bytes] = []
    position = 0
    while match := _BINARY_FIELD.search(data, position):
        length = int.from_bytes(match[2], "little")
        if length > len(data) - match.end():
            break
        value = data[match.end() : match.end() + length]
        pieces += [data[position : match.start()], match[1], b"=", value.strip().replace(b"\n", b" ")]
        position = match.end() + length
    return b"".join([*pieces, data[position:]])


def _microseconds(text: str) -> datetime | None:
    return _unix_time(int(text) / 1_000_000) if text.isascii() and text.isdigit() and len(text) < 20 else None


_YEARS = range(1990, 2201)
"""The years of a log. A time outside of them is none, and cannot be compared across time zones."""


def _unix_time(seconds: float) -> datetime | None:
    try:
        found = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):  # not a number, too large, too large for this system
        return None
    return found if found.year in _YEARS else None


def parse_time(value: object) -> datetime | None:
    """Return a time with a zone, or a Unix time in seconds, as aware UTC; ``None`` for other values."""
    if isinstance(value, int | float):
        return _unix_time(value)
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value.replace(",", "."))
    except ValueError:
        return None
    return found.astimezone(UTC) if found.tzinfo is not None and found.year in _YEARS else None


_TEXT = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) ([A-Z]) \| ([\w/.-]+): (.*)")
_CONSOLE = re.compile(r"(\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d{4}))\t(\w+)\t(.*)")
_GRPC = re.compile(
    r"(?:(WARNING|ERROR|INFO): )?(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) (?:(WARNING|ERROR|INFO): "
    ")?(.*)"
)
_LONGEST: Final = 16384
"""Characters of a message or a field; the longest are startup lines with the whole configuration."""
_MOST: Final = 100
_LEVELS = {"D": "debug", "I": "info", "N": "info", "W": "warn", "E": "error", "C": "fatal"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One log entry. Its texts are printable and bounded.

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
    fields: Mapping[str, JSONValue] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """Return a field as text; empty if there is none."""
        value = self.fields.get(name, "")
        return printable(value if isinstance(value, str) else json.dumps(value), _LONGEST)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a field that is a list as texts, at most 100; empty for another value."""
        value = self.fields.get(name)
        return tuple(printable(str(item)) for item in value[:_MOST]) if isinstance(value, list) else ()


def read_entries(text: str, *, zone: tzinfo = UTC, about: Collection[str] = ()) -> Iterator[LogEntry]:
    """Yield the entries of a log. A line of unknown form is an entry too.

    Args:
        text: the text of the log.
        zone: the time zone of times without one: 3.4's text format and gRPC's lines.
        about: as in :func:`~pytest_etcdtls.etcd_log.lines.unwrap`.
    """
    for wrapped in unwrap(text, about):
        payload = wrapped.text.strip()
        if payload:
            entry = _parse(payload, wrapped.line, wrapped.time, zone)
            yield entry


def _parse(payload: str, line: int, outer: datetime | None, zone: tzinfo) -> LogEntry:
    if payload.startswith("{") and (fields := _json(payload)) is not None and "msg" in fields:
        time = parse_time(fields.pop("ts", None)) or outer
        level, message = printable(str(fields.pop("level", ""))), printable(str(fields.pop("msg")), _LONGEST)
        return LogEntry(line=line, time=time, level=level, message=message, fields=fields)
    payload = "\t".join(map(escaped, payload[:_LONGEST].split("\t")))
    if match := _TEXT.match(payload):
        time = _naive(match[1], "%Y-%m-%d %H:%M:%S.%f", zone)
        return LogEntry(line=line, time=time, level=_LEVELS.get(match[2], ""), message=match[4])
    if match := _CONSOLE.match(payload):
        return _console(match, line)
    if match := _GRPC.match(payload):
        level = (match[1] or match[3] or "").lower().replace("warning", "warn")
        time = _naive(match[2], "%Y/%m/%d %H:%M:%S", zone)
        return LogEntry(line=line, time=time, level=level, message=match[4])
    return LogEntry(line=line, time=outer, level="", message=payload)


def _json(text: str) -> dict[str, JSONValue] | None:
    try:
        found = read_json(text, size=MAXIMUM_LINE)
    except UnreadableJSONError:
        return None
    return found if isinstance(found, dict) else None


def _console(match: re.Match[str], line: int) -> LogEntry:
    parts = match[3].split("\t")
    fields = _json(parts[-1]) if parts[-1].startswith("{") else None
    message = parts[-2] if fields is not None and len(parts) > 1 else parts[-1]
    return LogEntry(
        line=line, time=parse_time(match[1]), level=match[2].lower(), message=message, fields=fields or {}
    )


def _naive(text: str, form: str, zone: tzinfo) -> datetime | None:
    try:
        found = datetime.strptime(text, form).replace(tzinfo=zone)
    except ValueError:
        return None
    return found.astimezone(UTC) if found.year in _YEARS else None
