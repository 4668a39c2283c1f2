"""A server with the responses of an etcd over TLS, HTTP/1.1, HTTP/2 and gRPC, some of them overridden.

It is for responses that no etcd sends. Like etcd it selects the protocol by the first bytes of a connection.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived, StreamEnded
from h2.exceptions import ProtocolError
from servers import Handler

from pytest_etcdtls.tls.http import encode

PREFACE = b"PRI * HTTP/2.0"


@dataclass(frozen=True)
class Answer:
    """The response to a request, over HTTP/1.1 or as a gRPC message.

    Attributes:
        headers: further ones; a Date is there unless one is given.
        grpc_status: makes it a gRPC answer.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    grpc_status: int | None = None


Answers = Mapping[str, Answer]
"""By path; over HTTP/1.1 by method and path, if they are there; gRPC there by ``http/1.1:`` and the path."""


CLUSTER, MEMBER = 0xC0FFEE, 1
"""Their IDs."""


def answers(version: str) -> Answers:
    """Return the responses of a healthy etcd of that version with one member."""
    header = encode({1: CLUSTER, 2: MEMBER, 3: 1, 4: 2})
    peer_url, client_url = "https://127.0.0.1:2380", "https://127.0.0.1:2379"
    record = encode({1: MEMBER, 2: b"m0", 3: peer_url.encode(), 4: client_url.encode()})
    listed = {"id": MEMBER, "peerURLs": [peer_url], "name": "m0", "clientURLs": [client_url]}
    metrics = f'etcd_server_version{{server_version="{version}"}} 1\ngo_info{{version="go1.26.8"}} 1\n'
    return {
        "/version": _json({"etcdserver": version, "etcdcluster": f"{version.rpartition('.')[0]}.0"}),
        "/health": _json({"health": "true", "reason": ""}),
        "/livez": Answer(body=b"ok\n"),
        "/readyz": Answer(body=b"ok\n"),
        "/metrics": Answer(body=metrics.encode()),
        "/members": Answer(body=json.dumps([listed]).encode(), headers={"X-Etcd-Cluster-ID": f"{CLUSTER:x}"}),
        "/v3/maintenance/status": _json({"header": {"cluster_id": str(CLUSTER)}, "version": version}),
        "/etcdserverpb.Maintenance/Status": _message(encode({1: header, 2: version.encode()})),
        "/etcdserverpb.Cluster/MemberList": _message(encode({1: header, 2: record})),
        "/etcdserverpb.KV/Range": _message(encode({1: header})),
    }


def _json(body: object) -> Answer:
    return Answer(body=json.dumps(body).encode(), headers={"Content-Type": "application/json"})


def _message(message: bytes) -> Answer:
    return Answer(body=b"\0" + len(message).to_bytes(4, "big") + message, grpc_status=0)


def impostor(
    responses: Answers,
    context: Callable[[socket.socket], ssl.SSLContext],
    refuses: Callable[[ssl.SSLSocket, bytes], bool] = lambda _stream, _first: False,
) -> Handler:
    """Return the handler of each connection.

    Args:
        responses: the responses by path; 404 for all others.
        context: returns the TLS context for a connection of which nothing was read yet.
        refuses: given the connection and its first bytes, whether it is closed without an answer.
    """

    def handle(connection: socket.socket) -> None:
        connection.settimeout(10)
        with context(connection).wrap_socket(connection, server_side=True) as stream:
            first = stream.recv(65536)
            if first and not refuses(stream, first):
                serve = _http2 if first.startswith(PREFACE) else _http1
                serve(stream, first, responses)
            with contextlib.suppress(OSError):
                stream.unwrap()

    return handle


def _http1(stream: ssl.SSLSocket, data: bytes, responses: Answers) -> None:
    while b"\r\n\r\n" not in data:
        data += stream.recv(65536) or b"\r\n\r\n"
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    while len(body) < int(headers.get("content-length", 0)):
        body += stream.recv(65536)
    method, target, *_ = lines[0].split()
    path = target.partition("?")[0]
    answer = responses.get(f"{method} {path}") or responses.get(f"http/1.1:{path}") or responses.get(path)
    if answer is None or (answer.grpc_status is not None and path in responses):
        answer = Answer(status=404, body=b"404 page not found\n")
    stream.sendall(over_http1(answer))


def over_http1(answer: Answer) -> bytes:
    """Return the answer as it is sent over HTTP/1.1."""
    now = format_datetime(datetime.now(UTC), usegmt=True)
    sent = {"Date": now, "Content-Length": str(len(answer.body)), "Connection": "close", **answer.headers}
    lines = (f"{name}: {value}\r\n" for name, value in sent.items())
    return f"HTTP/1.1 {answer.status} Status\r\n{''.join(lines)}\r\n".encode() + answer.body


def _http2(stream: ssl.SSLSocket, data: bytes, responses: Answers) -> None:
    http = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
    http.initiate_connection()
    paths: dict[int, str] = {}
    try:
        while data:
            for event in http.receive_data(data):
                if isinstance(event, RequestReceived) and event.stream_id is not None:
                    headers = {str(name): str(value) for name, value in event.headers or ()}
                    paths[event.stream_id] = headers[":path"]
                if isinstance(event, StreamEnded) and event.stream_id is not None:
                    _send(http, event.stream_id, responses.get(paths[event.stream_id], Answer(status=404)))
            stream.sendall(http.data_to_send())
            data = stream.recv(65536)
    except ProtocolError as error:
        raise OSError(str(error)) from error


def _send(http: H2Connection, identifier: int, answer: Answer) -> None:
    headers = [(":status", str(answer.status))]
    headers += [(name.lower(), value) for name, value in answer.headers.items()]
    if answer.grpc_status is None:
        http.send_headers(identifier, headers, end_stream=not answer.body)
        if answer.body:
            http.send_data(identifier, answer.body, end_stream=True)
        return
    http.send_headers(identifier, [*headers, ("content-type", "application/grpc")])
    if answer.body:
        http.send_data(identifier, answer.body)
    http.send_headers(identifier, [("grpc-status", str(answer.grpc_status))], end_stream=True)
