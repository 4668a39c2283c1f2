"""Servers of our own for faults that no etcd has."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

import pytest
from OpenSSL import SSL

from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.profile import MemberNames, PKIPlan
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener

Handler = Callable[[socket.socket], None]


class Server:
    """Hands each connection to a function in a thread of its own.

    Args:
        handler: what is done with a connection; an error of the connection ends it.
        host: address that is listened on.
        seconds: time-out of a handler's reads and writes; ``None`` for none.
        port: port that is listened on; 0 for a free one.

    Attributes:
        port: the port that is listened on.
        listening: the socket that listens.
        accepted: connections so far.
        open: those of them that have not ended.
        threads: of the connections.
    """

    def __init__(
        self, handler: Handler, host: str = "127.0.0.1", seconds: float | None = 30, port: int = 0
    ) -> None:
        self._handler = handler
        self._seconds = seconds
        self.open: set[socket.socket] = set()
        self.threads: list[threading.Thread] = []
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listening = socket.create_server((host, port), family=family, backlog=128)
        self.port = int(self.listening.getsockname()[1])
        self.accepted = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def listener(self, scheme: str = "https", role: Role = Role.CLIENT, member: str = "m0") -> Listener:
        """Return the server as a listener of a target."""
        return Listener(
            role=role,
            scheme="https" if scheme == "https" else "http",
            host="127.0.0.1",
            port=self.port,
            member=member,
            label=f"{role}-{member}",
        )

    def close(self) -> None:
        """Stop accepting, and end every connection."""
        with contextlib.suppress(OSError):
            self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        self._thread.join(timeout=10)
        for connection in list(self.open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            self.accepted += 1
            self.open.add(connection)
            thread = threading.Thread(target=self._handle, args=(connection,), daemon=True)
            self.threads.append(thread)
            thread.start()

    def _handle(self, connection: socket.socket) -> None:
        connection.settimeout(self._seconds)
        with connection, contextlib.suppress(OSError, ValueError, SSL.Error):
            self._handler(connection)
        self.open.discard(connection)


def reset(connection: socket.socket) -> None:
    """Close with a RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> tuple[ClusterPKI, Path]:
    """A PKI and the directory with its files."""
    generated = ClusterPKI.generate(PKIPlan(), [MemberNames("m0")])
    directory = tmp_path_factory.mktemp("servers") / "pki"
    generated.write(directory)
    return generated, directory


@pytest.fixture
def serve() -> Iterator[Callable[[Handler], Server]]:
    """Start servers; they are closed at the end."""
    started: list[Server] = []

    def start(handler: Handler) -> Server:
        started.append(Server(handler, seconds=None))
        return started[-1]

    yield start
    for server in started:
        server.close()


def etcd_context(
    directory: Path,
    role: Role = Role.CLIENT,
    verify: ssl.VerifyMode = ssl.CERT_REQUIRED,
    protocols: Sequence[str] = ("h2",),
) -> ssl.SSLContext:
    """Return a server's context as etcd's: h2 by ALPN, a certificate of the CA of that port is required."""
    name, authority = ("peer", "peer-ca") if role is Role.PEER else ("server", "client-ca")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "m0" / f"{name}.crt", directory / "m0" / f"{name}.key")
    context.load_verify_locations(directory / f"{authority}.crt")
    context.verify_mode = verify
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


@pytest.fixture
def tls_context(pki: tuple[ClusterPKI, Path]) -> ssl.SSLContext:
    """A server context that requests no client certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki[1] / "m0" / "server.crt", pki[1] / "m0" / "server.key")
    return context
