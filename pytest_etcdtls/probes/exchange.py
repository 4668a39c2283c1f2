"""One HTTP request on a stream that is already connected, made by httpx; gRPC calls go to :mod:`.grpc`.

Knows neither TLS nor how the stream's end is judged.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from typing import Any

import httpcore
import httpx

from pytest_etcdtls.observations.attempt import Protocol, Response
from pytest_etcdtls.probes.grpc import call, request_headers
from pytest_etcdtls.probes.registry import Request
from pytest_etcdtls.target import Listener

BODY_LIMIT = 64 * 1024
_USER_AGENT = "pytest-etcdtls"
_UNUSED_CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""httpcore builds one with the system's roots for each pool unless given one; this one is never used."""

GRPC_STATUS_PATH = "/etcdserverpb.Maintenance/Status"
GATEWAY_STATUS_PATH = "/v3/maintenance/status"
"""Both are served whatever the authorisation, also with authentication on."""
_NO_HOST = "etcd.invalid"


class _OneStream(httpcore.NetworkBackend):
    """Hands out the one stream that there is."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: object = None,
    ) -> httpcore.NetworkStream:
        return self._stream


class _Transport(httpx.BaseTransport):
    def __init__(self, stream: httpcore.NetworkStream, *, http2: bool) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=_UNUSED_CONTEXT,
            http1=not http2,
            http2=http2,
            network_backend=_OneStream(stream),
            keepalive_expiry=0,
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        answer = self._pool.handle_request(
            httpcore.Request(
                request.method,
                url,
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_Body(answer.stream), extensions=answer.extensions
        )

    def close(self) -> None:
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, stream: Any) -> None:  # noqa: ANN401 - httpcore types it as sync or async
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        yield from self._stream

    def close(self) -> None:
        self._stream.close()


def send(stream: httpcore.NetworkStream, listener: Listener, request: Request) -> Response:
    """Send the request and return the answer, its body cut at 64 KiB.

    Raises:
        httpx.HTTPError, httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException: if no
            answer could be parsed; what the stream saw decides what that means.
    """
    if request.speech is Protocol.GRPC:
        more = {"user-agent": _USER_AGENT, **request.headers}
        grpc_headers = request_headers(listener.scheme, listener.authority, request.path, more)
        return call(stream, grpc_headers, request.body or b"", BODY_LIMIT)
    with _Transport(stream, http2=request.speech is Protocol.HTTP2) as transport:
        built = _build(listener, request)
        answer = transport.handle_request(built)
        body = bytearray()
        try:
            for chunk in answer.iter_bytes():
                body += chunk
                if len(body) >= BODY_LIMIT:
                    break
        finally:
            answer.close()
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return Response(status=answer.status_code, headers=headers, body=bytes(body[:BODY_LIMIT]))


def _build(listener: Listener, request: Request) -> httpx.Request:
    # NOTE: httpx refuses names that are not valid IDNA (xn--n3h.com), so the URL has none: the connection is
    # there already, and the server sees the host in this header alone. Go leaves out the zone of an address.
    host = re.sub(r"%[^\]]*\]", "]", listener.authority)
    headers = {"host": host, "user-agent": _USER_AGENT, "accept": "*/*", **request.headers}
    url = f"{listener.scheme}://{_NO_HOST}{request.path}"
    match request.speech:
        case Protocol.GATEWAY:
            content = b"{}" if request.body is None else request.body
            headers |= {"content-type": "application/json", "connection": "close"}
            return httpx.Request("POST", url, headers=headers, content=content)
        case Protocol.HTTP1:
            headers["connection"] = "close"
    method = "GET" if request.body is None else "POST"
    return httpx.Request(method, url, headers=headers, content=request.body)
