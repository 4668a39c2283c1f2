"""Servers in a member list, which record every credential that is presented to them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography import x509
from OpenSSL import SSL, crypto
from servers import Server

from pytest_etcdtls.pki.profile import Identity

_ANSWER = b'HTTP/1.1 200 OK\r\nContent-Length: 23\r\nConnection: close\r\n\r\n{"etcdserver":"3.6.16"}'
_TLS_RECORD = 0x16


@dataclass
class Record:
    """What came to a server.

    Attributes:
        connections: number of TCP connections.
        certificates: that clients presented in a handshake.
        plain: first bytes of connections without TLS.
        received: application data inside TLS.
    """

    connections: int = 0
    certificates: list[x509.Certificate] = field(default_factory=list)
    plain: list[bytes] = field(default_factory=list)
    received: list[bytes] = field(default_factory=list)


class RecordingServer(Server):
    """Serves TLS with a certificate that depends on the number of the connection, and takes any client.

    Args:
        identity: the certificate and key to serve on a connection, counted from 1; ``None`` to answer
            nothing but plain HTTP.
        host: an address of loopback.
        ceiling: the highest TLS version, of ``SSL.TLS1_2_VERSION`` and ``SSL.TLS1_3_VERSION``.
    """

    def __init__(
        self,
        identity: Callable[[int], Identity | None],
        host: str = "127.0.0.1",
        ceiling: int = SSL.TLS1_3_VERSION,
    ) -> None:
        self.record = Record()
        self._identity = identity
        self._ceiling = ceiling
        self._lock = threading.Lock()
        super().__init__(self._record, host, seconds=10)
        self.host = host

    @property
    def authority(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"

    def _record(self, connection: socket.socket) -> None:
        with self._lock:
            self.record.connections += 1
            identity = self._identity(self.record.connections)
        first = connection.recv(1, socket.MSG_PEEK)
        if not first:
            return
        if first[0] != _TLS_RECORD:
            self.record.plain.append(connection.recv(65536))
            if identity is None:
                connection.sendall(_ANSWER)
        elif identity is not None:
            self._serve_tls(connection, identity)

    def _serve_tls(self, connection: socket.socket, identity: Identity) -> None:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_max_proto_version(self._ceiling)
        context.set_verify(SSL.VERIFY_PEER, self._note)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_options(SSL.OP_NO_TICKET)
        context.use_certificate(identity.chain[0])
        for issuer in identity.chain[1:]:
            context.add_extra_chain_cert(issuer)
        assert identity.key is not None
        context.use_privatekey(identity.key)
        tls = SSL.Connection(context, connection)
        connection.setblocking(True)
        tls.set_accept_state()
        tls.do_handshake()
        self.record.received.append(tls.recv(65536))
        tls.sendall(_ANSWER)
        tls.shutdown()

    def _note(
        self, _tls: SSL.Connection, certificate: crypto.X509, _error: int, depth: int, _ok: int
    ) -> bool:
        if depth == 0:
            self.record.certificates.append(certificate.to_cryptography())
        return True
