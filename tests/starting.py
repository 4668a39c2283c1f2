"""Starting a given binary or image in tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import yaml

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd.cluster import Cluster, start_cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.member import Member
from pytest_etcdtls.etcd.sources import EtcdSource, binary_version


def start_process(config: ClusterConfig, binary: Path) -> Cluster:
    """Start that binary.

    Raises:
        UsageError: if its version cannot express the configuration.
    """
    source = EtcdSource(
        kind="process", location=str(binary), version=binary_version(binary), why="a test asks for it"
    )
    return start_cluster(config, source)


def start_where_possible(config: ClusterConfig, binary: Path) -> Cluster:
    """Start that binary; skip the test if its version cannot express the configuration."""
    try:
        return start_process(config, binary)
    except UsageError as error:
        pytest.skip(f"not to be expressed in this version: {error}")


def stop(process: int) -> None:
    """Send SIGSTOP, and wait until every thread has seen it; SIGCONT continues the process."""
    os.kill(process, signal.SIGSTOP)
    while not all(
        ") T " in stat.read_text(encoding="utf-8", errors="replace")
        for stat in Path(f"/proc/{process}/task").glob("*/stat")
    ):
        pass


def write_manifest(member: Member, path: Path) -> None:
    """Write the manifest of a static pod that starts the member as it was started."""
    container = {"name": "etcd", "command": list(member.argv)}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "etcd"}}
    path.write_text(yaml.safe_dump({**pod, "spec": {"containers": [container]}}), encoding="utf-8")


def write_unit(member: Member, path: Path) -> None:
    """Write the systemd unit that starts the member as it was started."""
    words = " ".join(word.replace("%", "%%") for word in member.argv)
    path.write_text(f"[Service]\nType=notify\nExecStart={words}\n", encoding="utf-8")


def start_container(config: ClusterConfig, image: str) -> Cluster:
    """Start that image, which is a local one of ours and named by its version."""
    version = image.rpartition(":")[2]
    source = EtcdSource(kind="container", location=image, version=version, why="a test asks for it")
    return start_cluster(config, source)
