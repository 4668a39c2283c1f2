"""Time to judge an etcd through a slow network."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from judging import judging_command
from timing import Timed, alternate, command

from pytest_etcdtls.etcd.cluster import start_cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.sources import EtcdSource

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from hostile.delaying_proxy import DelayingProxy

_DELAY = 0.025
"""Seconds that data takes in each direction. Connecting takes none, as with a port forwarding."""


def measure(source: EtcdSource, repeat: int, checks: str | None = None) -> list[Timed]:
    """Time the catalogue, directly and through a round trip of 50 ms, also one connection at a time.

    The cluster has one member. It is judged as in :mod:`judging`.
    """
    with start_cluster(ClusterConfig(), source) as cluster, tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        member = cluster.members[0]
        urls = (member.client_url, member.peer_url)
        proxies = [DelayingProxy(urlsplit(url).port or 0, _DELAY) for url in urls]
        client, peer = (f"https://127.0.0.1:{proxy.port}" for proxy in proxies)
        some = [f"--etcd-check={checks}"] if checks else []
        direct, slow = ([*judging_command(cluster, there), *some] for there in (urls, (client, peer)))
        timed = alternate(
            {
                "directly": lambda: command(direct, directory),
                "through 50 ms": lambda: command(slow, directory),
                "through 50 ms, --etcd-concurrency=1": lambda: command(
                    [*slow, "--etcd-concurrency=1"], directory
                ),
            },
            repeat,
        )
        for proxy in proxies:
            proxy.close()
    return timed
