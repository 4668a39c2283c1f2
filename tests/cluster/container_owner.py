"""A program that tests run: an owner that starts a cluster of containers, prints about it, and waits."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pytest_etcdtls.etcd.cluster import start_cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.sources import EtcdSource


def main(image: str, size: int, directory: Path) -> None:
    version = image.rpartition(":")[2]
    source = EtcdSource(kind="container", location=image, version=version, why="a test")
    with start_cluster(ClusterConfig(size=size), source, directory=directory) as cluster:
        state = {
            "token": cluster.directory.name,
            "directory": str(cluster.directory),
            "watchdog": cluster._home.watchdog.pid,
        }
        print(json.dumps(state), flush=True)  # noqa: T201
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
