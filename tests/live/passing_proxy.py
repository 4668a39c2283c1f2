"""A proxy that passes a connection on, unread but for how it begins, to a server chosen by that."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from certificates.choosing_server import first_record, server_name
from servers import Handler
from tls.hello_server import ClientHello, parse_client_hello


def passing(port_for: Callable[[str | None], int]) -> Handler:
    """Return a handler that passes a connection to the port that the function returns for its server name."""
    return routing(lambda begins: port_for(None if isinstance(begins, bytes) else server_name(begins)))


def routing(port_for: Callable[[ClientHello | bytes], int]) -> Handler:
    """Return a handler that passes a connection to the port for its hello, or its first four octets."""

    def handle(connection: socket.socket) -> None:
        begins: ClientHello | bytes = connection.recv(4, socket.MSG_PEEK | socket.MSG_WAITALL)
        if isinstance(begins, bytes) and begins[:1] == b"\x16":
            begins = parse_client_hello(first_record(connection))
        with socket.create_connection(("127.0.0.1", port_for(begins))) as server:
            back = threading.Thread(target=_copy, args=(server, connection), daemon=True)
            back.start()
            _copy(connection, server)
            back.join()

    return handle


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
