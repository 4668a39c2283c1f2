"""Reads a log from a file. Opens that file and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Final

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd_log.dial_failures import DialFailure, dial_failures
from pytest_etcdtls.etcd_log.entries import read_entries
from pytest_etcdtls.etcd_log.rejections import Rejection, rejections
from pytest_etcdtls.etcd_log.startup import Startup, last_startup
from pytest_etcdtls.etcd_log.wrapping import flatten_export

MAXIMUM_SIZE: Final = 64 * 1024 * 1024
"""Octets of a log that are read, its last ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdLog:
    """What matters here of one member's log.

    Attributes:
        source: the file's path, or words.
        rejections: connections that it rejected.
        dial_failures: connections that it could not make.
        startup: what it says about its last start.
        entries: how many entries there are.
        truncated: only the end of it was read.
    """

    source: str
    rejections: tuple[Rejection, ...]
    dial_failures: tuple[DialFailure, ...]
    startup: Startup
    entries: int
    truncated: bool = False


def parse_log(text: str, source: str, *, zone: tzinfo = UTC, truncated: bool = False) -> EtcdLog:
    """Return what matters of a log's text; ``zone`` is that of times that do not tell theirs."""
    entries = list(read_entries(text, zone=zone))
    return EtcdLog(
        source=source,
        rejections=tuple(rejections(entries)),
        dial_failures=tuple(dial_failures(entries)),
        startup=last_startup(entries),
        entries=len(entries),
        truncated=truncated,
    )


def read_log(path: Path, *, option: str = "--etcd-log", zone: tzinfo = UTC) -> EtcdLog:
    """Return what matters of a log; of a very large one only the end is read.

    Raises:
        UsageError: if it cannot be read, is empty or no log of etcd.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - MAXIMUM_SIZE))
            data = file.read()
    except FileNotFoundError as error:
        raise UsageError(f"{option} {path} does not exist") from error
    except IsADirectoryError as error:
        raise UsageError(f"{option} {path} is a directory: name the file with etcd's log in it") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{option} {path} cannot be read: {error}") from error
    data = flatten_export(data)
    if b"\0" in data[:4096]:
        raise UsageError(
            f"{option} {path} is binary: export the journal with journalctl -u etcd -o short-iso"
        )
    text = data.decode("utf-8-sig", errors="replace")
    log = parse_log(text, str(path), zone=zone, truncated=size > MAXIMUM_SIZE)
    if not _is_of_etcd(log, text):
        raise UsageError(
            f"{option} {path} is no log of etcd: pass what kubectl logs, docker logs or journalctl -u etcd "
            "print"
        )
    return log


def _is_of_etcd(log: EtcdLog, text: str) -> bool:
    seen = log.rejections or log.dial_failures or log.startup.etcd_version
    return bool(seen) or any(
        word in text for word in ('"caller":"', " | etcdserver: ", " | raft: ", " | embed: ")
    )
