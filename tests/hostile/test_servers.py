"""Servers that are not etcd, or a faulty etcd: judging ends in time and memory, with a correct outcome."""

from __future__ import annotations

import itertools
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from enum import Enum

import pytest
from hostile.broken_servers import (
    CONTINUATION_FLOOD,
    DATA_FLOOD,
    EMPTY_DATA_FLOOD,
    GO_AWAY,
    HELLO12,
    INFORMATIONAL_FLOOD,
    PING_FLOOD,
    RESET,
    SETTINGS_FLOOD,
    UNKNOWN_FLOOD,
    WARNINGS,
    WINDOW_FLOOD,
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
    trickle,
)
from hostile.judging_process import HANGS, TIMEOUT, Judged, JudgingProcess
from servers import Handler, Server, reset

MEBIBYTES = 150.0
"""Bound of memory at its peak. Judging a good server takes about 60."""

UNDECIDED = {"inconclusive", "not-verified", "not-applicable"}
NO_DOUBT = ("cert.trusted", "cert.valid-now")
BY_REQUEST = ("api.version-body", "api.healthy", "api.grpc-range", "api.grpc-over-http2-only")


class Kind(Enum):
    """How far a client gets, and what is decided then: sets of outcomes by check."""

    NO_HANDSHAKE = "no verdict about certificates, clients and API"
    NO_ANSWER = "the certificate is judged; no verdict about the API"
    NOT_ETCD = "the server is not accepted as an etcd; no verdict about the API"
    NO_GRPC = "version and health are judged; gRPC does not conform"
    FLAPPING = "each verdict is the same as without the fault"
    WELL = "as without the fault: the certificate, version and health conform"

    @property
    def expected(self) -> Mapping[str, set[str]]:
        """Outcomes that are right, by check."""
        conforms = {"conforms"}
        nothing = dict.fromkeys(BY_REQUEST, UNDECIDED)
        match self:
            case Kind.NO_HANDSHAKE:
                return {**nothing, **dict.fromkeys((*NO_DOUBT, "mtls.no-certificate"), UNDECIDED)}
            case Kind.NO_ANSWER:
                return {**nothing, **dict.fromkeys(NO_DOUBT, conforms), "listener.is-etcd": UNDECIDED}
            case Kind.NOT_ETCD:
                return {**nothing, "listener.is-etcd": UNDECIDED | {"violates"}}
            case Kind.NO_GRPC:
                refuted = UNDECIDED | {"violates", "warns"}
                return {**dict.fromkeys((*NO_DOUBT, "api.version-body"), conforms), "api.grpc-range": refuted}
            case Kind.FLAPPING:
                all_of_them = (*NO_DOUBT, *BY_REQUEST, "listener.is-etcd", "mtls.no-certificate")
                return dict.fromkeys(all_of_them, UNDECIDED | conforms)
            case Kind.WELL:
                well = (*NO_DOUBT, "listener.is-etcd", "api.version-body", "api.healthy")
                return {**dict.fromkeys(well, conforms), "mtls.no-certificate": UNDECIDED | conforms}


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
    "zeros without end": lambda _: forever(b"\0"),
    "garbage, an octet at a time": lambda _: trickle(b"\xa5"),
    "a record header for 65,535 octets that do not follow": lambda _: once(
        b"\x16\x03\x03\xff\xff", then=hold
    ),
    "empty handshake records without end": lambda _: forever(b"\x16\x03\x03\0\0"),
    "warning alerts without end": lambda _: forever(WARNINGS),
    "ChangeCipherSpec without end": lambda _: forever(b"\x14\x03\x03\0\1\1"),
    "HelloRequest without end": lambda _: forever(handshake_message(0, b"")),
    "ServerHello without end": lambda _: forever(HELLO12),
    "a ServerHello of 16 MB": lambda _: forever(
        b"\x16\x03\x03\x40\0" + bytes(16384), handshake_message(2, b"", length=0xFFFFFF)
    ),
    "a Certificate message of 16 MB": lambda _: forever(
        b"\x16\x03\x03\x40\0" + bytes(16384), HELLO12 + handshake_message(11, b"", length=0xFFFFFF)
    ),
    "an empty list of certificates": lambda _: once(HELLO12 + certificate_message(), then=hold),
    "garbage in place of a certificate": lambda _: once(
        HELLO12 + certificate_message(b"\xa5" * 500), then=hold
    ),
    "a certificate of length 0": lambda _: once(HELLO12 + certificate_message(b""), then=hold),
    "CertificateRequest without end": lambda _: forever(handshake_message(13, b"\1\1\0\0\0\0"), HELLO12),
    "a Certificate message, an octet every 50 ms": lambda _: once(
        HELLO12, then=trickle(b"\x16\x03\x03\0\1\x0b")
    ),
    "a handshake, an octet every 10 ms": lambda s: s.relayed(by_byte(0.01)),
    "closes in the middle of its first flight": lambda s: s.relayed(half_then(lambda c: c.close())),
    "resets in the middle of its first flight": lambda s: s.relayed(half_then(reset)),
    "stops in the middle of its first flight": lambda s: s.relayed(half_then(hold)),
}

AFTER_HANDSHAKE: Mapping[str, Make] = {
    "requests a renegotiation repeatedly": lambda s: s.renegotiating(),
    "closes after the handshake": lambda s: s.tls(lambda *_: None),
    "sends nothing after the handshake": lambda s: s.tls(lambda stream, _: hold(stream)),
    "garbage after the handshake": lambda s: s.tls(lambda stream, _: stream.sendall(b"\xa5" * 1000)),
    "header lines without end": lambda s: s.http1(OK, _for_ever(b"X-A: b\r\n")),
    "a header without end": lambda s: s.http1(OK + b"X-A: ", _for_ever(b"b")),
    "a status line without end": lambda s: s.http1(b"HTTP/1.1 200 ", _for_ever(b"O")),
    "a chunk extension without end": lambda s: s.http1(CHUNKED + b"1;", _for_ever(b"x")),
    "trailers without end": lambda s: s.http1(CHUNKED + b"0\r\n", _for_ever(b"X-A: b\r\n")),
    "Content-Length larger than the body": lambda s: s.http1(OK + b"Content-Length: 100\r\n\r\n", b"{}"),
    "a negative Content-Length": lambda s: s.http1(OK + b"Content-Length: -1\r\n\r\n", b"{}"),
    "a Content-Length of 5,000 digits": lambda s: s.http1(
        OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", b"{}"
    ),
    "two different Content-Length headers": lambda s: s.http1(
        OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n", b"{}"
    ),
    "100 Continue without end": lambda s: s.http1(b"", _for_ever(b"HTTP/1.1 100 Continue\r\n\r\n")),
    "letters as the HTTP status": lambda s: s.http1(b"HTTP/1.1 abc\r\n\r\n"),
    "NUL in a header": lambda s: s.http1(OK + b"X-A: a\0b\r\nContent-Length: 2\r\n\r\n", b"{}"),
    "an HTTP/0.9 response": lambda s: s.http1(b"", b"<html>"),
}

NOT_ETCD: Mapping[str, Make] = {
    "a chain of 20 certificates": lambda s: s.chain_of(20),
    "a chain of 100 certificates": lambda s: s.chain_of(100),
    "a CertificateRequest with 1,200 CAs, the largest possible": lambda s: s.asking_for(1200),
    "1,000 session tickets": lambda s: s.tickets(1000),
    "chunks without end": lambda s: s.http1(CHUNKED, _for_ever(b"400\r\n" + b"x" * 1024 + b"\r\n")),
    "a chunk of 2^64 octets": lambda s: s.http1(CHUNKED + b"FFFFFFFFFFFFFFFF\r\n", _for_ever(b"x")),
    "a body without end": lambda s: s.http1(OK + b"\r\n", _for_ever(b'{"a":')),
    "Content-Length smaller than the body": lambda s: s.http1(
        OK + b"Content-Length: 1\r\n\r\n", b'{"etcdserver":"3.6.16"}'
    ),
    "status 999": lambda s: s.http1(b"HTTP/1.1 999 \r\nContent-Length: 2\r\n\r\n", b"{}"),
}

HTTP2: Mapping[str, Make] = {
    "SETTINGS without end": lambda s: s.http2(SETTINGS_FLOOD),
    "PING without end": lambda s: s.http2(PING_FLOOD),
    "WINDOW_UPDATE without end": lambda s: s.http2(WINDOW_FLOOD),
    "empty DATA frames without end": lambda s: s.http2(EMPTY_DATA_FLOOD),
    "DATA without end": lambda s: s.http2(DATA_FLOOD),
    "CONTINUATION without end": lambda s: s.http2(CONTINUATION_FLOOD),
    "informational HEADERS without end": lambda s: s.http2(INFORMATIONAL_FLOOD),
    "frames of an unknown type without end": lambda s: s.http2(UNKNOWN_FLOOD),
    "RST_STREAM without end": lambda s: s.http2(RESET),
    "GOAWAY without end": lambda s: s.http2(GO_AWAY),
    "a frame of 16 MB": lambda s: s.http2(
        lambda: iter([b"\xff\xff\xff\0\0\0\0\0\1" + bytes(70000)]), ends=True
    ),
    "HPACK garbage": lambda s: s.http2(lambda: iter([headers_frame(b"\xff" * 5)]), ends=True),
    "HEADERS without a status": lambda s: s.http2(
        lambda: iter([headers_frame(literal(b"a", b"b"), ends_stream=True)]), ends=True
    ),
    "letters as the grpc-status": lambda s: s.http2(lambda: grpc_answer((b"grpc-status", b"abc")), ends=True),
    "a grpc-status of 5,000 digits": lambda s: s.http2(
        lambda: grpc_answer((b"grpc-status", b"9" * 5000)), ends=True
    ),
    "a negative grpc-status": lambda s: s.http2(lambda: grpc_answer((b"grpc-status", b"-1")), ends=True),
    "no grpc-status": lambda s: s.http2(lambda: grpc_answer((b"x", b"y")), ends=True),
    "control sequences in grpc-message": lambda s: s.http2(
        lambda: grpc_answer((b"grpc-status", b"13"), (b"grpc-message", b"%1B[31m%0A149 passed")), ends=True
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

CASES = [
    *((Kind.NO_HANDSHAKE, name, make) for name, make in BEFORE_TRUST.items()),
    *((Kind.NO_ANSWER, name, make) for name, make in AFTER_HANDSHAKE.items()),
    *((Kind.NOT_ETCD, name, make) for name, make in NOT_ETCD.items()),
    *((Kind.NO_GRPC, name, make) for name, make in HTTP2.items()),
    *((Kind.FLAPPING, name, make) for name, make in FLAPPING.items()),
    *((Kind.WELL, name, make) for name, make in WELL.items()),
]


@pytest.fixture(scope="module")
def judging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JudgingProcess]:
    """A process that judges what it is told to."""
    with JudgingProcess(tmp_path_factory.mktemp("judging")) as process:
        yield process


@pytest.mark.parametrize(("kind", "make"), [case[::2] for case in CASES], ids=[case[1] for case in CASES])
def test_a_server(judging: JudgingProcess, kind: Kind, make: Make) -> None:
    server = Server(make(Served(judging.pki)), seconds=20)
    try:
        judged = judging.judge(f"https://127.0.0.1:{server.port}")
    finally:
        server.close()
    assert server.accepted > 0
    _is_honest(judged, kind)


def _is_honest(judged: Judged, kind: Kind) -> None:
    # A signal or an exception is a status other than 0; SIGALRM after HANGS seconds.
    assert judged.status == 0, f"timeout {TIMEOUT:g} s; ended after {judged.seconds:.0f} of {HANGS} s"
    broken = {
        check: judged.reasons[check] for check, outcome in judged.outcomes.items() if outcome == "broken"
    }
    assert broken == {}
    wrong = {
        check: (judged.outcomes[check], judged.reasons[check])
        for check, right in kind.expected.items()
        if judged.outcomes[check] not in right
    }
    assert wrong == {}
    assert judged.mebibytes < MEBIBYTES
