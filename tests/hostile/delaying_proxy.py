"""A network between us and a server: slow, or without packets for chosen requests."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable

from servers import Server


class DelayingProxy(Server):
    """Passes connections on to a port of loopback.

    Args:
        port: where to.
        delay: seconds that data takes in each direction; it delays and does not slow down.
        swallows: given the first data of a connection, whether nothing of it is passed on.
        source: the address that the server sees.
    """

    def __init__(
        self,
        port: int,
        delay: float = 0.0,
        swallows: Callable[[bytes], bool] = lambda _: False,
        source: str = "127.0.0.1",
    ) -> None:
        self._to = port
        self._delay = delay
        self._swallows = swallows
        self._source = source
        super().__init__(self._pass_on)

    def _pass_on(self, client: socket.socket) -> None:
        first = client.recv(65536)
        if self._swallows(first):
            while client.recv(65536):
                pass
            return
        there, source = ("127.0.0.1", self._to), (self._source, 0)
        with socket.create_connection(there, timeout=30, source_address=source) as server:
            back = threading.Thread(target=self._carry, args=(server, client, b""), daemon=True)
            back.start()
            self._carry(client, server, first)
            back.join(timeout=30)

    def _carry(self, source: socket.socket, sink: socket.socket, first: bytes) -> None:
        """Carry data from one end to the other until the source ends."""
        on_the_way: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        if first:
            on_the_way.put((time.monotonic() + self._delay, first))

        def deliver() -> None:
            data = b"..."
            while data:
                due, data = on_the_way.get()
                threading.Event().wait(max(0.0, due - time.monotonic()))
                with contextlib.suppress(OSError):
                    sink.sendall(data) if data else sink.shutdown(socket.SHUT_WR)

        delivery = threading.Thread(target=deliver, daemon=True)
        delivery.start()
        data = b"..."
        while data:
            try:
                data = source.recv(65536)
            except OSError:
                data = b""
            on_the_way.put((time.monotonic() + self._delay, data))
        delivery.join(timeout=30)
