"""A port that records connections, for runs that must make none."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A socket that accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def nobody_came(server: socket.socket) -> bool:
    """Return whether there was no connection."""
    try:
        server.accept()
    except BlockingIOError:
        return True
    return False


def url_of(server: socket.socket) -> str:
    """Return the URL of the socket."""
    return f"https://127.0.0.1:{server.getsockname()[1]}"
