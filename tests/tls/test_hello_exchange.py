"""Exchanges of one ClientHello: every reply; connections are counted, repeated, limited and reported."""

from __future__ import annotations

import dataclasses
import json
import select
import socket
import struct
import time
from collections.abc import Callable
from datetime import UTC, datetime

import jsonschema
import pytest
from msgspec.structs import replace
from servers import Handler, Server, reset
from tls.hello_server import Policy, alert, parse_client_hello

from pytest_etcdtls.facts.access import AcceptedClient
from pytest_etcdtls.facts.fact import Wire
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.report.document import schema
from pytest_etcdtls.report.json import document, encoded
from pytest_etcdtls.report.model import Report
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Bounds, Target
from pytest_etcdtls.tls.connection import Trace, WireStream, server_address
from pytest_etcdtls.tls.hello import TLS1_2, TLS1_3, ClientHello, Connection, Reply, exchange_hello

Serve = Callable[[Handler], Server]
HELLO = ClientHello(purpose="t", version=TLS1_2, suites=(0xC02B,))


def _sending(data: bytes) -> Handler:
    def handle(connection: socket.socket) -> None:
        connection.settimeout(10)
        connection.recv(65536)
        connection.sendall(data)

    return handle


def _reset(connection: socket.socket) -> None:
    connection.recv(1)
    reset(connection)


def _silent(connection: socket.socket) -> None:
    connection.settimeout(10)
    while connection.recv(65536):
        pass


def test_a_connection_that_is_reset_at_once_has_no_address() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as connected,
    ):
        accepted, _ = listening.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        accepted.close()
        select.select([connected], [], [], 10)
        with pytest.raises(OSError, match="not connected"):
            connected.getpeername()
        stream = WireStream(connected, time.monotonic() + 1, Trace())
        assert stream.server_address == server_address(connected) == ""
        assert stream.local_address


@pytest.mark.parametrize(
    ("handler", "reply", "description"),
    [
        (
            Policy().handler(),
            Reply.SERVER_HELLO,
            "accepted: TLSv1.2, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        ),
        (_sending(alert(70)), Reply.ALERT, "alert 70 protocol_version"),
        (_sending(b""), Reply.ENDED, "closed without an answer"),
        (_sending(b"220 mail ready\r\n"), Reply.OTHER, "no TLS record"),
        (_sending(b"\x16\x03\x03\x40\x00" + bytes(0x4000)), Reply.OTHER, "handshake message 0"),
        (_reset, Reply.ENDED, "reset"),
        (_silent, Reply.SILENCE, "no data arrived in time"),
        (_sending((b"\x17\x03\x03\x40\x00" + bytes(0x4000)) * 100), Reply.OTHER, "no answer of TLS"),
    ],
)
def test_every_reply_is_recognised(serve: Serve, handler: Handler, reply: Reply, description: str) -> None:
    exchange = exchange_hello(serve(handler).listener(), HELLO, 1 if reply is Reply.SILENCE else 10)
    assert exchange.reply is reply
    assert description in exchange.describe()
    assert exchange.answered == (reply in (Reply.SERVER_HELLO, Reply.ALERT))
    assert exchange.local_address.startswith("127.0.0.1:")
    assert exchange.milliseconds > 0


def test_a_refused_connection_ends_the_exchange() -> None:
    server = Server(_sending(b""))
    listener = server.listener()
    server.close()
    exchange = exchange_hello(listener, HELLO, 10)
    assert exchange.reply is Reply.ENDED
    assert "no TCP connection" in exchange.describe()
    assert exchange.local_address == ""


def test_a_host_name_is_sent_by_sni_and_an_address_is_not(serve: Serve) -> None:
    seen: list[bytes | None] = []

    def handle(connection: socket.socket) -> None:
        seen.append(parse_client_hello(connection.recv(65536)).extensions.get(0))
        connection.sendall(alert(40))

    listener = serve(handle).listener()
    exchange_hello(listener, HELLO, 10)
    exchange_hello(dataclasses.replace(listener, host="etcd.example", connect_to=listener.address), HELLO, 10)
    assert seen == [None, b"\x00\x0f\x00\x00\x0cetcd.example"]


# -- the observer ------------------------------------------------------------------------------------


def _observer(server: Server, bounds: Bounds | None = None) -> tuple[Observer, Wire]:
    listener = server.listener()
    observer = Observer(Target(label="t", origin="live", listeners=(listener,)), bounds)
    return observer, observer.context(AcceptedClient, None, listener)


def test_a_hello_without_an_answer_is_sent_three_times(serve: Serve) -> None:
    answering, silent = serve(_sending(alert(40))), serve(_sending(b""))
    observer, wire = _observer(answering)
    assert [exchange.alert for exchange in wire.send_hellos(*[HELLO] * 5)] == [40] * 5
    assert answering.accepted == len(observer.connections) == observer.used.total() == 5
    observer, wire = _observer(silent)
    (exchange,) = wire.send_hellos(HELLO)
    assert exchange.reply is Reply.ENDED
    assert silent.accepted == len(observer.connections) == 3
    assert wire.send_hellos(replace(HELLO, once=True))[0].reply is Reply.ENDED
    assert silent.accepted == len(observer.connections) == 4


def test_the_report_lists_hellos_among_the_connections(serve: Serve) -> None:
    server = serve(Policy().handler())
    observer, wire = _observer(server)
    hello = replace(HELLO, version=TLS1_3, suites=(0x1301,), purpose="offer")
    wire.send_hellos(hello, replace(HELLO, suites=(0x0005,)))
    wire.keep_silent("silence", 0.1)
    connections: tuple[Connection, ...] = tuple(sorted(observer.connections, key=lambda made: made.purpose))
    seen = Recording(target=observer.target, connections=connections)
    report = Report(started_at=datetime.now(UTC), seconds=0.0, partial=False, seen=(seen,), results=())
    written = json.loads(encoded(document(report)))
    jsonschema.validate(written, schema())
    assert [(entry["purpose"], entry["tls"], entry["outcome"]) for entry in written["connections"]] == [
        ("offer", "TLSv1.3", "answered"),
        ("silence", None, "unclear"),
        ("t", "TLSv1.2", "other"),
    ]
    assert {entry["identity"] for entry in written["connections"]} == {"none"}
