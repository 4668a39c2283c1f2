"""One HTTP request or gRPC call on a connected stream, and the few protobuf messages in them.

The libraries for one connection are used, h11 for HTTP/1.1 and h2 for HTTP/2, since httpcore, and so httpx,
drops the trailers of HTTP/2, which have the status of a gRPC call. Both are slow to import, and not needed.

A response is a server's, of any kind: heads and bodies are cut, content encodings are not removed, and what
does not parse is an exception that the caller turns into the end of an attempt. Of protobuf only varints and
length-delimited fields are written, and the messages of etcd's rpc.proto are read by field numbers.

A request may have a password or a token, and pytest shows and reports what is logged. So nothing is logged of
our requests, at any level: hpack logs each header.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import threading
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any
from urllib.parse import quote

import h11
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
from hpack import NeverIndexedHeaderTuple

from pytest_etcdtls.role import Protocol
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Request, Response
from pytest_etcdtls.untrusted.printable import LINE_LIMIT, printable

Value = int | bytes

_LIBRARIES = ("hpack", "h2", "h11")
"""The libraries whose logs would have our requests."""

_VARINT, _LENGTH_DELIMITED = 0, 2
_FIXED_LENGTHS = {1: 8, 5: 4}
"""Protobuf's wire types: a varint, octets with their length, and fixed lengths in octets."""

_CHUNK = 65536
_LONGEST_FRAME = 1 << 14
"""Octets of a frame without other SETTINGS (RFC 9113 section 4.2)."""
_MOST_HEADERS = 64
_LONGEST_HEAD = 100 * 1024

BODY_LIMIT = 64 * 1024
_USER_AGENT = "pytest-etcdtls"
_SWITCHING_PROTOCOLS = 101

GRPC_STATUS_PATH = "/etcdserverpb.Maintenance/Status"
GATEWAY_STATUS_PATH = "/v3/maintenance/status"
"""etcd serves both without authorization, also with authentication enabled."""


class AnswerError(Exception):
    """The stream failed, or what it carries is not an answer."""


class WriteError(AnswerError):
    """The stream takes no more data; it may carry an answer."""


class Stream(typing.Protocol):
    """A connection, TLS included, whose reading and writing raise :class:`AnswerError`."""

    def read(self, max_bytes: int) -> bytes:
        """Return application data, empty at the end of the stream."""
        ...

    def write(self, buffer: bytes) -> None:
        """Send application data."""
        ...


def encode(message: Mapping[int, Value]) -> bytes:
    """Return a message of varints and length-delimited fields, in the order given."""
    encoded = bytearray()
    for number, value in message.items():
        if isinstance(value, int):
            encoded += _as_varint(number << 3) + _as_varint(value)
        else:
            encoded += _as_varint(number << 3 | _LENGTH_DELIMITED) + _as_varint(len(value)) + value
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
    values: dict[int, list[Value]] = {}
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        value: Value
        if kind == _VARINT:
            value, position = _varint(message, position)
        else:
            if kind == _LENGTH_DELIMITED:
                length, position = _varint(message, position)
            elif kind in _FIXED_LENGTHS:
                length = _FIXED_LENGTHS[kind]
            else:
                raise ValueError(f"wire type {kind} in field {number}")
            data = message[position : position + length]
            if len(data) != length:
                raise ValueError(f"field {number} is cut short")
            value = data if kind == _LENGTH_DELIMITED else int.from_bytes(data, "little")
            position += length
        values.setdefault(number, []).append(value)
    return values


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


def grpc_fields(response: Response | None) -> dict[int, list[Value]]:
    """Return the fields of the message in a gRPC response.

    Raises:
        ValueError: if there is no response or no message in it, or as :func:`fields` does.
    """
    if response is None:
        raise ValueError("there is no gRPC response")
    return fields(grpc_message(response.body))


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


_this_thread = threading.local()


def _is_of_others(_: logging.LogRecord) -> bool:
    return not getattr(_this_thread, "requests", False)


@functools.lru_cache(maxsize=1)
def _filter_loggers(_number: int) -> None:
    """Filter the loggers of the HTTP libraries, again if there are more loggers than before."""
    for name in tuple(logging.root.manager.loggerDict):
        if name.partition(".")[0] in _LIBRARIES:
            logging.getLogger(name).addFilter(_is_of_others)  # no second time


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """Suppress the log messages of the HTTP libraries while this thread sends a request of ours."""
    _filter_loggers(len(logging.root.manager.loggerDict))
    _this_thread.requests = True
    try:
        yield
    finally:
        _this_thread.requests = False


@_unlogged()
def make_request(stream: Stream, listener: Listener, request: Request) -> Response:
    """Send a request on a stream that is connected, TLS included, and return the response.

    Bodies are as they were sent, cut at 64 KiB.

    Raises:
        AnswerError: if no response could be parsed; the trace of the stream decides how the attempt ended.
        ValueError: the same, for a value that a library does not expect.
    """
    if request.protocol in (Protocol.HTTP2, Protocol.GRPC):
        return over_http2(stream, listener, request)
    try:
        return _over_http1(stream, listener, request)
    except h11.ProtocolError as error:
        raise AnswerError(str(error)) from error


def over_http2(stream: Stream, listener: Listener, request: Request) -> Response:
    """Send a request over HTTP/2, or make a unary gRPC call; return headers with trailers, and the body.

    Args:
        stream: connected, TLS included.
        listener: that is connected to.
        request: the request.

    Raises:
        AnswerError: if the server does not use HTTP/2, or the stream ends without a response.
    """
    answer, http = _Answer(), H2Connection(H2Configuration(client_side=True, header_encoding=None))
    try:
        http.initiate_connection()
        identifier, head = http.get_next_available_stream_id(), b""
        headers, data = _built(listener, request)
        http.send_headers(identifier, headers, end_stream=not data)
        if data:
            http.send_data(identifier, data, end_stream=True)
        stream.write(http.data_to_send())
        while not answer.complete:
            data = stream.read(_CHUNK)
            if not data:
                raise AnswerError("the connection ended before the answer was complete")
            head += data[: 3 - len(head)]
            # h2 waits for the whole of a frame before it refuses its length, and "HTT" is one of 4.7 MB.
            if len(head) == 3 and int.from_bytes(head, "big") > _LONGEST_FRAME:
                raise AnswerError(f"no HTTP/2: the answer begins with '{printable(data, 40)}'")
            for event in http.receive_data(data):
                if getattr(event, "stream_id", None) in (None, identifier):
                    answer.take(event, http)
            stream.write(http.data_to_send())
    except ProtocolError as error:
        raise AnswerError(f"no HTTP/2: {error}") from error
    return answer.response()


def _built(
    listener: Listener, request: Request
) -> tuple[Sequence[tuple[str, str] | tuple[bytes, bytes]], bytes]:
    """Return the headers and the data of a request; of a gRPC call, its message with the prefix."""
    pseudo = [(":scheme", listener.scheme), (":authority", _host(listener))]
    if request.protocol is Protocol.GRPC:
        message = request.body or b""
        pseudo += [(":method", "POST"), (":path", request.path)]
        fixed = {"content-type": "application/grpc", "te": "trailers", "user-agent": _USER_AGENT}
        headers = [*pseudo, *fixed.items(), *_secret(request.headers.items())]
        return headers, b"\0" + len(message).to_bytes(4, "big") + message
    method, path, lines, body = _build(listener, request)
    pseudo += [(":method", method), (":path", path)]
    left_out = ("host", "transfer-encoding")
    others = [(name.lower(), value) for name, value in lines if name.lower() not in left_out]
    return [*pseudo, *_secret(others)], body


def _secret(headers: Iterable[tuple[Any, Any]]) -> Iterator[Any]:
    """Yield headers that no table of a server or a proxy keeps (RFC 7541 section 7.1.3)."""
    return (NeverIndexedHeaderTuple(*header) for header in headers)


class _Answer:
    """Collects the events of the one stream."""

    def __init__(self) -> None:
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self.complete = False

    def take(self, event: Event, http: H2Connection) -> None:
        match event:
            case ResponseReceived(headers=headers) | TrailersReceived(headers=headers):
                self._headers |= {_text(name): _text(value) for name, value in headers or ()}
            case DataReceived(data=data, flow_controlled_length=length, stream_id=identifier):
                self._body += data or b""
                self.complete = len(self._body) >= BODY_LIMIT
                http.acknowledge_received_data(length or 0, identifier or 0)
            case StreamEnded():
                self.complete = True
            case StreamReset(error_code=code) | ConnectionTerminated(error_code=code):
                self._end(code)

    def _end(self, code: ErrorCodes | int | None) -> None:
        # grpc-go resets a stream with NO_ERROR after a complete response if it has not read the request.
        if code != ErrorCodes.NO_ERROR or ":status" not in self._headers:
            raise AnswerError(f"the server ended the HTTP/2 stream with error {code}")
        self.complete = True

    def response(self) -> Response:
        """Return the response.

        Raises:
            AnswerError: if the response has no status.
        """
        status = self._headers.pop(":status", "")
        if not re.fullmatch("[0-9]{3}", status):
            raise AnswerError("the HTTP/2 answer has no status")
        headers = _bounded(self._headers.items())
        return Response(status=int(status), headers=headers, body=bytes(self._body[:BODY_LIMIT]))


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def _bounded(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return headers as :class:`Response` has them; the libraries bound their octets, not what is kept."""
    last = {name.lower(): value for name, value in headers}
    return {
        printable(name): printable(value, LINE_LIMIT) for name, value in islice(last.items(), _MOST_HEADERS)
    }


def _over_http1(stream: Stream, listener: Listener, request: Request) -> Response:
    method, path, lines, content = _build(listener, request)
    http = h11.Connection(our_role=h11.CLIENT, max_incomplete_event_size=_LONGEST_HEAD)
    sent = http.send(h11.Request(method=method, target=path, headers=[*lines, ("Connection", "close")]))
    sent = (sent or b"") + (http.send(h11.Data(data=content)) or b"")
    # A server may answer before it has read the request, and close.
    with contextlib.suppress(WriteError):
        stream.write(sent + (http.send(h11.EndOfMessage()) or b""))
    head: h11.Response | h11.InformationalResponse | None = None
    # Not decoded: a few octets with nested content encodings become gigabytes.
    body = bytearray()
    while len(body) < BODY_LIMIT:
        event = _next_event(http, stream)
        if isinstance(event, h11.EndOfMessage) or event is h11.PAUSED:
            break
        if isinstance(event, h11.Data):
            body += event.data[: BODY_LIMIT - len(body)]
        elif isinstance(event, h11.Response) or event.status_code == _SWITCHING_PROTOCOLS:
            head = event
    if head is None:
        raise AnswerError("the response has no head")
    joined: dict[str, str] = {}
    for name, value in ((_text(name), _text(value)) for name, value in head.headers):
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return Response(status=head.status_code, headers=_bounded(joined.items()), body=bytes(body))


def _next_event(http: h11.Connection, stream: Stream) -> Any:  # noqa: ANN401 - of h11's many
    while (event := http.next_event()) is h11.NEED_DATA:
        data = stream.read(_CHUNK)
        if not data and http.their_state is h11.SEND_RESPONSE:
            raise AnswerError("Server disconnected without sending a response.")
        http.receive_data(data)
    return event


def _host(listener: Listener) -> str:
    """Return the host that a request is for. The path of a socket is not a host (RFC 9110 section 7.2)."""
    return "localhost" if listener.is_socket else listener.authority


def _build(listener: Listener, request: Request) -> tuple[str, str, list[tuple[str, str]], bytes]:
    """Return method, path, headers and body."""
    headers = {
        # Go omits the zone of an address.
        "host": re.sub(r"%[^\]]*\]", "]", _host(listener)),
        "user-agent": _USER_AGENT,
        "accept": "*/*",
        "accept-encoding": "identity",
        **request.headers,
    }
    content, method = request.body, request.method
    if request.protocol is Protocol.GATEWAY:
        content, method = b"{}" if content is None else content, method or "POST"
        headers["content-type"] = "application/json"
    method = method or ("GET" if content is None else "POST")
    if content:
        headers["Content-Length"] = str(len(content))
    elif method in ("POST", "PUT", "PATCH"):
        headers = {"Content-Length": "0", **headers}
    path = quote(request.path.partition("#")[0], safe="%/:?[]@!$&'()*+,;=~^|")
    return method, path, [*headers.items()], content or b""
