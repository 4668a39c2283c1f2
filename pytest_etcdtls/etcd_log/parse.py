"""Reads a member's log from a file or from an etcd of our own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Final, Protocol, Self

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd_log.events import (
    DIAL_WORDS,
    REJECTION_WORDS,
    STARTUP_WORDS,
    DialFailure,
    Rejection,
    Startup,
    dial_failures,
    last_startup,
    rejections,
)
from pytest_etcdtls.etcd_log.lines import flatten_export, read_entries

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

_ABOUT: Final = (*REJECTION_WORDS, *DIAL_WORDS, *STARTUP_WORDS)
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


class LogSource(Protocol):
    """A member's log. Reading raises OSError where it cannot be read any more."""

    @property
    def name(self) -> str:
        """The file's path, or words."""

    @property
    def file(self) -> Path | None:
        """The file, for commands to paste; ``None`` if it is none that is kept."""

    @property
    def go_version(self) -> str | None:
        """Of the last start that it showed when the source was made; ``None`` if it did not show one."""

    def read(self) -> tuple[str, bool]:
        """Return its text as it is now, and whether that is only the end of it."""

    def read_new(self) -> str:
        """Return the text that was logged since the source was made; earlier lines may be there as well."""


@dataclass(frozen=True, slots=True)
class FileLog:
    """A file that somebody else writes.

    Attributes:
        path: it is opened for each reading, so that a rotated log is followed.
        start: device and inode of the file when the source was made, and its size in octets.
        go_version: of the last start that it showed then.
    """

    path: Path
    start: tuple[int, int, int]
    go_version: str | None = None

    @classmethod
    def of(cls, path: Path, *, option: str = "--etcd-log") -> Self:
        """Return the source of a file that holds an etcd's log now.

        Raises:
            UsageError: if it does not.
        """
        status = path.stat() if path.exists() else None
        log = read_log(path, option=option)
        start = (status.st_dev, status.st_ino, status.st_size) if status else (0, 0, 0)
        return cls(path, start, log.startup.go_version)

    @property
    def name(self) -> str:
        """The file's path."""
        return str(self.path)

    @property
    def file(self) -> Path | None:
        """The file."""
        return self.path

    def read(self) -> tuple[str, bool]:
        """Return its text as it is now, and whether that is only the end of it."""
        data, truncated = read_octets(self.path)
        return text_of(data), truncated

    def read_new(self) -> str:
        """Return what was written to it since then, all of it if it is another file by now."""
        device, inode, size = self.start
        status = self.path.stat()
        same = (status.st_dev, status.st_ino) == (device, inode) and status.st_size >= size
        return text_of(read_octets(self.path, size if same else 0)[0])


@dataclass(frozen=True, slots=True)
class OwnLog:
    """The log of an etcd of our own.

    Attributes:
        name: words.
        text: returns everything that it has logged so far.
    """

    name: str
    text: Callable[[], str]

    @property
    def file(self) -> Path | None:
        """None: it goes with the cluster."""
        return None

    @property
    def go_version(self) -> str | None:
        """None: all of it is new, its start as well."""
        return None

    def read(self) -> tuple[str, bool]:
        """Return its text as it is now."""
        return self.text(), False

    def read_new(self) -> str:
        """Return its text as it is now: all of it is new."""
        return self.text()
