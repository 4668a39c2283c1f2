"""One HTTP request or gRPC call on a connected stream, and the few protobuf messages in them."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import httpcore
import httpx
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError

from pytest_etcdtls.role import Protocol
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Request, Response
from pytest_etcdtls.untrusted import printable

Value = int | bytes


def encode(message: Mapping[int, Value]) -> bytes:
    """Return a message of varints and length-delimited fields, in the order given."""
    encoded = bytearray()
    for number, value in message.items():
        if isinstance(value, int):
            encoded += _as_varint(number << 3) + _as_varint(value)
        else:
            encoded += _as_varint(number << 3 | 2) + _as_varint(len(value)) + value
    return bytes(encoded)


def _as_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def fields(message: bytes) -> dict[int, list[Value]]:
    """Return the fields of a message by number: varints and fixed ones as numbers, the rest as bytes.

    Raises:
        ValueError: if the message is cut short or has a wire type that proto3 does not use.
    """
    found: dict[int, list[Value]] = {}
    for number, value in _walk(message):
        found.setdefault(number, []).append(value)
    return found


def grpc_message(body: bytes) -> bytes:
    """Return the first message of a gRPC response body.

    Raises:
        ValueError: if there is no message (the call failed), or it is compressed.
    """
    if len(body) < 5 or body[0] != 0:
        raise ValueError("the gRPC response has no message")
    length = int.from_bytes(body[1:5], "big")
    if len(body) < 5 + length:
        raise ValueError("the gRPC message is cut short")
    return body[5 : 5 + length]


def _walk(message: bytes) -> Iterator[tuple[int, Value]]:
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, position = _varint(message, position)
            yield number, value
            continue
        if kind == 2:
            length, position = _varint(message, position)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind} in field {number}")
        data = message[position : position + length]
        if len(data) != length:
            raise ValueError(f"field {number} is cut short")
        position += length
        yield number, data if kind == 2 else int.from_bytes(data, "little")


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            break
        octet = message[position]
        position += 1
        value |= (octet & 0x7F) << shift
        if not octet & 0x80:
            return value, position
    raise ValueError("a varint is cut short or too long")


_CHUNK = 65536
_LONGEST_FRAME = 1 << 14
"""What a peer may send, unless it is told otherwise (RFC 9113 section 4.2)."""


def call(
    stream: httpcore.NetworkStream,
    headers: Sequence[tuple[str, str]],
    message: bytes,
    limit: int,
) -> Response:
    """Make the call and return its response: headers with trailers, the body cut at ``limit`` octets.

    Args:
        stream: connected, TLS included.
        headers: of the request, pseudo-headers first; from :func:`request_headers`.
        message: the encoded request.
        limit: of the body, in octets.

    Raises:
        httpcore.NetworkError, httpcore.TimeoutException: from the stream.
        httpcore.RemoteProtocolError: if the server does not use HTTP/2, or ends the call without a response.
    """
    http = H2Connection(H2Configuration(client_side=True, header_encoding=None))
    answer = _Answer(limit)
    try:
        http.initiate_connection()
        identifier = http.get_next_available_stream_id()
        http.send_headers(identifier, headers)
        http.send_data(identifier, b"\0" + len(message).to_bytes(4, "big") + message, end_stream=True)
        stream.write(http.data_to_send())
        head = b""
        while not answer.complete:
            data = stream.read(_CHUNK)
            if not data:
                raise httpcore.RemoteProtocolError("the connection ended before the gRPC answer was complete")
            head += data[: 3 - len(head)]
            # h2 waits for the whole of a frame before it refuses its length, and "HTT" is one of 4.7 MB.
            if len(head) == 3 and int.from_bytes(head, "big") > _LONGEST_FRAME:
                raise httpcore.RemoteProtocolError(
                    f"no HTTP/2: the answer begins with '{printable(data, 40)}'"
                )
            for event in http.receive_data(data):
                if getattr(event, "stream_id", None) in (None, identifier):
                    answer.take(event, http)
            stream.write(http.data_to_send())
    except ProtocolError as error:
        raise httpcore.RemoteProtocolError(f"no HTTP/2: {error}") from error
    return answer.response()


def request_headers(scheme: str, authority: str, path: str, more: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the headers of a call to ``/package.Service/Method``, with additional ones in lower case."""
    return [
        (":method", "POST"),
        (":scheme", scheme),
        (":authority", authority),
        (":path", path),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        *more.items(),
    ]


class _Answer:
    """Collects the events of the one stream."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self.complete = False

    def take(self, event: Event, http: H2Connection) -> None:
        match event:
            case ResponseReceived(headers=headers) | TrailersReceived(headers=headers):
                self._headers |= {_text(name): _text(value) for name, value in headers or ()}
            case DataReceived(data=data, flow_controlled_length=length, stream_id=identifier):
                self._body += data or b""
                self.complete = len(self._body) >= self._limit
                http.acknowledge_received_data(length or 0, identifier or 0)
            case StreamEnded():
                self.complete = True
            case StreamReset(error_code=code) | ConnectionTerminated(error_code=code):
                self._end(code)

    def _end(self, code: ErrorCodes | int | None) -> None:
        # grpc-go resets a stream with NO_ERROR after a complete response if it has not read the request.
        if code != ErrorCodes.NO_ERROR or ":status" not in self._headers:
            raise httpcore.RemoteProtocolError(f"the server ended the HTTP/2 stream with error {code}")
        self.complete = True

    def response(self) -> Response:
        """Return the response.

        Raises:
            httpcore.RemoteProtocolError: if the response has no status.
        """
        status = self._headers.pop(":status", "")
        if not re.fullmatch("[0-9]{3}", status):
            raise httpcore.RemoteProtocolError("the HTTP/2 answer has no status")
        headers = _bounded(self._headers.items())
        return Response(status=int(status), headers=headers, body=bytes(self._body[: self._limit]))


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def _bounded(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return headers as :class:`Response` has them; the libraries bound their octets, not what is kept."""
    found = {name.lower(): value for name, value in headers}
    return {
        printable(name, _LONGEST_NAME): printable(value, _LONGEST_VALUE)
        for name, value in islice(found.items(), _MOST_HEADERS)
    }


_MOST_HEADERS = 64
_LONGEST_NAME = 64
_LONGEST_VALUE = 1024

BODY_LIMIT = 64 * 1024
_USER_AGENT = "pytest-etcdtls"
_UNUSED_CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Never used; without it httpcore builds a context with the system's roots for each pool."""

GRPC_STATUS_PATH = "/etcdserverpb.Maintenance/Status"
GATEWAY_STATUS_PATH = "/v3/maintenance/status"
"""etcd serves both without authorization, also with authentication enabled."""
_NO_HOST = "etcd.invalid"


class _OneStream(httpcore.NetworkBackend):
    """A network backend that returns the existing stream."""

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
    """Send the request and return the response, its body as it came and cut at 64 KiB.

    Raises:
        httpx.HTTPError, httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException: if no
            response could be parsed; the trace of the stream decides how the attempt ended.
        ValueError: the same, for a value that a library does not expect, such as a status that is no number.
    """
    if request.protocol is Protocol.GRPC:
        more = {"user-agent": _USER_AGENT, **request.headers}
        grpc_headers = request_headers(listener.scheme, listener.authority, request.path, more)
        return call(stream, grpc_headers, request.body or b"", BODY_LIMIT)
    with _Transport(stream, http2=request.protocol is Protocol.HTTP2) as transport:
        built = _build(listener, request)
        answer = transport.handle_request(built)
        body = bytearray()
        try:
            # Not iter_bytes(): a few octets with nested content encodings decode to gigabytes.
            for chunk in answer.iter_raw():
                body += chunk
                if len(body) >= BODY_LIMIT:
                    break
        finally:
            answer.close()
        return Response(
            status=answer.status_code, headers=_bounded(answer.headers.items()), body=bytes(body[:BODY_LIMIT])
        )


def _build(listener: Listener, request: Request) -> httpx.Request:
    # NOTE: httpx refuses names that are not valid IDNA (xn--n3h.com), so the URL has no name: the connection
    # exists already, and the server sees the host in this header only. Go omits the zone of an address.
    host = re.sub(r"%[^\]]*\]", "]", listener.authority)
    headers = {
        "host": host,
        "user-agent": _USER_AGENT,
        "accept": "*/*",
        "accept-encoding": "identity",
        **request.headers,
    }
    url = f"{listener.scheme}://{_NO_HOST}{request.path}"
    match request.protocol:
        case Protocol.GATEWAY:
            content = b"{}" if request.body is None else request.body
            headers |= {"content-type": "application/json", "connection": "close"}
            return httpx.Request(request.method or "POST", url, headers=headers, content=content)
        case Protocol.HTTP1:
            headers["connection"] = "close"
    method = request.method or ("GET" if request.body is None else "POST")
    return httpx.Request(method, url, headers=headers, content=request.body)
