"""The time for a line of a log grows with its length, whatever a client has put into it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from pytest_etcdtls.etcd_log.parse import parse_log

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
        parse_log(text, "etcd.log")
        times.append(time.process_time() - begin)
    return min(times)


@pytest.mark.parametrize("name", LINES)
def test_four_times_the_length_takes_about_four_times_as_long(name: str) -> None:
    short, long = ("\n".join([LINES[name](size)] * 10) for size in (SHORT, LONG))
    assert _seconds(long) < 9 * _seconds(short)  # the square would be 16
