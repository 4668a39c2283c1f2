"""Reads a log from a file. Opens that file and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Final

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd_log import dial_failures as dialling
from pytest_etcdtls.etcd_log import rejections as rejecting
from pytest_etcdtls.etcd_log import startup as starting
from pytest_etcdtls.etcd_log.dial_failures import DialFailure, dial_failures
from pytest_etcdtls.etcd_log.entries import read_entries
from pytest_etcdtls.etcd_log.rejections import Rejection, rejections
from pytest_etcdtls.etcd_log.startup import Startup, last_startup
from pytest_etcdtls.etcd_log.wrapping import flatten_export

MAXIMUM_SIZE: Final = 32 * 1024 * 1024
"""Octets of a log that are read, its last ones."""

_OF_ETCD: Final = (
    '"caller":"',
    '\\"caller\\":\\"',
    " | etcdserver: ",
    " | raft: ",
    " | embed: ",
    "\tetcdserver/",
    "\tembed/",
)
"""What hardly any log but etcd's has in it, bare or inside JSON."""

_ABOUT: Final = (*rejecting.WORDS, *dialling.WORDS, *starting.WORDS)
_MIB: Final = 1024 * 1024
_TAIL: Final = 200
"""Lines at the end of which one is hoped to tell its time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdLog:
    """What matters here of one member's log.

    Attributes:
        source: the file's path, or words.
        rejections: connections that it rejected.
        dial_failures: connections that it could not make.
        startup: what it says about its last start.
        latest: time of its last entry, as far as it tells that; aware UTC.
        truncated: only the end of it was read.
    """

    source: str
    rejections: tuple[Rejection, ...]
    dial_failures: tuple[DialFailure, ...]
    startup: Startup
    latest: datetime | None = None
    truncated: bool = False


def parse_log(text: str, source: str, *, zone: tzinfo = UTC, truncated: bool = False) -> EtcdLog:
    """Return what matters of a log's text; ``zone`` is that of times that do not tell theirs."""
    entries = list(read_entries(text, zone=zone, about=_ABOUT))
    return EtcdLog(
        source=source,
        rejections=tuple(rejections(entries)),
        dial_failures=tuple(dial_failures(entries)),
        startup=last_startup(entries),
        latest=_latest(text, zone),
        truncated=truncated,
    )


def read_log(path: Path, *, option: str = "--etcd-log", zone: tzinfo = UTC) -> EtcdLog:
    """Return what matters of a log; of a very large one only the end is read.

    Raises:
        UsageError: if it cannot be read, is empty or no log of etcd.
    """
    try:
        if not path.is_dir() and path.exists() and not path.is_file():
            raise UsageError(f"{option} {path} is no regular file: write the log to one, and name that")
        data, truncated = read_octets(path)
    except FileNotFoundError as error:
        raise UsageError(f"{option} {path} does not exist") from error
    except IsADirectoryError as error:
        raise UsageError(f"{option} {path} is a directory: name the file with etcd's log in it") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{option} {path} cannot be read: {error}") from error
    if b"\0" in flatten_export(data[:_MIB])[:4096]:
        raise UsageError(
            f"{option} {path} is binary: export the journal with journalctl -u etcd -o short-iso"
        )
    text = text_of(data)
    log = parse_log(text, str(path), zone=zone, truncated=truncated)
    if not _is_of_etcd(log, text):
        what = "is no log of etcd" if text.strip() else "is empty, and that is no log of etcd"
        raise UsageError(
            f"{option} {path} {what}: pass what kubectl logs, docker logs or journalctl -u etcd print"
        )
    return log


def read_octets(path: Path, start: int = 0) -> tuple[bytes, bool]:
    """Return what a file holds from there on, its end if that is very large, and whether it is that.

    Raises:
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        begin = max(start, size - MAXIMUM_SIZE)
        file.seek(begin)
        return file.read(MAXIMUM_SIZE), begin > start


def text_of(data: bytes) -> str:
    """Return the text of a log's octets, a journal export's as well."""
    return flatten_export(data).decode("utf-8-sig", errors="replace")


def _is_of_etcd(log: EtcdLog, text: str) -> bool:
    seen = log.rejections or log.dial_failures or log.startup.etcd_version
    return bool(seen) or any(word in text for word in _OF_ETCD)


def _latest(text: str, zone: tzinfo) -> datetime | None:
    tail = text.rsplit("\n", _TAIL)[1:] if text.count("\n") > _TAIL else [text]
    times = [entry.time for entry in read_entries("\n".join(tail), zone=zone)]
    return next((time for time in reversed(times) if time is not None), None)
