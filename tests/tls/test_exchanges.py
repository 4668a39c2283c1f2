"""A key is a request: it is sent as written, and the response is the observation."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
from impostors.impostor import Answer
from impostors.staging import FakeCluster
from servers import Handler, Server

from pytest_etcdtls.errors import RegistrationError
from pytest_etcdtls.facts.api import ClientExchange, UnauthenticatedExchange, request_of
from pytest_etcdtls.facts.listener import ServedChain
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Target
from pytest_etcdtls.tls.attempt import Ending
from pytest_etcdtls.tls.connection import sni

KEY = 'PUT /v3/x?y=1\nContent-Type: application/json\nOrigin: https://other.example\n\n{"key":"a"}'


def test_method_headers_and_body_are_sent(serve: Callable[[Handler], Server]) -> None:
    received: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        data = connection.recv(4096)
        # The first contact requests /version.
        while data.startswith(b"PUT") and b'{"key":"a"}' not in data:
            data += connection.recv(4096)
        received.append(data)
        connection.sendall(
            b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )

    listener = serve(answer).listener("http")
    observer = Observer(Target(label="t", origin="live", listeners=(listener,)))
    exchange = observer.get(ClientExchange, KEY, listener)
    assert exchange.attempt.response is not None
    assert (exchange.method, exchange.path, exchange.attempt.response.status) == ("PUT", "/v3/x?y=1", 405)
    [request] = [data for data in received if data.startswith(b"PUT")]
    head, _, body = request.partition(b"\r\n\r\n")
    start, *headers = head.lower().split(b"\r\n")
    assert start == b"put /v3/x?y=1 http/1.1"
    assert {b"content-type: application/json", b"origin: https://other.example"} <= set(headers)
    assert body == b'{"key":"a"}'


def test_with_a_certificate_and_without(fake: FakeCluster) -> None:
    listener = fake.put_up(overrides={"DELETE /version": Answer(status=418)})
    observer = Observer(fake.target())
    accepted = observer.get(ClientExchange, "DELETE /version", listener).attempt
    refused = observer.get(UnauthenticatedExchange, "DELETE /version", listener)
    assert accepted.response is not None
    assert accepted.response.status == 418
    assert refused.attempt.ending is Ending.REFUSED
    assert refused.control is not None
    assert refused.control.ending is Ending.SERVED
    for key in ("/version", "GET /version"):  # it was requested before
        assert observer.get(ClientExchange, key, listener).attempt.purpose == "good identity client"


@pytest.mark.parametrize(
    "key", ["version", "get /version", "GET version", "/version\nOrigin", "", "GET\n/version"]
)
def test_an_invalid_request_key_is_refused(key: str) -> None:
    with pytest.raises(RegistrationError, match="write 'METHOD /path'"):
        request_of(key)


def test_a_key_is_refused_by_types_without_one_and_required_by_types_with_one(
    serve: Callable[[Handler], Server],
) -> None:
    listener = serve(lambda _: None).listener()
    observer = Observer(Target(label="t", origin="live", listeners=(listener,)))
    with pytest.raises(RegistrationError, match="ServedChain has no key, and 'leaf' is one"):
        observer.get(ServedChain, "leaf", listener)
    with pytest.raises(
        RegistrationError, match=r"ClientExchange needs a key: write Annotated\[ClientExchange"
    ):
        observer.get(ClientExchange, None, listener)
    assert observer.connections == []


@pytest.mark.parametrize(
    ("host", "sent"),
    [
        ("etcd.example", "etcd.example"),
        ("etcd.example.", "etcd.example"),
        ("xn--n3h.com", "xn--n3h.com"),
        ("under_score", "under_score"),
        ("127.0.0.1", None),
        ("fe80::1%eth0", None),
        ("", None),
        ("two..dots", None),
        ("a" * 64, None),
        (".".join(["a" * 63] * 4), None),
        ("nul\0.example", None),
        ("größe.example", None),
    ],
)
def test_sni(host: str, sent: str | None) -> None:
    assert sni(host) == sent
