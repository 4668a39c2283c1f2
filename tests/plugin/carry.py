"""Connects to a host and a port, and carries standard input and output, as ``nc HOST PORT`` does.

With the path of a file that is not there, it creates it and fails at the first request without TLS.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path


def main() -> None:
    connected = socket.create_connection((sys.argv[1], int(sys.argv[2])))

    def send() -> None:
        while data := os.read(0, 65536):
            if data.startswith(b"GET ") and any(not Path(path).exists() for path in sys.argv[3:]):
                Path(sys.argv[3]).touch()
                os._exit(1)
            connected.sendall(data)
        connected.shutdown(socket.SHUT_WR)

    threading.Thread(target=send, daemon=True).start()
    while data := connected.recv(65536):
        os.write(1, data)


if __name__ == "__main__":
    main()
