"""Time and memory to judge many members."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

from judging import judging_command
from timing import Timed, alternate

from pytest_etcdtls.etcd.cluster import start_cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.sources import EtcdSource

_MEMORY = """
import resource, subprocess, sys
ended = subprocess.run(sys.argv[1:], capture_output=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(ended.returncode not in (0, 1))
"""


def measure(source: EtcdSource, repeat: int, most: int) -> list[Timed]:
    """Time one member and so many by their client ports. The names have the most memory of a run.

    One etcd stands for all: every member is another URL, and ``--etcd-connect-to`` leads there.
    """
    mebibytes: dict[str, float] = {}

    def judge(name: str, arguments: list[str], directory: str) -> None:
        run = subprocess.run(
            [sys.executable, "-c", _MEMORY, *arguments],
            cwd=directory,
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        mebibytes[name] = max(mebibytes.get(name, 0.0), int(run.stdout) / 1024)

    with start_cluster(ClusterConfig(), source) as cluster, tempfile.TemporaryDirectory() as directory:
        url = cluster.members[0].client_url
        plain = [
            word
            for word in judging_command(cluster, (url, url))
            if not word.startswith(("--etcd-endpoint", "--etcd-peer"))
        ]
        runs = {}
        for number in (1, most):
            places = [f"127.0.{at // 200 + 1}.{at % 200 + 1}:{urlsplit(url).port}" for at in range(number)]
            options = [f"--etcd-endpoint=https://{place}" for place in places]
            options += [f"--etcd-connect-to={place}:127.0.0.1:{urlsplit(url).port}" for place in places]
            name = "1 member" if number == 1 else f"{number} members"
            runs[name] = partial(judge, name, [*plain, *options], directory)
        timed = alternate(runs, repeat)
    return [replace(one, name=f"{one.name}, {mebibytes[one.name]:.0f} MiB") for one in timed]
