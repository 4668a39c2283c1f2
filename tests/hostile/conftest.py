"""Hostile servers, child runs that are pointed at them, and an etcd of somebody's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile.hostile_servers import hostile, judge
from plugin.live_etcd import Live, start_live
from servers import pki, serve

__all__ = ["hostile", "judge", "pki", "serve"]


@pytest.fixture(scope="session")
def live(newest_etcd: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A conforming etcd of one member."""
    with start_live(tmp_path_factory.mktemp("live"), newest_etcd) as live:
        yield live
