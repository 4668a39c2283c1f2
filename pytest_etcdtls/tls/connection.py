"""One connection: connect, handshake, request, read, and its result; also with several requests.

An attempt does not raise for an error of the server or the network: the error is its result.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import httpcore
import httpx
from OpenSSL import SSL, crypto

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.pki.profile import Identity
from pytest_etcdtls.role import Protocol, TLSVersion
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Attempt, Phase, Request, Response, StreamEnd
from pytest_etcdtls.tls.http import BODY_LIMIT, Calls, Exchanges, call_headers, send
from pytest_etcdtls.tls.stream import DialError, Trace, WireStream, detail_of, dial, ending_of, server_name
from pytest_etcdtls.untrusted import printable

_ALPN: dict[Protocol, tuple[str, ...]] = {
    Protocol.HTTP1: (),
    Protocol.GATEWAY: (),
    Protocol.HTTP2: ("h2",),
    Protocol.GRPC: ("h2",),
}


def make_attempt(listener: Listener, request: Request, timeout: float) -> Attempt:
    """Make one connection to the listener and return the attempt.

    Args:
        listener: where to.
        request: what to do.
        timeout: seconds for the whole attempt.
    """
    return make_attempts(listener, (request,), timeout).first


@dataclass(frozen=True, slots=True)
class Conversation:
    """What came of requests on one connection.

    Attributes:
        first: the attempt of the first request, as without the others.
        more: those of the requests after it, as far as they were made.
        trusted: every request was made, and the connection took the course that HTTP prescribes; if not,
            what is in ``more`` says nothing.
    """

    first: Attempt
    more: tuple[Attempt, ...] = ()
    trusted: bool = False


def make_attempts(
    listener: Listener,
    requests: Sequence[Request],
    timeout: float,
    goes_on: Callable[[], bool] = lambda: True,
) -> Conversation:
    """Make one connection to the listener, send one request after the other on it, and return the attempts.

    Args:
        listener: where to.
        requests: what to do. Those after the first are of its identity and version, and name nothing that
            concerns the connection.
        timeout: seconds for each request, of the first for the connection as well.
        goes_on: returns whether another request may be sent.
    """
    request, *others = requests
    started_at, started = datetime.now(UTC), time.monotonic()
    trace = Trace()
    alpn = request.alpn if request.alpn is not None else _ALPN[request.protocol]
    stream: WireStream | None = None
    response: Response | None = None
    http: Exchanges | Calls | None = None
    more: list[Attempt] = []
    trusted = False
    try:
        stream = _connect(listener, started + timeout, trace)
        if stream is not None:
            if others:
                http = (
                    Calls(stream, BODY_LIMIT)
                    if request.protocol is Protocol.GRPC
                    else Exchanges(stream, listener)
                )
            response = _converse(stream, listener, request, alpn, http)
            if request.keep is not None and stream.tls is not None and trace.handshake_done:
                request.keep.fill(stream.tls, bytes(stream.received or b""))
                stream.received = None
        first = _attempt(listener, request, alpn, stream, trace, response, started_at, started)
        if stream is not None and http is not None and response is not None:
            more, trusted = _go_on(stream, listener, others, http, first, timeout, goes_on)
    finally:
        if stream is not None:
            stream.close()
    return Conversation(first, tuple(more), trusted)


def _go_on(
    stream: WireStream,
    listener: Listener,
    requests: Sequence[Request],
    http: Exchanges | Calls,
    first: Attempt,
    timeout: float,
    goes_on: Callable[[], bool],
) -> tuple[list[Attempt], bool]:
    """Make the other requests of a connection, as long as nothing is unusual; return whether nothing was."""
    made: list[Attempt] = []
    response = first.response
    for number, request in enumerate(requests, 1):
        if not http.ready or not goes_on():
            return made, False
        started_at, started = datetime.now(UTC), time.monotonic()
        stream.go_on(started + timeout)
        response = _exchange(stream, listener, request, http, close=number == len(requests))
        attempt = _attempt(
            listener, request, first.offered_alpn, stream, stream.trace, response, started_at, started
        )
        made.append(replace(attempt, reused=True))
        if response is None or response.status in _ABOUT_THE_CONNECTION or response.status >= 500:
            return made, False
    stream.go_on(time.monotonic() + _CLOSE_SECONDS)
    return made, response is not None and http.ended_well(response)


_ABOUT_THE_CONNECTION = frozenset({400, 408, 421, 425, 429})
"""Status codes with which a server may answer for the connection and not for the request (RFC 9110)."""
_CLOSE_SECONDS = 0.05
"""Seconds for which anything behind the last response, or the server's close, is waited for."""


def _attempt(
    listener: Listener,
    request: Request,
    alpn: tuple[str, ...],
    stream: WireStream | None,
    trace: Trace,
    response: Response | None,
    started_at: datetime,
    started: float,
) -> Attempt:
    session = session_facts(stream)
    return Attempt(
        url=listener.url,
        purpose=request.purpose,
        identity=request.identity.name,
        protocol=request.protocol,
        ending=ending_of(trace),
        phase=trace.phase,
        started_at=started_at,
        stream_end=trace.stream_end,
        offered_version=request.version,
        offered_alpn=alpn,
        alert=trace.alert,
        detail=detail_of(trace),
        local=trace.local,
        certificate_requested=trace.certificate_requested,
        first_bytes=trace.first_bytes,
        response=response,
        local_address=stream.local_address if stream is not None else "",
        milliseconds=round((time.monotonic() - started) * 1000, 3),
        version=session.version,
        cipher=session.cipher,
        group=session.group,
        alpn=session.alpn,
        announced_ca=session.announced_ca,
        chain=session.chain,
        resumed=trace.handshake_done and not trace.certificate_read,
        ticket=trace.ticket_read,
        renegotiated=trace.renegotiated,
        key_proved=trace.key_proved or trace.handshake_done,
    )


def _connect(listener: Listener, deadline: float, trace: Trace) -> WireStream | None:
    try:
        return WireStream(dial(listener, deadline), deadline, trace)
    except DialError as error:
        trace.end(error.stream_end, str(error))
        return None


def _converse(
    stream: WireStream,
    listener: Listener,
    request: Request,
    alpn: tuple[str, ...],
    http: Exchanges | Calls | None,
) -> Response | None:
    if not request.plaintext:
        if not shake_hands(stream, listener, request, alpn):
            return None
        if request.only_to is not None and request.only_to != leaf(stream):
            stream.trace.end(StreamEnd.FAILED, _ANOTHER)
            return None
    return _exchange(stream, listener, request, http, close=False)


def _exchange(
    stream: WireStream, listener: Listener, request: Request, http: Exchanges | Calls | None, *, close: bool
) -> Response | None:
    """Send a request and return the response; ``http`` is given if there are others for the connection."""
    stream.trace.phase = Phase.REQUEST
    response = None
    try:
        match http:
            case Calls():
                response = http.make(call_headers(listener, request), request.body or b"")
            case Exchanges():
                response = http.make(request, close=close)
            case None:
                response = send(stream, listener, request)
    except (
        httpx.HTTPError,
        httpcore.NetworkError,
        httpcore.ProtocolError,
        httpcore.TimeoutException,
        ValueError,
    ) as error:
        stream.trace.phase = Phase.READ
        stream.read_to_the_end()
        stream.trace.end(StreamEnd.FAILED, f"the answer is not {request.protocol}: {error}")
    stream.trace.phase = Phase.READ
    return response


_ANOTHER = "another certificate than before is served; nothing was sent"
_VERSIONS = {TLSVersion.TLS1_2: SSL.TLS1_2_VERSION, TLSVersion.TLS1_3: SSL.TLS1_3_VERSION}


def shake_hands(stream: WireStream, listener: Listener, request: Request, alpn: tuple[str, ...]) -> bool:
    """Make the handshake that the request asks for; return whether it finished on our side.

    If the request asks for a second handshake, it is made too; the result is that of the first one.
    """
    if request.resume is not None and request.resume.context is not None:
        context = request.resume.context
    else:
        context = _context(request.version, alpn, request.identity)
    if request.keep is not None:
        request.keep.watch(context)
        stream.received = bytearray()
    tls = stream.begin_tls(context, request.server_name or server_name(listener))
    try:
        _present(tls, request.identity)
    except SSL.Error as error:
        text = f"our OpenSSL does not take the identity {request.identity.name}: {error}"
        stream.trace.end(StreamEnd.FAILED, text, local=True)
        return False
    if request.proved is not None:
        _only_to(tls, request.proved, stream.trace)
    if request.resume is not None and request.resume.session is not None:
        tls.set_session(request.resume.session)
    return stream.handshake() and (not request.renegotiate or stream.renegotiate())


def _context(version: TLSVersion | None, alpn: tuple[str, ...], identity: Identity) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_verify(SSL.VERIFY_NONE)
    # Checks report weak keys and signatures of either side; our TLS library must not refuse them.
    context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")
    floor, ceiling = (_VERSIONS[version],) * 2 if version else (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION)
    context.set_min_proto_version(floor)
    context.set_max_proto_version(ceiling)
    if alpn:
        context.set_alpn_protos([name.encode() for name in alpn])
    # NOTE: a connection has no method to add intermediates; add them before a connection is made.
    for intermediate in identity.chain[1:]:
        context.add_extra_chain_cert(intermediate)
    return context


def _present(tls: SSL.Connection, identity: Identity) -> None:
    """Set the identity on the connection, so that connections of one context can present different ones."""
    if identity.chain and identity.key is not None:
        tls.use_certificate(identity.chain[0])
        tls.use_privatekey(identity.key)


def _only_to(tls: SSL.Connection, leaves: frozenset[bytes], trace: Trace) -> None:
    """End the handshake at the server's Certificate message if it holds another leaf.

    The client's certificate is sent later than that, in every version of TLS.
    """

    def is_proved(_tls: SSL.Connection, certificate: crypto.X509, _error: int, depth: int, _ok: int) -> bool:
        if depth == 0 and crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate) not in leaves:
            trace.end(StreamEnd.FAILED, _ANOTHER)
            return False
        return True

    tls.set_verify(SSL.VERIFY_PEER, is_proved)


def leaf(stream: WireStream) -> bytes | None:
    """Return the DER of the served leaf."""
    certificate = stream.tls.get_peer_certificate() if stream.tls is not None else None
    return crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate) if certificate is not None else None


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """Facts of the TLS session at the end of the attempt; the fields are those of :class:`Attempt`."""

    version: str | None = None
    cipher: str | None = None
    group: str | None = None
    alpn: str = ""
    announced_ca: tuple[bytes, ...] = ()
    chain: tuple[bytes, ...] = ()


def session_facts(stream: WireStream | None) -> SessionFacts:
    """Return the facts of a stream's TLS session."""
    if stream is None or stream.tls is None:
        return SessionFacts()
    tls = stream.tls
    names = tls.get_client_ca_list(as_cryptography=True) if stream.trace.certificate_requested else []
    chain = tls.get_peer_cert_chain() or []
    done = stream.trace.handshake_done
    return SessionFacts(
        version=tls.get_protocol_version_name() if done else None,
        cipher=tls.get_cipher_name() if done else None,
        group=tls.get_group_name() if done else None,
        alpn=printable(tls.get_alpn_proto_negotiated()) if done else "",
        announced_ca=tuple(_shared(name.public_bytes()) for name in names),
        chain=tuple(_shared(crypto.dump_certificate(crypto.FILETYPE_ASN1, one)) for one in chain),
    )


@functools.lru_cache(maxsize=256)
def _shared(octets: bytes) -> bytes:
    """Return the same object for equal octets: every attempt at a listener holds its chain."""
    return octets
