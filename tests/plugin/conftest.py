"""A live etcd for the suite to judge, and a runner of pytest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from plugin.live_etcd import Live, start_live
from plugin.runs import listening, run

__all__ = ["listening", "run"]


@pytest.fixture(scope="session")
def live(newest_etcd: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A conforming etcd, with the options of a live one."""
    with start_live(tmp_path_factory.mktemp("live"), newest_etcd) as found:
        yield found


@pytest.fixture(scope="session")
def open_etcd(newest_etcd: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """An etcd that accepts clients without a certificate."""
    directory = tmp_path_factory.mktemp("open")
    with start_live(directory, newest_etcd, client_cert_auth=False, trusted_ca_file=None) as live:
        yield live


@pytest.fixture
def binary(newest_etcd: Path) -> str:
    """The option that starts the newest etcd."""
    return f"--etcd-binary={newest_etcd}"
