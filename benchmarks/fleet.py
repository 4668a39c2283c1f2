"""Measures many clusters, or one of many members, in one run: ``python benchmarks/fleet.py 10 300``.

All of them are one etcd of one member, under as many labels: what is measured is our side. Seconds of the
processor depend less on other work than those on the wall. Nothing here is asserted anywhere; what was
measured once is in ``docs/measured.md``.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from run import _about, _etcd, _load

from pytest_etcdtls.etcd.cluster import Cluster, start_cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.sources import EtcdSource


class Measured(NamedTuple):
    """Time and memory of one run with its workers; ``peak`` in MiB, of the largest process."""

    wall: float
    processor: float
    peak: float
    last: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each number in turn and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("numbers", nargs="+", type=int, help="how many clusters")
    parser.add_argument("--members", action="store_true", help="one cluster of so many members instead")
    parser.add_argument("--silent", type=int, default=0, help="so many more that accept and say nothing")
    parser.add_argument("--workers", type=int, default=0, help="processes of pytest-xdist (default: none)")
    parser.add_argument("--etcd", metavar="VERSION", help="which of those at hand (default: the newest)")
    options = parser.parse_args(arguments)
    source = _etcd(options.etcd)
    for line in _about(source, 1):
        print(line)
    print(f"\n| {'members' if options.members else 'clusters'} | wall | processor | peak memory | |")
    print("|--:|--:|--:|--:|---|")
    with (
        tempfile.TemporaryDirectory() as directory,
        _started(source) as cluster,
        socket.create_server(("127.0.0.1", 0), backlog=512) as silent,
    ):
        for number in options.numbers:
            one = _members if options.members else _clusters
            given = [*one(cluster, Path(directory), number)]
            if options.silent:
                path = Path(directory) / "clusters.toml"
                url = f"https://127.0.0.1:{silent.getsockname()[1]}"
                tables = [
                    f'[[cluster]]\nlabel = "silent-{place}"\nendpoints = "{url}"\n'
                    for place in range(options.silent)
                ]
                path.write_text("".join([*tables, path.read_text(encoding="utf-8")]), encoding="utf-8")
            found = _measured(Path(directory), given, options.workers)
            print(
                f"| {number} | {found.wall:.1f} s | {found.processor:.1f} s | {found.peak:.0f} MiB "
                f"| {found.last} |",
                flush=True,
            )
    print(f"\nload at the end: {_load()}")
    return 0


def _started(source: EtcdSource) -> Cluster:
    flags = ("--heartbeat-interval=100", "--election-timeout=500")
    return start_cluster(ClusterConfig(extra_flags=flags), source)


def _credentials(cluster: Cluster) -> Iterator[tuple[str, Path]]:
    names = {
        **{"cacert": "server-ca.crt", "cert": "client.crt", "key": "client.key"},
        **{"peer-cacert": "peer-ca.crt", "peer-cert": "peer-client.crt", "peer-key": "peer-client.key"},
    }
    yield from ((name, cluster.pki_directory / file) for name, file in names.items())


def _clusters(cluster: Cluster, directory: Path, number: int) -> Iterator[str]:
    member = cluster.members[0]
    own = f'endpoints = "{member.client_url}"\npeer-endpoints = "{member.peer_url}"\n'
    own += "".join(f'{name} = "{file}"\n' for name, file in _credentials(cluster))
    tables = (f'[[cluster]]\nlabel = "cluster-{place}"\n{own}' for place in range(number))
    (directory / "clusters.toml").write_text("\n".join(tables), encoding="utf-8")
    yield f"--etcd-clusters={directory / 'clusters.toml'}"
    yield from (f"--etcd-report={directory}/{name}" for name in ("reports/", "report.html", "report.prom"))


def _members(cluster: Cluster, directory: Path, number: int) -> Iterator[str]:
    """Yield the options of members with names of their own, which are this one."""
    for role, url in (("", cluster.members[0].client_url), ("peer-", cluster.members[0].peer_url)):
        port = url.rpartition(":")[2]
        for place in range(number):
            yield f"--etcd-{role}endpoint=https://m{place}.test:{port}"
        yield f"--etcd-connect-to=:{port}:127.0.0.1:{port}"
    yield from (f"--etcd-{name}={file}" for name, file in _credentials(cluster))


def _measured(directory: Path, options: Sequence[str], workers: int) -> Measured:
    spread = [f"-n{workers}", "--dist=worksteal"] if workers else []
    arguments = ["-p", "no:randomly", "-p", "no:cacheprovider", "-q", "--pyargs", "pytest_etcdtls", *spread]
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *arguments, *options],
        cwd=directory,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    output = process.stdout.read() if process.stdout else ""
    _, _, used = os.wait4(process.pid, 0)
    return Measured(
        time.monotonic() - started,
        used.ru_utime + used.ru_stime,
        used.ru_maxrss / 1024,
        output.rstrip().rpartition("\n")[2],
    )


if __name__ == "__main__":
    sys.exit(main())
