"""Readiness as five versions of etcd log it; only the addresses in the lines are changed."""

from __future__ import annotations

import pytest

from pytest_etcdtls.etcd.launch import ReadinessLog, Served, parse_served

JSON = (
    '{{"level":"info","ts":"2026-11-25T13:03:20.470Z","caller":"embed/serve.go:{line}",'
    '"msg":"{message}",{rest}}}'
)
INSECURELY = "serving client traffic insecurely; this is strongly discouraged!"


def _json(line: int, message: str, rest: str) -> str:
    return JSON.format(line=line, message=message, rest=rest)


SECURE = {
    "3.4.23": "2026-11-25 13:03:12.505262 I | embed: serving client requests on 127.0.0.1:12379",
    "3.4.23 zap": _json(201, "serving client traffic securely", '"address":"127.0.0.1:12379"'),
    "3.5.33": _json(
        286, "serving client traffic securely", '"traffic":"grpc+http","address":"127.0.0.1:12379"'
    ),
    "3.7.3": _json(288, "serving client traffic securely", '"traffic":"grpc+http","address":"[::1]:12379"'),
}
INSECURE = {
    "3.4.23": "2026-11-25 13:03:12.505410 N | embed: serving insecure client requests on 127.0.0.1:12379, "
    "this is strongly discouraged!",
    "3.4.23 zap": _json(145, INSECURELY, '"address":"127.0.0.1:12379"'),
    "3.5.33": _json(212, INSECURELY, '"traffic":"grpc+http","address":"127.0.0.1:12379"'),
    "3.6.16": _json(222, INSECURELY, '"traffic":"grpc+http","address":"[::]:12379"'),
}
NOTHING = [
    "2026-11-25 13:03:12.504488 I | embed: ready to serve client requests",
    _json(139, "ready to serve client requests", '"x":1'),
    _json(762, "serving metrics", '"address":"http://127.0.0.1:12379"'),
    '"serving client traffic securely" is no JSON',
    '{"msg":"serving client traffic securely"}',
    '{"level":"warn","msg":"x","error":"serving client traffic securely","address":"127.0.0.1:12379"}',
    "",
]


@pytest.mark.parametrize(
    ("line", "served"),
    [
        *((line, Served(12379, secure=True)) for line in SECURE.values()),
        *((line, Served(12379, secure=False)) for line in INSECURE.values()),
        *((line, None) for line in NOTHING),
    ],
)
def test_which_listener_a_line_says_is_served(line: str, served: Served | None) -> None:
    assert parse_served(line) == served


def test_a_member_is_ready_when_every_listener_serves() -> None:
    urls = ["https://127.0.0.1:12379", "http://127.0.0.1:12379", "https://[::1]:12380"]
    log = ReadinessLog(Served.from_urls(urls))
    log.feed([INSECURE["3.5.33"], INSECURE["3.5.33"].replace("12379", "12380")])
    assert not log.ready, "a plain listener on the port of a TLS listener is not that"
    log.feed([SECURE["3.5.33"]])
    assert not log.ready
    log.feed([SECURE["3.5.33"].replace("12379", "12380")])
    assert log.ready


@pytest.mark.parametrize(
    "line",
    [
        _json(580, "serving peer traffic", '"address":"127.0.0.1:12380"'),
        "2026-11-25 13:03:11.910921 I | embed: listening for peers on 127.0.0.1:12380",
    ],
)
def test_the_peer_port_answers(line: str) -> None:
    log = ReadinessLog([Served(12379, secure=True)])
    log.feed([line])
    assert (log.serves_peers, log.ready) == (True, False)


def test_a_taken_port_is_noticed() -> None:
    log = ReadinessLog([])
    log.feed(["etcdmain: listen tcp 127.0.0.1:12379: bind: address already in use"])
    assert log.address_in_use
