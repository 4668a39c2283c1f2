"""Starting clusters in tests."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd.cluster import Cluster, start_cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.engine import engine
from pytest_etcdtls.etcd.sources import EtcdSource, find_etcd

DEADLINE = 60.0
"""Seconds after which something counts as hanging; it is not an expected duration."""


def left_behind(token: str) -> list[str]:
    """Return the containers and networks of a cluster that the engine, if there is one, still has."""
    label = f"pytest-etcdtls={token}"
    left: list[str] = []
    with suppress(UsageError), engine() as client:
        containers = client.containers.list(all=True, filters={"label": label}, ignore_removed=True)
        left += [str(container.name) for container in containers]
        left += [str(network.name) for network in client.networks.list(filters={"label": label})]
    return left


def gone(pid: int) -> bool:
    """Wait for the end of a process that is not a child of this one."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], DEADLINE)[0])
    finally:
        os.close(process)


Start = Callable[..., Cluster]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a cluster of a binary, an image or a source; it ends with the test."""
    with ExitStack() as stack:

        def start_one(config: ClusterConfig, etcd: Path | str | EtcdSource, **options: object) -> Cluster:
            if isinstance(etcd, Path):
                etcd = find_etcd(binary=etcd)
            elif isinstance(etcd, str):
                etcd = find_etcd(image=etcd)
            # The options are those of start_cluster.
            cluster = start_cluster(config, etcd, directory=tmp_path, **options)  # type: ignore[arg-type]
            return stack.enter_context(cluster)

        yield start_one


@pytest.fixture
def newest_image(etcd_images: dict[str, str]) -> str:
    """The newest available image, where the version does not matter."""
    return list(etcd_images.values())[-1]
