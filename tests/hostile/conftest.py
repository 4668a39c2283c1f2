"""Hostile servers, child runs that are pointed at them, and an etcd of somebody's."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hostile.hostile_servers import hostile, judge
from impostors.staging import fake
from plugin.conftest import live
from servers import pki, serve

__all__ = ["fake", "hostile", "judge", "live", "pki", "serve"]


@pytest.fixture
def full() -> Iterator[str]:
    """The URL of a server to which no TCP connection is made: Linux drops a SYN while the queue is full."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(listening.getsockname())
        yield f"https://127.0.0.1:{listening.getsockname()[1]}"
