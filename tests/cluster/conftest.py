"""Starting clusters of processes in tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pytest_etcdtls.etcd.cluster import Cluster, start_cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.member import Member
from pytest_etcdtls.etcd.process import EtcdProcess


def process_of(member: Member) -> EtcdProcess:
    """Return the process of a member of a cluster of processes."""
    assert isinstance(member.server, EtcdProcess)
    return member.server


Start = Callable[..., Cluster]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a cluster of processes that ends with the test."""
    with ExitStack() as stack:

        def start_one(config: ClusterConfig, binary: Path, **options: object) -> Cluster:
            # The options are those of start_cluster.
            cluster = start_cluster(config, binary=binary, directory=tmp_path, **options)  # type: ignore[arg-type]
            return stack.enter_context(cluster)

        yield start_one


@pytest.fixture
def newest_image(etcd_images: dict[str, str]) -> str:
    """The newest available image, where the version does not matter."""
    return list(etcd_images.values())[-1]
