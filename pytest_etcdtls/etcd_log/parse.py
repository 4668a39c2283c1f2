"""Reads a member's log from a file or from an owned etcd."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Final, Protocol, Self

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.errors import UnreadableFileError, UsageError
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
from pytest_etcdtls.local_file import is_there, open_regular

MAXIMUM_SIZE: Final = 32 * 1024 * 1024
"""How many bytes of a log are read, from its end."""

_OF_ETCD: Final = (
    '"caller":"',
    '\\"caller\\":\\"',
    " | etcdserver: ",
    " | raft: ",
    " | embed: ",
    "\tetcdserver/",
    "\tembed/",
)
"""Texts that identify etcd's log, plain or encoded in JSON."""

_ABOUT: Final = (*REJECTION_WORDS, *DIAL_WORDS, *STARTUP_WORDS)
_MIB: Final = 1024 * 1024
_TAIL: Final = 200
"""How many of the last lines are searched for a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdLog:
    """The TLS-related content of one member's log.

    Attributes:
        source: the path of the file, or a description.
        rejections: the connections that the member rejected.
        dial_failures: the connections that the member could not establish.
        startup: the last startup.
        latest: the time of the last entry that has one, aware UTC.
        truncated: whether only the end of the log was read.
    """

    source: str
    rejections: tuple[Rejection, ...]
    dial_failures: tuple[DialFailure, ...]
    startup: Startup
    latest: datetime | None = None
    truncated: bool = False


def parse_log(text: str, source: str, *, zone: tzinfo = UTC, truncated: bool = False) -> EtcdLog:
    """Parse the text of a log; ``zone`` is the time zone of times without one."""
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
    """Read and parse a log. Of a very large log, only the end is read.

    Raises:
        UsageError: if it cannot be read, is empty or is not etcd's log.
    """
    try:
        data, truncated = read_octets(path)
    except UnreadableFileError as error:
        raise UsageError(f"{option} {path} {error}") from error
    except OSError as error:
        raise UsageError(f"{option} {path} cannot be read: {error.strerror}") from error
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
    """Return the content of a file from an offset, and whether it is only the end of a very large file.

    Raises:
        UnreadableFileError: if it cannot be opened, or is not a regular file.
        OSError: if it cannot be read.
    """
    with open_regular(path) as file:
        size = file.seek(0, 2)
        begin = max(start, size - MAXIMUM_SIZE)
        file.seek(begin)
        return file.read(MAXIMUM_SIZE), begin > start


def text_of(data: bytes) -> str:
    """Decode the bytes of a log, which may be a journal export."""
    return flatten_export(data).decode("utf-8-sig", errors="replace")


def _is_of_etcd(log: EtcdLog, text: str) -> bool:
    seen = log.rejections or log.dial_failures or log.startup.etcd_version
    return bool(seen) or any(word in text for word in _OF_ETCD)


def _latest(text: str, zone: tzinfo) -> datetime | None:
    tail = text.rsplit("\n", _TAIL)[1:] if text.count("\n") > _TAIL else [text]
    times = [entry.time for entry in read_entries("\n".join(tail), zone=zone)]
    return next((time for time in reversed(times) if time is not None), None)


class LogSource(Protocol):
    """A member's log. Reading raises OSError or UnreadableFileError if it is no longer readable."""

    @property
    def name(self) -> str:
        """The path of the file, or a description."""

    @property
    def file(self) -> Path | None:
        """The file, for reproduction commands; ``None`` if there is no permanent file."""

    @property
    def go_version(self) -> str | None:
        """The Go version of the last startup in the log when the source was made; ``None`` without one."""

    def read(self) -> tuple[str, bool]:
        """Return the current text, and whether it is only the end of the log."""

    def read_new(self) -> str:
        """Return the text logged since the source was made. It may contain earlier lines."""


@dataclass(frozen=True, slots=True)
class FileLog:
    """A log file that another process writes.

    Attributes:
        path: the path of the file. It is opened for each reading, so that a rotated log is followed.
        start: device and inode of the file when the source was made, and its size in bytes.
        go_version: the Go version of the last startup in the log at that time.
    """

    path: Path
    start: tuple[int, int, int]
    go_version: str | None = None

    @classmethod
    def of(cls, path: Path, *, option: str = "--etcd-log") -> Self:
        """Return the source for a file that contains etcd's log.

        Raises:
            UsageError: if the file does not contain etcd's log.
        """
        status = path.stat() if is_there(path) else None
        log = read_log(path, option=option)
        start = (status.st_dev, status.st_ino, status.st_size) if status else (0, 0, 0)
        return cls(path, start, log.startup.go_version)

    @property
    def name(self) -> str:
        """The path of the file."""
        return str(self.path)

    @property
    def file(self) -> Path | None:
        """The file."""
        return self.path

    def read(self) -> tuple[str, bool]:
        """Return the current text, and whether it is only the end of the log."""
        data, truncated = read_octets(self.path)
        return text_of(data), truncated

    def read_new(self) -> str:
        """Return the text written since the source was made, or all text if the file has been replaced."""
        device, inode, size = self.start
        status = self.path.stat()
        same = (status.st_dev, status.st_ino) == (device, inode) and status.st_size >= size
        return text_of(read_octets(self.path, size if same else 0)[0])


@dataclass(frozen=True, slots=True)
class OwnLog:
    """The log of an owned etcd.

    Attributes:
        name: a description.
        text: returns everything that was logged so far.
    """

    name: str
    text: Callable[[], str]

    @property
    def file(self) -> Path | None:
        """``None``: the log is removed with the cluster."""
        return None

    @property
    def go_version(self) -> str | None:
        """``None``: the whole log is new, including the startup."""
        return None

    def read(self) -> tuple[str, bool]:
        """Return its text as it is now."""
        return self.text(), False

    def read_new(self) -> str:
        """Return the current text: the whole log is new."""
        return self.text()
