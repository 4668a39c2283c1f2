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
from pytest_etcdtls.etcd.request import ClusterChoices


def main(backend: str, etcd: str, size: int, directory: Path, manner: str) -> None:
    """Start, tell, and wait for the end of standard input.

    Args:
        backend: ``binary`` or ``image``.
        etcd: a binary or an image.
        size: number of members.
        directory: for the cluster.
        manner: ``fork`` to leave a child behind, ``keep`` to leave the cluster standing, else ``plain``.
    """
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored where the tests run under nohup, and inherited
    keep = manner == "keep"
    choice: ClusterChoices = {"image": etcd} if backend == "image" else {"binary": etcd}
    cluster = start_cluster(ClusterConfig(size=size), directory=directory, keep=keep, **choice)
    child = _fork() if manner == "fork" else None
    state = {
        "etcds": [member.server.pid for member in cluster.members if isinstance(member.server, EtcdProcess)],
        "directory": str(cluster.directory),
        "token": cluster.directory.name,
        "watchdog": cluster._home.watchdog.pid,
        "child": child,
    }
    with cluster:
        print(json.dumps(state), flush=True)
        sys.stdin.read()
    if keep:
        print(keep_message(cluster), flush=True)


def _fork() -> int:
    """Leave a child that has the open files of its parent, like one of multiprocessing."""
    child = os.fork()
    if child:
        return child
    os.close(1)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]), sys.argv[5])
