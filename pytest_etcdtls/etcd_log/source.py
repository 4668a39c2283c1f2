"""Where a member's log is read from, as often as it is asked for: a file, or an etcd of our own.

Opens the file that was named and nothing else. Does not know what is looked for in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from pytest_etcdtls.etcd_log.reading import read_log, read_octets, text_of


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
