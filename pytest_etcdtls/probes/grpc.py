"""One unary gRPC call over HTTP/2 on a stream that is already connected, trailers included.

Written on h2, since httpx gives no trailers and the status of a call is there (gRPC over HTTP/2,
"Responses"). Knows neither TLS nor what the status means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import httpcore
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

from pytest_etcdtls.observations.attempt import Response

_CHUNK = 65536


def call(
    stream: httpcore.NetworkStream,
    headers: Sequence[tuple[str, str]],
    message: bytes,
    limit: int,
) -> Response:
    """Make the call and return its answer: headers and trailers together, the body cut at ``limit`` octets.

    Args:
        stream: connected, TLS included.
        headers: of the request, pseudo-headers first; from :func:`request_headers`.
        message: the encoded request.
        limit: of the body, in octets.

    Raises:
        httpcore.NetworkError, httpcore.TimeoutException: from the stream.
        httpcore.RemoteProtocolError: if the server does not speak HTTP/2, or ends the call without answer.
    """
    http = H2Connection(H2Configuration(client_side=True, header_encoding=None))
    answer = _Answer(limit)
    try:
        http.initiate_connection()
        identifier = http.get_next_available_stream_id()
        http.send_headers(identifier, headers)
        http.send_data(identifier, b"\0" + len(message).to_bytes(4, "big") + message, end_stream=True)
        stream.write(http.data_to_send())
        while not answer.complete:
            data = stream.read(_CHUNK)
            if not data:
                raise httpcore.RemoteProtocolError("the connection ended before the gRPC answer was complete")
            for event in http.receive_data(data):
                answer.take(event, http)
            stream.write(http.data_to_send())
    except ProtocolError as error:
        raise httpcore.RemoteProtocolError(f"no HTTP/2: {error}") from error
    return answer.response()


def request_headers(scheme: str, authority: str, path: str, more: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the headers of a call to ``/package.Service/Method``, and more of them in lower case."""
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
        # grpc-go resets a stream with NO_ERROR after a whole answer to a request that it did not read up.
        if code != ErrorCodes.NO_ERROR or ":status" not in self._headers:
            raise httpcore.RemoteProtocolError(f"the server ended the HTTP/2 stream with error {code}")
        self.complete = True

    def response(self) -> Response:
        """Return what came.

        Raises:
            httpcore.RemoteProtocolError: if there is no status.
        """
        status = self._headers.pop(":status", "")
        if not status.isdigit():
            raise httpcore.RemoteProtocolError("the HTTP/2 answer has no status")
        return Response(status=int(status), headers=self._headers, body=bytes(self._body[: self._limit]))


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
