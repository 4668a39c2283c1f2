"""What of a log is no sign that a listener serves; what is one, every start of an etcd shows."""

from __future__ import annotations

import pytest

from pytest_etcdtls.etcd.launch import ReadinessLog, Served, parse_served

SECURELY = (
    '{"level":"info","msg":"serving client traffic securely","traffic":"grpc+http","address":"[::1]:12379"}'
)
INSECURELY = (
    '{"level":"info","msg":"serving client traffic insecurely; this is strongly discouraged!",'
    '"traffic":"grpc+http","address":"127.0.0.1:12379"}'
)


@pytest.mark.parametrize(
    "line",
    [
        "2026-11-25 13:03:12.504488 I | embed: ready to serve client requests",
        '{"level":"info","msg":"serving metrics","address":"http://127.0.0.1:12379"}',
        '"serving client traffic securely" is no JSON',
        '{"msg":"serving client traffic securely"}',
        '{"level":"warn","msg":"x","error":"serving client traffic securely","address":"127.0.0.1:12379"}',
        "",
    ],
)
def test_a_line_that_names_no_listener(line: str) -> None:
    assert parse_served(line) is None


def test_a_member_is_ready_when_every_listener_serves() -> None:
    log = ReadinessLog(Served.from_urls(["https://127.0.0.1:12379", "http://127.0.0.1:12379"]))
    log.feed([INSECURELY])
    assert not log.ready, "a plain listener on the port of a TLS listener is not that"
    log.feed([SECURELY])
    assert log.ready
