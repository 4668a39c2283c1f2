"""Programs that ship the log of an etcd to another file: an engine, the journal, a collector."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

Wrap = Callable[[str], str]
_PAUSE = 0.01


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}000Z"


def json_file(line: str) -> str:
    """Wrap as Docker's json-file driver does."""
    return json.dumps({"log": line + "\n", "stream": "stderr", "time": _now()})


def timestamps(line: str) -> str:
    """Wrap as ``docker logs --timestamps`` does."""
    return f"{_now()} {line}"


def journal_short(line: str) -> str:
    """Wrap as ``journalctl -o short-iso`` does."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}+0000 cp-1 etcd[4711]: {line}"


def kubectl_prefix(line: str) -> str:
    """Wrap as ``kubectl logs --prefix`` does."""
    return f"[pod/etcd-cp-1/etcd] {line}"


def as_it_is(line: str) -> str:
    """Wrap in nothing, as ``docker logs`` and ``kubectl logs`` do."""
    return line


@contextmanager
def shipped(log: Path, to: Path, wrap: Wrap) -> Iterator[None]:
    """Carry what is in the log to another file now, and what is written to it until the end."""
    stop = threading.Event()
    with log.open(encoding="utf-8") as source, to.open("a", encoding="utf-8") as target:

        def carry() -> None:
            while line := source.readline():
                assert line.endswith("\n"), "etcd writes whole lines"
                target.write(wrap(line.rstrip("\n")) + "\n")
            target.flush()

        def follow() -> None:
            while not stop.wait(_PAUSE):
                carry()

        carry()
        thread = threading.Thread(target=follow)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
