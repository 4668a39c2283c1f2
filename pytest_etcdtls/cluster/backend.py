"""Starts a cluster with the backend that its source names."""

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
        config: the cluster's configuration.
        source: the etcd to start, from :func:`~pytest_etcdtls.cluster.sources.find_etcd`.
        directory: parent of the cluster's directory (default: the system's temporary directory).
        keep: leave the cluster running at the end.

    Raises:
        UsageError: if this version of etcd does not support the configuration.
        ClusterStartError: if the cluster does not start. The message ends with the last lines of its log.
    """
    if source.kind == "container":
        from pytest_etcdtls.cluster.container import ContainerCluster

        return ContainerCluster(config, source.location, source.version, directory=directory, keep=keep)
    return ProcessCluster(config, source.location, source.version, directory=directory, keep=keep)
