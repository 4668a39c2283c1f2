"""Starts a cluster with whatever backend its source names. Knows both, and nothing of how they do it."""

from __future__ import annotations

from pathlib import Path

from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.cluster.interface import Cluster
from pytest_etcdtls.cluster.process import ProcessCluster
from pytest_etcdtls.cluster.sources import EtcdSource

__all__ = ["EtcdSource", "start_cluster"]


def start_cluster(
    config: ClusterConfig, source: EtcdSource, *, directory: Path | None = None, keep: bool = False
) -> Cluster:
    """Start a cluster and wait until it serves clients.

    Args:
        config: what to start.
        source: which etcd, from :func:`~pytest_etcdtls.cluster.sources.find_etcd`.
        directory: where the cluster makes its own; the system's temporary one if not given.
        keep: leave it standing at the end.

    Raises:
        UsageError: if that etcd cannot express the configuration.
        ClusterStartError: if it does not come up; the message ends with the last lines of its log.
    """
    if source.kind == "container":
        from pytest_etcdtls.cluster.container import ContainerCluster

        return ContainerCluster(config, source.location, source.version, directory=directory, keep=keep)
    return ProcessCluster(config, source.location, source.version, directory=directory, keep=keep)
