"""One attempt: connect, handshake, request, read, and what came of it.

An attempt never raises for what the server or the network did: that is its result.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

import httpcore
import httpx

from pytest_etcdtls.observations.attempt import Attempt, Ending, Protocol, Response, Stage
from pytest_etcdtls.probes.dial import DialError, dial
from pytest_etcdtls.probes.exchange import send
from pytest_etcdtls.probes.handshake import leaf, session_facts, shake_hands
from pytest_etcdtls.probes.registry import Request
from pytest_etcdtls.probes.stream import WireStream
from pytest_etcdtls.probes.trace import Trace, detail_of, way_of
from pytest_etcdtls.target import Listener

_ALPN: dict[Protocol, tuple[str, ...]] = {
    Protocol.HTTP1: (),
    Protocol.GATEWAY: (),
    Protocol.HTTP2: ("h2",),
    Protocol.GRPC: ("h2",),
}


def make_attempt(listener: Listener, request: Request, timeout: float) -> Attempt:
    """Make one connection to the listener and return what came of it.

    Args:
        listener: where to.
        request: what to do.
        timeout: seconds for the whole attempt.
    """
    started_at, started = datetime.now(UTC), time.monotonic()
    trace = Trace()
    alpn = request.alpn if request.alpn is not None else _ALPN[request.speech]
    stream: WireStream | None = None
    response: Response | None = None
    local_address = ""
    try:
        stream = _connect(listener, started + timeout, trace)
        if stream is not None:
            local_address = stream.local_address
            response = _converse(stream, listener, request, alpn)
            if request.keep is not None and stream.tls is not None and trace.handshake_done:
                request.keep.fill(stream.tls, bytes(stream.received or b""))
        session = session_facts(stream)
    finally:
        if stream is not None:
            stream.close()
    return Attempt(
        url=listener.url,
        purpose=request.purpose,
        identity=request.identity.name,
        protocol=request.speech,
        way=way_of(trace),
        stage=trace.stage,
        started_at=started_at,
        ending=trace.ending,
        asked=request.version,
        offered_alpn=alpn,
        alert=trace.alert,
        detail=detail_of(trace),
        local=trace.local,
        certificate_requested=trace.certificate_requested,
        first_bytes=trace.first_bytes,
        response=response,
        local_address=local_address,
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
    )


def _connect(listener: Listener, deadline: float, trace: Trace) -> WireStream | None:
    try:
        return WireStream(dial(listener, deadline), deadline, trace)
    except DialError as error:
        trace.end(error.ending, str(error))
        return None


def _converse(
    stream: WireStream, listener: Listener, request: Request, alpn: tuple[str, ...]
) -> Response | None:
    if not request.plaintext:
        if not shake_hands(stream, listener, request, alpn):
            return None
        if request.only_to is not None and request.only_to != leaf(stream):
            stream.trace.end(Ending.FAILED, "another certificate than before is served; nothing was sent")
            return None
    stream.trace.stage = Stage.REQUEST
    response = None
    try:
        response = send(stream, listener, request)
    except (
        httpx.HTTPError,
        httpcore.NetworkError,
        httpcore.ProtocolError,
        httpcore.TimeoutException,
    ) as error:
        stream.trace.stage = Stage.READ
        stream.read_to_the_end()
        stream.trace.end(Ending.FAILED, f"the answer is not {request.speech}: {error}")
    stream.trace.stage = Stage.READ
    return response
