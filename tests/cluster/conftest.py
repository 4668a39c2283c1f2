"""Starting clusters of processes in tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.cluster.process import ProcessCluster
from pytest_etcdtls.cluster.sources import binary_version

Start = Callable[..., ProcessCluster]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a cluster of processes that ends with the test."""
    with ExitStack() as stack:

        def start_one(config: ClusterConfig, binary: Path, **options: object) -> ProcessCluster:
            cluster = ProcessCluster(
                config,
                binary,
                binary_version(binary),
                directory=tmp_path,
                **options,  # type: ignore[arg-type]
            )
            return stack.enter_context(cluster)

        yield start_one
