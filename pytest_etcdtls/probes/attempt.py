"""One attempt: connect, handshake, request, read, and what came of it.

An attempt never raises for what the server or the network did: that is its result.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import httpcore
import httpx
from OpenSSL import SSL, crypto

from pytest_etcdtls.observations.attempt import Attempt, Ending, Protocol, Response, Stage, TLSVersion
from pytest_etcdtls.pki.identity import Identity
from pytest_etcdtls.probes.exchange import send
from pytest_etcdtls.probes.registry import Request
from pytest_etcdtls.probes.stream import WireStream
from pytest_etcdtls.probes.trace import Trace, detail_of, way_of
from pytest_etcdtls.target import Listener

_VERSIONS = {TLSVersion.TLS1_2: SSL.TLS1_2_VERSION, TLSVersion.TLS1_3: SSL.TLS1_3_VERSION}
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
        session = _session(stream)
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
    )


def _connect(listener: Listener, deadline: float, trace: Trace) -> WireStream | None:
    host, port = listener.address
    try:
        connected = socket.create_connection((host, port), timeout=max(0.001, deadline - time.monotonic()))
    except TimeoutError:
        trace.end(Ending.TIMEOUT, f"no TCP connection to {host} port {port} in time")
        return None
    except OSError as error:
        trace.end(Ending.FAILED, f"no TCP connection to {host} port {port}: {error.strerror or error}")
        return None
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return WireStream(connected, deadline, trace)


def _converse(
    stream: WireStream, listener: Listener, request: Request, alpn: tuple[str, ...]
) -> Response | None:
    if not request.plaintext:
        context = _context(request.identity, request.version, alpn, stream.trace)
        if context is None or not stream.handshake(context, _server_name(listener)):
            return None
        if request.only_to is not None and request.only_to != _leaf(stream):
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


def _leaf(stream: WireStream) -> bytes | None:
    certificate = stream.tls.get_peer_certificate() if stream.tls is not None else None
    return crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate) if certificate is not None else None


def _context(
    identity: Identity, version: TLSVersion | None, alpn: tuple[str, ...], trace: Trace
) -> SSL.Context | None:
    """Build a client context that verifies nothing: trust is judged apart, from the served chain."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_verify(SSL.VERIFY_NONE)
    # Weak keys and signatures of either side are for checks to find, not for our library to refuse.
    context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")
    floor, ceiling = (_VERSIONS[version],) * 2 if version else (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION)
    context.set_min_proto_version(floor)
    context.set_max_proto_version(ceiling)
    if alpn:
        context.set_alpn_protos([name.encode() for name in alpn])
    if identity.chain and identity.key is not None:
        try:
            context.use_certificate(identity.chain[0])
            for intermediate in identity.chain[1:]:
                context.add_extra_chain_cert(intermediate)
            context.use_privatekey(identity.key)
        except SSL.Error as error:
            trace.end(
                Ending.FAILED, f"our OpenSSL does not take the identity {identity.name}: {error}", local=True
            )
            return None
    return context


def _server_name(listener: Listener) -> str | None:
    """Return the name for SNI: none for an address (RFC 6066 section 3)."""
    try:
        ipaddress.ip_address(listener.host.partition("%")[0])
    except ValueError:
        return listener.host
    return None


@dataclass(frozen=True, slots=True)
class _Session:
    """What the TLS session tells when the attempt is over."""

    version: str | None = None
    cipher: str | None = None
    group: str | None = None
    alpn: str = ""
    announced_ca: tuple[bytes, ...] = ()
    chain: tuple[bytes, ...] = ()


def _session(stream: WireStream | None) -> _Session:
    if stream is None or stream.tls is None:
        return _Session()
    tls = stream.tls
    names = tls.get_client_ca_list(as_cryptography=True) if stream.trace.certificate_requested else []
    chain = tls.get_peer_cert_chain() or []
    done = stream.trace.handshake_done
    return _Session(
        version=tls.get_protocol_version_name() if done else None,
        cipher=tls.get_cipher_name() if done else None,
        group=tls.get_group_name() if done else None,
        alpn=tls.get_alpn_proto_negotiated().decode("ascii", "replace") if done else "",
        announced_ca=tuple(name.public_bytes() for name in names),
        chain=tuple(crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate) for certificate in chain),
    )
