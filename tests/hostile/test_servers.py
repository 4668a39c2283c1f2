"""Servers that are not etcd, or a faulty etcd: judging ends in time and memory, with a correct outcome."""

from __future__ import annotations

import itertools
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest
from hostile.broken_servers import (
    GRPC_HEADERS,
    HELLO12,
    STATUS_200,
    Served,
    by_byte,
    certificate_message,
    every_second,
    forever,
    fragmented,
    grpc_answer,
    half_then,
    handshake_message,
    headers_frame,
    hold,
    literal,
    once,
)
from hostile.hostile_servers import Hostile, Judging
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    RstStreamFrame,
    SettingsFrame,
)
from servers import Handler, reset
from tls.hello_server import alert

SECONDS = 150.0
"""A run takes a few on a quiet machine."""
MEBIBYTES = 150.0
"""Bound of memory at its peak. Judging a good server takes about 60."""
CHECKS = (
    "--etcd-check=listener,cert.trusted,cert.valid-now,tls.version-floor,mtls.no-certificate,"
    "mtls.plaintext-refused,api.version-body,api.healthy,api.grpc-range,api.grpc-over-http2-only"
)

UNDECIDED = {"inconclusive", "not-verified", "not-applicable"}
NO_DOUBT = ("cert.trusted", "cert.valid-now")
BY_REQUEST = ("api.version-body", "api.healthy", "api.grpc-range", "api.grpc-over-http2-only")


_NOTHING = dict.fromkeys(BY_REQUEST, UNDECIDED)
_CONFORMS = {"conforms"}

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def _for_ever(part: bytes) -> Iterator[bytes]:
    return itertools.repeat(part * max(1, 4096 // len(part)))


def _well(connection: socket.socket, data: bytes) -> None:
    connection.sendall(data)


def _silent_on_version(stream: ssl.SSLSocket, request: bytes) -> None:
    if b" /version " not in request:
        stream.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


Make = Callable[[Served], Handler]

BEFORE_TRUST: Mapping[str, Make] = {
    "garbage without end": lambda _: forever(b"\xa5"),
    "a record header for 65,535 octets that do not follow": lambda _: once(
        b"\x16\x03\x03\xff\xff", then=hold
    ),
    "empty handshake records without end": lambda _: forever(b"\x16\x03\x03\0\0"),
    "warning alerts without end": lambda _: forever(alert(90, level=1)),
    "ChangeCipherSpec without end": lambda _: forever(b"\x14\x03\x03\0\1\1"),
    "a ServerHello of 16 MB": lambda _: forever(
        b"\x16\x03\x03\x40\0" + bytes(16384), handshake_message(2, b"", length=0xFFFFFF)
    ),
    "an empty list of certificates": lambda _: once(HELLO12 + certificate_message(), then=hold),
    "garbage in place of a certificate": lambda _: once(
        HELLO12 + certificate_message(b"\xa5" * 500), then=hold
    ),
    "CertificateRequest without end": lambda _: forever(handshake_message(13, b"\1\1\0\0\0\0"), HELLO12),
    "a handshake, an octet every 10 ms": lambda s: s.relayed(by_byte(0.01)),
    "closes in the middle of its first flight": lambda s: s.relayed(half_then(lambda c: c.close())),
    "resets in the middle of its first flight": lambda s: s.relayed(half_then(reset)),
    "stops in the middle of its first flight": lambda s: s.relayed(half_then(hold)),
}

AFTER_HANDSHAKE: Mapping[str, Make] = {
    "requests a renegotiation repeatedly": lambda s: s.renegotiating(),
    "closes after the handshake": lambda s: s.tls(lambda *_: None),
    "sends nothing after the handshake": lambda s: s.tls(lambda stream, _: hold(stream)),
    "header lines without end": lambda s: s.http1(OK, _for_ever(b"X-A: b\r\n")),
    "trailers without end": lambda s: s.http1(CHUNKED + b"0\r\n", _for_ever(b"X-A: b\r\n")),
    "Content-Length larger than the body": lambda s: s.http1(OK + b"Content-Length: 100\r\n\r\n", b"{}"),
    "a Content-Length of 5,000 digits": lambda s: s.http1(
        OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", b"{}"
    ),
    "100 Continue without end": lambda s: s.http1(b"", _for_ever(b"HTTP/1.1 100 Continue\r\n\r\n")),
    "letters as the HTTP status": lambda s: s.http1(b"HTTP/1.1 abc\r\n\r\n"),
    "NUL in a header": lambda s: s.http1(OK + b"X-A: a\0b\r\nContent-Length: 2\r\n\r\n", b"{}"),
}

NOT_ETCD: Mapping[str, Make] = {
    "a chain of 100 certificates": lambda s: s.chain_of(100),
    "a CertificateRequest with 1,200 CAs, the largest possible": lambda s: s.asking_for(1200),
    "1,000 session tickets": lambda s: s.tickets(1000),
    "chunks without end": lambda s: s.http1(CHUNKED, _for_ever(b"400\r\n" + b"x" * 1024 + b"\r\n")),
    "a chunk of 2^64 octets": lambda s: s.http1(CHUNKED + b"FFFFFFFFFFFFFFFF\r\n", _for_ever(b"x")),
    "Content-Length smaller than the body": lambda s: s.http1(
        OK + b"Content-Length: 1\r\n\r\n", b'{"etcdserver":"3.6.16"}'
    ),
    "status 999": lambda s: s.http1(b"HTTP/1.1 999 \r\nContent-Length: 2\r\n\r\n", b"{}"),
}

HTTP2: Mapping[str, Make] = {
    "SETTINGS without end": lambda s: s.http2(endless=SettingsFrame(0, settings={3: 100})),
    "empty DATA frames without end": lambda s: s.http2(GRPC_HEADERS, endless=DataFrame(1)),
    "DATA without end": lambda s: s.http2(GRPC_HEADERS, endless=DataFrame(1, data=bytes(16000))),
    "CONTINUATION without end": lambda s: s.http2(
        headers_frame(STATUS_200, ends_headers=False),
        endless=ContinuationFrame(1, data=literal(b"a", bytes(1000))),
    ),
    "informational HEADERS without end": lambda s: s.http2(
        endless=headers_frame(literal(b":status", b"103"))
    ),
    "RST_STREAM without end": lambda s: s.http2(endless=RstStreamFrame(1, error_code=11)),
    "a frame of 16 MB": lambda s: s.http2(b"\xff\xff\xff\0\0\0\0\0\1" + bytes(70000)),
    "HPACK garbage": lambda s: s.http2(headers_frame(b"\xff" * 5)),
    "HEADERS without a status": lambda s: s.http2(headers_frame(literal(b"a", b"b"), ends_stream=True)),
    "letters as the grpc-status": lambda s: s.http2(*grpc_answer((b"grpc-status", b"abc"))),
    "a grpc-status of 5,000 digits": lambda s: s.http2(*grpc_answer((b"grpc-status", b"9" * 5000))),
    "no grpc-status": lambda s: s.http2(*grpc_answer((b"x", b"y"))),
    "control sequences in grpc-message": lambda s: s.http2(
        *grpc_answer((b"grpc-status", b"13"), (b"grpc-message", b"%1B[31m%0A149 passed"))
    ),
}

WELL: Mapping[str, Make] = {
    "a correct response, for comparison": lambda s: s.relayed(_well),
    "handshake records of one octet": lambda s: s.relayed(fragmented),
    "everything in segments of one octet": lambda s: s.relayed(by_byte(0)),
}

FLAPPING: Mapping[str, Make] = {
    "closes on a request for /version, 404 to every other request": lambda s: s.tls(_silent_on_version),
    "every second connection is closed": lambda s: every_second(s.relayed(_well), lambda c: c.close()),
    "every second connection is reset": lambda s: every_second(s.relayed(_well), reset),
}

Expected = Mapping[str, set[str]]
KINDS: Sequence[tuple[Mapping[str, Make], Expected]] = (
    (BEFORE_TRUST, _NOTHING | dict.fromkeys((*NO_DOUBT, "mtls.no-certificate"), UNDECIDED)),
    (AFTER_HANDSHAKE, _NOTHING | dict.fromkeys(NO_DOUBT, _CONFORMS) | {"listener.is-etcd": UNDECIDED}),
    (NOT_ETCD, _NOTHING | {"listener.is-etcd": UNDECIDED | {"violates"}}),
    (
        HTTP2,
        dict.fromkeys((*NO_DOUBT, "api.version-body"), _CONFORMS)
        | {"api.grpc-range": UNDECIDED | {"violates", "warns"}},
    ),
    (
        FLAPPING,
        dict.fromkeys(
            (*NO_DOUBT, *BY_REQUEST, "listener.is-etcd", "mtls.no-certificate"), UNDECIDED | _CONFORMS
        ),
    ),
    (
        WELL,
        dict.fromkeys((*NO_DOUBT, "listener.is-etcd", "api.version-body", "api.healthy"), _CONFORMS)
        | {"mtls.no-certificate": UNDECIDED | _CONFORMS},
    ),
)
"""How far a client gets, and the outcomes that are right then, by check."""


@pytest.mark.parametrize(
    ("make", "expected"),
    [pytest.param(make, expected, id=name) for servers, expected in KINDS for name, make in servers.items()],
)
def test_a_server(hostile: Hostile, judge: Judging, make: Make, expected: Expected) -> None:
    url = f"https://127.0.0.1:{hostile.raw(make(Served(hostile.pki)))}"
    judged = judge(*hostile.options(url), CHECKS, "--etcd-timeout=1")
    assert judged.exit_code in (0, 1), judged.output
    results = judged.results(url)
    wrong = {
        check: (result["outcome"], result["reason"])
        for check, result in results.items()
        if result["outcome"] == "broken" or result["outcome"] not in expected.get(check, {result["outcome"]})
    }
    assert (wrong, expected.keys() - results.keys()) == ({}, set())
    assert judged.seconds < SECONDS
    assert judged.mebibytes < MEBIBYTES
