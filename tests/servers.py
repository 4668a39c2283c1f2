"""Servers of our own for faults that no etcd can be brought to."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.pki_plan import MemberNames, PKIPlan
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener

Handler = Callable[[socket.socket], None]


class Server:
    """Accepts connections one after the other and hands each to a function; counts them."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.accepted = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.accepted += 1
            with connection:
                try:
                    self._handler(connection)
                except OSError:
                    continue

    def close(self) -> None:
        """Stop accepting."""
        # A blocked accept() does not notice that its socket is closed elsewhere.
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(timeout=10)

    def listener(self, scheme: str = "https", role: Role = Role.CLIENT) -> Listener:
        """Return the server as a listener."""
        assert scheme in {"http", "https"}
        return Listener(
            role=role,
            scheme="https" if scheme == "https" else "http",
            host="127.0.0.1",
            port=self.port,
            member="m0",
            label=f"{role}-m0",
        )


def reset(connection: socket.socket) -> None:
    """Close with a RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> tuple[ClusterPKI, Path]:
    """A PKI and where it is written."""
    generated = ClusterPKI.generate(PKIPlan(), [MemberNames("m0")])
    directory = tmp_path_factory.mktemp("probes") / "pki"
    generated.write(directory)
    return generated, directory


@pytest.fixture
def serve() -> Iterator[Callable[[Handler], Server]]:
    """Start servers; they are closed at the end."""
    started: list[Server] = []

    def start(handler: Handler) -> Server:
        started.append(Server(handler))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture
def tls_context(pki: tuple[ClusterPKI, Path]) -> ssl.SSLContext:
    """A server context that asks nobody for a certificate."""
    _, directory = pki
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "m0" / "server.crt", directory / "m0" / "server.key")
    return context
