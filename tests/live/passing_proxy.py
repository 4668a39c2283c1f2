"""A proxy that passes a TLS connection on, unread but for the ClientHello, to a server chosen by its name."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from certificates.choosing_server import first_record, server_name
from servers import Handler
from tls.hello_server import parse_client_hello


def passing(port_for: Callable[[str | None], int]) -> Handler:
    """Return a handler that passes a connection to the port that the function returns for its server name."""

    def handle(connection: socket.socket) -> None:
        is_tls = connection.recv(1, socket.MSG_PEEK) == b"\x16"
        name = server_name(parse_client_hello(first_record(connection))) if is_tls else None
        with socket.create_connection(("127.0.0.1", port_for(name))) as server:
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
