"""The same lines in every format, as etcd, containers and journals of real machines wrote them; long ones."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd_log.parse import Cause, parse_log, read_log, read_octets

SHAPES = Path(__file__).parent / "shapes"
POKED = [Cause.NO_CERTIFICATE, Cause.UNKNOWN_CA, Cause.EXPIRED, Cause.PLAINTEXT]
JOURNAL = [Cause.NO_CERTIFICATE, Cause.UNKNOWN_CA, Cause.PLAINTEXT]

DIRECT = ("3.4-text", "3.4-zap", "3.5.1-json", "3.6-console", "3.7-json")
WRAPPED = (
    "docker-json-file",
    "docker-timestamps",
    "journal-short-3.4",
    "journal-short-3.4-stdout",
    "journal-short-3.6",
    "journal-short-full-3.6",
    "journal-short-iso-3.4",
    "journal-short-iso-3.6",
    "journal-short-precise-3.6",
)
WITHOUT_YEAR = ("journal-short-3.4",)
"""3.4 under systemd leaves the time to the journal, whose short form has no year."""


@pytest.mark.parametrize("name", [*DIRECT, *WRAPPED])
def test_every_format_has_the_same_entries(name: str) -> None:
    log = read_log(SHAPES / f"{name}.log")
    assert [rejection.cause for rejection in log.rejections] == (POKED if name in DIRECT else JOURNAL)
    assert {rejection.remote_host for rejection in log.rejections} == {"127.0.0.1"}
    assert all(int(rejection.remote_address.rpartition(":")[2]) > 1024 for rejection in log.rejections)
    assert len({rejection.line for rejection in log.rejections}) == len(log.rejections)
    for one in log.rejections:
        if name in WITHOUT_YEAR:
            assert one.time is None
        else:
            assert one.time is not None
            assert (one.time.year, one.time.utcoffset()) == (2026, timedelta())


@pytest.mark.parametrize(
    "prefix",
    [
        "2026-11-25T14:14:53.591475680Z stderr F ",
        "2026-11-25T14:14:53.591475680+01:00 stdout F ",
        "[pod/etcd-cp1/etcd] ",
        "[pod/etcd-cp1/etcd] 2026-11-25T14:14:53.591475680Z ",
        "etcd-1  | ",
        "\x1b[36metcd-1  | \x1b[0m",
    ],
    ids=[
        "CRI",
        "CRI with a zone",
        "kubectl --prefix",
        "kubectl --prefix --timestamps",
        "compose",
        "compose, coloured",
    ],
)
@pytest.mark.parametrize("name", DIRECT)
def test_prefixes_of_other_tools(name: str, prefix: str) -> None:
    """The lines are real, and the prefixes as Kubernetes, kubectl and Docker Compose document them."""
    text = (SHAPES / f"{name}.log").read_text(encoding="utf-8")
    plain = parse_log(text)
    wrapped = parse_log("".join(f"{prefix}{line}\n" for line in text.splitlines()))
    assert wrapped.rejections == plain.rejections


def test_grpc_at_debug_level() -> None:
    (found,) = read_log(SHAPES / "3.5-debug-http2.log").rejections
    assert (found.cause, found.endpoint) == (Cause.HTTP2_ON_PEER_PORT, "peer")
    assert found.remote_address.startswith("127.0.0.1:")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            b"__CURSOR=s\n__REALTIME_TIMESTAMP=1\nMESSAGE=x\n",
            "is a journal in the export format or in JSON: write",
        ),
        (b'{"__CURSOR":"s","__REALTIME_TIMESTAMP":"1","MESSAGE":"x"}\n', "journalctl -u etcd -o short-iso"),
        (b"LPKSHHRH\x00\x00", "journalctl -u etcd"),
    ],
)
def test_files_that_are_no_log(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "etcd.log"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=said) as caught:
        read_log(path)
    assert str(path) in str(caught.value)


def test_the_end_of_a_large_log_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_etcdtls.etcd_log.parse.MAXIMUM_SIZE", 1000)
    path = tmp_path / "etcd.log"
    path.write_text(
        "x" * 5000 + "\n" + (SHAPES / "3.4-text.log").read_text(encoding="utf-8"), encoding="utf-8"
    )
    log = read_log(path)
    assert read_octets(path)[1]
    assert log.rejections
    assert log.rejections[-1].cause is Cause.PLAINTEXT


SHORT = 2000
LONG = 4 * SHORT


def _message(text: str) -> str:
    return json.dumps({"level": "warn", "ts": "2026-11-25T16:40:14.000Z", "caller": "x.go", "msg": text})


def _fields(**fields: str | list[str]) -> str:
    line = {"level": "warn", "caller": "x.go", "msg": "rejected connection on client endpoint"}
    return json.dumps({**line, "remote-addr": "1.2.3.4:5", **fields})


REJECTED = 'rejected connection from "1.2.3.4:5" (error "x", ServerName "", IPAddresses ['
LINES: dict[str, Callable[[int], str]] = {
    "lists": lambda size: _message(REJECTED + "], DNSNames [" * (size // 13)),
    "quotes in a list": lambda size: _message(REJECTED + '"' + '\\"' * (size // 2) + "], DNSNames [])"),
    "an open string": lambda size: _message(REJECTED[:26] + '\\"' * (size // 2)),
    "handshakes of gRPC": lambda size: _message('ServerHandshake("a") failed: ' * (size // 29)),
    "times": lambda size: "rejected connection " + "2026-11-25T16:40:14.0Z\t" * (size // 23),
    "one time": lambda size: "rejected connection 2026-11-25T16:40:14.0" + "1" * size,
    "an error": lambda size: _fields(error="has expired or is not yet valid" * (size // 31)),
    "brackets": lambda size: '{"msg":' + "[" * size + " rejected connection",
}


def _seconds(text: str) -> float:
    """Return the time of the processor for a log, the least of some."""
    times = []
    for _ in range(5):
        begin = time.process_time()
        parse_log(text)
        times.append(time.process_time() - begin)
    return min(times)


@pytest.mark.parametrize("name", LINES)
def test_four_times_the_length_takes_about_four_times_as_long(name: str) -> None:
    short, long = ("\n".join([LINES[name](size)] * 10) for size in (SHORT, LONG))
    assert _seconds(long) < 9 * _seconds(short)  # the square would be 16
