"""The TLS part of an attempt: what is offered and presented, and what the session tells afterwards.

Verifies nothing: trust is judged apart, from the served chain. Knows no HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass

from OpenSSL import SSL, crypto

from pytest_etcdtls.observations.attempt import Ending, TLSVersion
from pytest_etcdtls.pki.identity import Identity
from pytest_etcdtls.probes.dial import server_name
from pytest_etcdtls.probes.registry import Request
from pytest_etcdtls.probes.stream import WireStream
from pytest_etcdtls.target import Listener

_VERSIONS = {TLSVersion.TLS1_2: SSL.TLS1_2_VERSION, TLSVersion.TLS1_3: SSL.TLS1_3_VERSION}


def shake_hands(stream: WireStream, listener: Listener, request: Request, alpn: tuple[str, ...]) -> bool:
    """Make the handshake that the request asks for; return whether it finished on our side.

    A second handshake that the request asks for is made too; the first one counts.
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
        stream.trace.end(Ending.FAILED, text, local=True)
        return False
    if request.resume is not None and request.resume.session is not None:
        tls.set_session(request.resume.session)
    return stream.handshake() and (not request.renegotiate or stream.renegotiate())


def _context(version: TLSVersion | None, alpn: tuple[str, ...], identity: Identity) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_verify(SSL.VERIFY_NONE)
    # Weak keys and signatures of either side are for checks to find, not for our library to refuse.
    context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")
    floor, ceiling = (_VERSIONS[version],) * 2 if version else (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION)
    context.set_min_proto_version(floor)
    context.set_max_proto_version(ceiling)
    if alpn:
        context.set_alpn_protos([name.encode() for name in alpn])
    # NOTE: a connection has no call for these, and none may be added once there is a connection.
    for intermediate in identity.chain[1:]:
        context.add_extra_chain_cert(intermediate)
    return context


def _present(tls: SSL.Connection, identity: Identity) -> None:
    """Set the identity on the connection, so that another one of the same context can present another."""
    if identity.chain and identity.key is not None:
        tls.use_certificate(identity.chain[0])
        tls.use_privatekey(identity.key)


def leaf(stream: WireStream) -> bytes | None:
    """Return the DER of the served leaf."""
    certificate = stream.tls.get_peer_certificate() if stream.tls is not None else None
    return crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate) if certificate is not None else None


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What the TLS session tells when the attempt is over; the fields are those of an attempt."""

    version: str | None = None
    cipher: str | None = None
    group: str | None = None
    alpn: str = ""
    announced_ca: tuple[bytes, ...] = ()
    chain: tuple[bytes, ...] = ()


def session_facts(stream: WireStream | None) -> SessionFacts:
    """Return what the TLS session of a stream tells."""
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
        alpn=tls.get_alpn_proto_negotiated().decode("ascii", "replace") if done else "",
        announced_ca=tuple(name.public_bytes() for name in names),
        chain=tuple(crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate) for certificate in chain),
    )
