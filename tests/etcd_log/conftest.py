"""A live etcd that logs to a file, and a runner of pytest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from plugin.live_etcd import Live
from plugin.runs import run
from starting import start_process

from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.process import EtcdProcess

__all__ = ["run"]


@dataclass(frozen=True)
class Logged:
    """A running etcd, by the options that a user would give for it, and the file that it logs to."""

    cluster: Cluster
    live: Live
    file: Path


def logged(cluster: Cluster) -> Logged:
    """Return the cluster of one process as somebody's."""
    [member] = cluster.members
    assert isinstance(member.server, EtcdProcess)
    return Logged(cluster, Live.of(cluster), member.server.log_file)


@pytest.fixture
def etcd(newest_etcd: Path) -> Iterator[Logged]:
    """The newest etcd, one for each test: etcd drops similar lines from the 101st within a second."""
    with start_process(ClusterConfig(), newest_etcd) as cluster:
        yield logged(cluster)
