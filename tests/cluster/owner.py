"""A program that tests run: an owner that starts a cluster, prints about it, and waits for its end."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from pytest_etcdtls.etcd.cluster import keep_message, start_cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.process import EtcdProcess
from pytest_etcdtls.etcd.sources import EtcdSource, binary_version


def main(binary: Path, size: int, directory: Path, manner: str) -> None:
    """Start, tell, and wait for the end of standard input.

    Args:
        binary: an etcd.
        size: number of members.
        directory: for the cluster.
        manner: ``fork`` to leave a child behind, ``keep`` to leave the cluster standing, else ``plain``.
    """
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored where the tests run under nohup, and inherited
    keep = manner == "keep"
    config = ClusterConfig(size=size)
    version = binary_version(binary)
    source = EtcdSource(kind="process", location=str(binary), version=version, why="a test")
    cluster = start_cluster(config, source, directory=directory, keep=keep)
    child = _fork() if manner == "fork" else None
    state = {
        "etcds": [member.server.pid for member in cluster.members if isinstance(member.server, EtcdProcess)],
        "directory": str(cluster.directory),
        "watchdog": cluster._home.watchdog.pid,
        "child": child,
    }
    with cluster:
        print(json.dumps(state), flush=True)  # noqa: T201
        sys.stdin.read()
    if keep:
        print(keep_message(cluster), flush=True)  # noqa: T201


def _fork() -> int:
    """Leave a child that has the open files of its parent, like one of multiprocessing."""
    child = os.fork()
    if child:
        return child
    os.close(1)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
