"""Lines of etcd's log as entries: time, level, message, fields.

Reads 3.4's text, the JSON of zap, zap's console form and gRPC's own lines, bare or as a container engine,
Kubernetes or the journal has wrapped them. Does not know what a message means.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Any

from pytest_etcdtls.etcd_log.wrapping import parse_time, unwrap

_TEXT = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) ([A-Z]) \| ([\w/.-]+): (.*)")
_CONSOLE = re.compile(r"(\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d{4}))\t(\w+)\t(.*)")
_GRPC = re.compile(
    r"(?:(WARNING|ERROR|INFO): )?(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) (?:(WARNING|ERROR|INFO): "
    ")?(.*)"
)
_LEVELS = {"D": "debug", "I": "info", "N": "info", "W": "warn", "E": "error", "C": "fatal"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One entry.

    Attributes:
        line: in the file, counted from 1.
        time: aware UTC; ``None`` where the line does not tell it whole.
        level: ``debug``, ``info``, ``warn``, ``error``, ``fatal``; empty if unknown.
        message: without its fields.
        fields: of a structured entry, by name.
    """

    line: int
    time: datetime | None
    level: str
    message: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """Return a field as text, empty if there is none."""
        value = self.fields.get(name, "")
        return value if isinstance(value, str) else json.dumps(value)


def read_entries(text: str, *, zone: tzinfo = UTC, about: Collection[str] = ()) -> Iterator[LogEntry]:
    """Yield the entries of a log; lines of no known form are entries of their own.

    Args:
        text: of the log.
        zone: of the times that do not tell theirs: 3.4's text, gRPC's lines.
        about: as in :func:`~pytest_etcdtls.etcd_log.wrapping.unwrap`.
    """
    for wrapped in unwrap(text, about):
        payload = wrapped.text.strip()
        if payload:
            entry = _parse(payload, wrapped.line, wrapped.time, zone)
            yield entry


def _parse(payload: str, line: int, outer: datetime | None, zone: tzinfo) -> LogEntry:
    if payload.startswith("{") and (fields := _json(payload)) is not None and "msg" in fields:
        time = parse_time(fields.pop("ts", None)) or outer
        level, message = str(fields.pop("level", "")), str(fields.pop("msg"))
        return LogEntry(line=line, time=time, level=level, message=message, fields=fields)
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


def _json(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
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
        return datetime.strptime(text, form).replace(tzinfo=zone).astimezone(UTC)
    except ValueError:
        return None
