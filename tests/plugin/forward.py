"""Forwards ports of this machine, as ``kubectl port-forward`` does: it ends at the first reset of a server.

forward.py PORT:TO_PORT...
"""

from __future__ import annotations

import os
import socket
import sys
import threading


def main() -> None:
    for ports in sys.argv[1:]:
        port, to_port = map(int, ports.split(":"))
        listening = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=_accept, args=(listening, to_port)).start()


def _accept(listening: socket.socket, to_port: int) -> None:
    while True:
        client, _ = listening.accept()
        server = socket.create_connection(("127.0.0.1", to_port))
        threading.Thread(target=_copy, args=(client, server)).start()
        threading.Thread(target=_copy, args=(server, client)).start()


def _copy(of: socket.socket, to: socket.socket) -> None:
    try:
        while data := of.recv(65536):
            to.sendall(data)
        to.shutdown(socket.SHUT_WR)
    except OSError:
        os._exit(1)


if __name__ == "__main__":
    main()
