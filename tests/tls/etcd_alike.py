"""A TLS server of OpenSSL with the responses of an etcd, for faults that Go's TLS does not have."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from impostors.impostor import answers, impostor
from OpenSSL import SSL
from servers import Handler, Server, etcd_context

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.checks.results import CheckResult
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Bounds, Listener, PortCredentials, Target

_VERSION = b'{"etcdserver":"3.6.16","etcdcluster":"3.6.0"}'
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_VERSION), _VERSION)
)


@dataclass(frozen=True)
class Files:
    """A PKI, generated and written."""

    pki: ClusterPKI
    directory: Path

    def context(self, role: Role = Role.CLIENT) -> ssl.SSLContext:
        """Return a server context as etcd's, without ALPN."""
        return etcd_context(self.directory, role, protocols=())

    def target(self, *listeners: Listener, revocation: bool = False) -> Target:
        """Return a target with all credentials of the PKI."""
        client = PortCredentials(
            identities=(self.pki.client,), revoked=self.pki.revoked if revocation else None
        )
        peer = PortCredentials(identities=(self.pki.peer_client,))
        return Target(label="alike", origin="live", listeners=listeners, client=client, peer=peer)


def judge(target: Target, *checks: str) -> list[CheckResult]:
    """Judge with these checks; one connection at a time, always in the same order."""
    return run_checks(Observer(target, Bounds(timeout=10, concurrency=1)), select(checks))


def etcd_alike(
    context: ssl.SSLContext, refuses: Callable[[ssl.SSLSocket], bool] = lambda _: False
) -> Handler:
    """Return the handler of each connection.

    Args:
        context: the TLS context.
        refuses: returns whether it closes after the handshake without an answer, as etcd does for its CRL.
    """

    return impostor(answers("3.6.16"), lambda _: context, lambda stream, _: refuses(stream))


def forgetful(context: SSL.Context) -> Handler:
    """Return the same with pyOpenSSL and no session id context, which breaks resumption."""

    def handle(connection: socket.socket) -> None:
        stream = SSL.Connection(context, connection)
        stream.set_accept_state()
        data = b""
        try:
            stream.do_handshake()
            while b"\r\n\r\n" not in (data := data + stream.recv(4096)):
                pass
            stream.sendall(ANSWER)
            stream.shutdown()
        except SSL.Error as error:
            raise OSError(str(error)) from error

    return handle


def both_ports(servers: Sequence[Server]) -> tuple[Listener, Listener]:
    """Return two servers as the client and the peer listener of one member."""
    client, peer = servers
    return client.listener(role=Role.CLIENT), peer.listener(role=Role.PEER)
