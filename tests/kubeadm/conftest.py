"""A running kubeadm node, shared by the tests that only read it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from plugin.runs import run

from kubeadm.nodes import Cluster, running

__all__ = ["run"]

ADDRESS = "127.0.0.11"


@pytest.fixture(scope="session")
def control_plane(newest_etcd: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of one node, as kubeadm makes it, with the newest etcd."""
    with running(tmp_path_factory.mktemp("node"), newest_etcd, [ADDRESS]) as cluster:
        yield cluster


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that everybody reaches; those of pytest are their owner's alone."""
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)
