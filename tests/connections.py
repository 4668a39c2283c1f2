"""A counter of the connections of a process."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch


@contextmanager
def counted_connections() -> Iterator[Counter[tuple[str, int]]]:
    """Count the TCP connections that this process opens meanwhile, by address and port."""
    made: Counter[tuple[str, int]] = Counter()
    connect = socket.socket.connect

    def counting(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            made[address[0], address[1]] += 1
        connect(self, address)

    with patch.object(socket.socket, "connect", counting):
        yield made
