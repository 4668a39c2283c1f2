"""Time to start an owned cluster, compared with a cluster that has etcd's default timing."""

from __future__ import annotations

from dataclasses import replace

from timing import Timed, alternate

from pytest_etcdtls.etcd.cluster import start_cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.sources import EtcdSource

_AS_ETCD = ("--heartbeat-interval=100", "--election-timeout=1000", "--unsafe-no-fsync=false")
"""etcd's defaults; of two equal flags the last one counts."""


def measure(source: EtcdSource, size: int, repeat: int) -> list[Timed]:
    """Time a cluster from the issue of its certificates until it serves clients."""
    ours = ClusterConfig(size=size)
    theirs = replace(ours, extra_flags=_AS_ETCD)
    members = f"{size} member{'s' * (size > 1)}"
    return alternate(
        {
            f"start of {members}, etcd's own timing": lambda: _start(theirs, source),
            f"start of {members}": lambda: _start(ours, source),
        },
        repeat,
    )


def _start(config: ClusterConfig, source: EtcdSource) -> None:
    start_cluster(config, source).stop()
