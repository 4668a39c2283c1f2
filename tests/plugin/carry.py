"""Connects to a host and a port, and carries standard input and output, as ``nc HOST PORT`` does."""

from __future__ import annotations

import os
import socket
import sys
import threading


def main() -> None:
    connected = socket.create_connection((sys.argv[1], int(sys.argv[2])))

    def send() -> None:
        while data := os.read(0, 65536):
            connected.sendall(data)
        connected.shutdown(socket.SHUT_WR)

    threading.Thread(target=send, daemon=True).start()
    while data := connected.recv(65536):
        os.write(1, data)


if __name__ == "__main__":
    main()
