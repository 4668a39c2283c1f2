"""Every request that the suite may send to an etcd, for ``docs/limits.md``, and a record of what is sent."""

from __future__ import annotations

import socket
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import hpack
from hyperframe.frame import ContinuationFrame, Frame, HeadersFrame
from OpenSSL import SSL

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HANDSHAKE_RECORD = b"\x16"


@dataclass(frozen=True, order=True)
class Sent:
    """One request.

    Attributes:
        protocol: ``http/1.1``, ``grpc`` or ``h2``; ``plaintext`` for what is sent without TLS; ``other``.
        method: of HTTP.
        path: as it is in the request.
    """

    protocol: str
    method: str
    path: str


Requests = defaultdict[str, Counter[Sent]]
"""How often each request is sent, by the host and port that it names. Complete after :func:`recorded`."""


@contextmanager
def recorded() -> Iterator[Requests]:
    """Record what this process sends: in TLS before OpenSSL encrypts it, else as the socket gets it."""
    sent: dict[Any, bytearray] = defaultdict(bytearray)

    def noting(send: Callable[..., Any]) -> Callable[..., Any]:
        def sendall(connection: Any, data: bytes, *flags: int) -> Any:
            sent[connection] += data
            return send(connection, data, *flags)

        return sendall

    requests = Requests(Counter)
    with (
        patch.object(SSL.Connection, "sendall", noting(SSL.Connection.sendall)),
        patch.object(socket.socket, "sendall", noting(socket.socket.sendall)),
    ):
        yield requests
    for connection, data in sent.items():
        plain = isinstance(connection, socket.socket)
        if not plain or not data.startswith(_HANDSHAKE_RECORD):
            for authority, request in _requests(bytes(data)):
                shown = Sent("plaintext", request.method, request.path) if plain else request
                requests[authority][shown] += 1


def _requests(data: bytes) -> Iterator[tuple[str, Sent]]:
    """Yield the requests in what is sent on one connection, with the host and port of each."""
    if data.startswith(_PREFACE):
        yield from _http2(data[len(_PREFACE) :])
        return
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (text.partition(":") for text in lines)}
        words = line.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1"):
            yield "", Sent("other", "", repr(head[:40]))
            return
        data = data[int(headers.get("content-length", 0)) :]
        yield headers["host"], Sent("http/1.1", words[0], words[1])


def _http2(data: bytes) -> Iterator[tuple[str, Sent]]:
    decoder, block = hpack.Decoder(), b""
    while len(data) >= 9:
        frame, length = Frame.parse_frame_header(memoryview(data[:9]))
        frame.parse_body(memoryview(data[9 : 9 + length]))
        data = data[9 + length :]
        if isinstance(frame, HeadersFrame | ContinuationFrame):
            block += frame.data
            if "END_HEADERS" in frame.flags:
                headers = {str(name): str(value) for name, value in decoder.decode(block)}
                grpc = headers.get("content-type", "").startswith("application/grpc")
                request = Sent("grpc" if grpc else "h2", headers[":method"], headers[":path"])
                yield headers[":authority"], request
                block = b""


@dataclass(frozen=True)
class Allowed:
    """Why a request may be sent.

    Attributes:
        purpose: what the answer is needed for.
        at_most: how often it is sent to one listener that accepts every client, so that nothing is spared.
        effect: what it leaves in etcd.
    """

    purpose: str
    at_most: int
    effect: str = "nothing"


ALLOWED: Mapping[Sent, Allowed] = {
    Sent("http/1.1", "GET", "/version"): Allowed(
        "whether a client is accepted in TLS: one for each identity and TLS version", 60
    ),
    Sent("h2", "GET", "/version"): Allowed("whether HTTP/2 is served", 4),
    Sent("plaintext", "GET", "/version"): Allowed("whether the port serves clients without TLS", 4),
    Sent("plaintext", "POST", "/etcdserverpb.Maintenance/Status"): Allowed(
        "whether the port serves gRPC without TLS", 2
    ),
    Sent("http/1.1", "GET", "/health"): Allowed(
        "whether the member is healthy", 3, "a linearizable read; up to etcd 3.4 one Raft entry"
    ),
    Sent("http/1.1", "GET", "/livez"): Allowed("which paths are served", 2),
    Sent("http/1.1", "GET", "/readyz"): Allowed("which paths are served", 2, "a linearizable read"),
    Sent("http/1.1", "GET", "/metrics"): Allowed(
        "which paths are served; release of Go, ID of the member, its connections with others", 3
    ),
    Sent("http/1.1", "GET", "/debug/pprof/"): Allowed("whether profiles are served; only the index", 2),
    Sent("http/1.1", "GET", "/debug/vars"): Allowed("whether variables are served", 2),
    Sent("http/1.1", "GET", "/v2/keys"): Allowed(
        "whether the v2 API is served", 2, "a read of the root of the v2 store"
    ),
    Sent("http/1.1", "GET", "/members"): Allowed("the member list of a peer port, or whether it is one", 2),
    Sent("http/1.1", "GET", "/proxy/health"): Allowed("whether a metrics port is that of a grpc-proxy", 2),
    Sent("http/1.1", "POST", "/v3/maintenance/status"): Allowed(
        "whether the JSON gateway accepts a client: one for each identity and TLS version", 90
    ),
    Sent("http/1.1", "POST", "/etcdserverpb.Maintenance/Status"): Allowed(
        "whether gRPC is served over HTTP/1.1", 2
    ),
    Sent("grpc", "POST", "/etcdserverpb.Maintenance/Status"): Allowed(
        "whether gRPC accepts a client: one for each identity and TLS version", 50
    ),
    Sent("grpc", "POST", "/etcdserverpb.Cluster/MemberList"): Allowed(
        "the members and their URLs", 2, "a linearizable read"
    ),
    Sent("grpc", "POST", "/etcdserverpb.KV/Range"): Allowed(
        "whether keys can be read: a count of the empty range, no key or value", 4, "a linearizable read"
    ),
    Sent("grpc", "POST", "/etcdserverpb.Auth/Authenticate"): Allowed(
        "a token for --etcd-user, only with that option", 2, "one Raft entry; the revision does not change"
    ),
}


def requests_table() -> str:
    """Return the requests as a table of Markdown."""
    lines = ["| protocol | request | for | leaves in etcd | at most |", "|---|---|---|---|--:|"]
    for sent, allowed in ALLOWED.items():
        protocol = {"grpc": "gRPC", "h2": "HTTP/2", "http/1.1": "HTTP/1.1"}.get(sent.protocol, "no TLS")
        request = sent.path if sent.protocol == "grpc" else f"{sent.method} {sent.path}"
        lines.append(
            f"| {protocol} | `{request}` | {allowed.purpose} | {allowed.effect} | {allowed.at_most} |"
        )
    return "\n".join(lines)
