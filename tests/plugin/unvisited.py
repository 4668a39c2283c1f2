"""A port where somebody would be noticed, for runs that must connect to nobody."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A socket that would notice any connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def nobody_came(server: socket.socket) -> bool:
    """Return whether nobody has connected so far."""
    try:
        server.accept()
    except BlockingIOError:
        return True
    return False


def url_of(server: socket.socket) -> str:
    """Return the URL by which it would be met."""
    return f"https://127.0.0.1:{server.getsockname()[1]}"
