"""A live etcd for the suite to judge, and a runner of pytest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from plugin.live_etcd import Live, start_live
from plugin.runs import run
from plugin.unvisited import listening

__all__ = ["listening", "run"]


@pytest.fixture(scope="session")
def live(newest_etcd: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A conforming etcd, with the options of a live one."""
    with start_live(tmp_path_factory.mktemp("live"), newest_etcd) as found:
        yield found
