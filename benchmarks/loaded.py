"""Latency of a loaded etcd without a run, while it is judged, and while its restart is rehearsed.

``python benchmarks/loaded.py``, as root. One etcd gets puts of 256 octets from clients that wait for each
answer. What is done beside it takes turns, with nothing in every second one, so other load of the machine
slows all of them alike.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import ssl
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from urllib.parse import urlsplit

from timing import command

from pytest_etcdtls.etcd.cluster import start_cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.member import Member
from pytest_etcdtls.etcd.process import EtcdProcess
from pytest_etcdtls.etcd.sources import EtcdSource, binary_version, cached_binaries

_KEYS = 1000
_CLIENTS = 4


class Load:
    """Clients that put, and how long each of their requests took in each phase."""

    def __init__(self, member: Member) -> None:
        """Start them."""
        self.phase = ""
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._put, args=(member, n)) for n in range(_CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _put(self, member: Member, client: int) -> None:
        context = ssl.create_default_context(cafile=member.file("server-ca.crt"))
        context.load_cert_chain(member.file("client.crt"), member.file("client.key"))
        parts = urlsplit(member.client_url)
        connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, context=context)
        value = base64.b64encode(b"v" * 256).decode()
        for number in range(sys.maxsize):
            if self._ended.is_set():
                return
            key = base64.b64encode(f"{client}/{number % _KEYS}".encode()).decode()
            phase, began = self.phase, time.perf_counter()
            connection.request("POST", "/v3/kv/put", json.dumps({"key": key, "value": value}))
            connection.getresponse().read()
            if phase == self.phase:
                self.seconds[phase].append(time.perf_counter() - began)

    def end(self) -> None:
        """Wait until they have ended."""
        self._ended.set()
        for thread in self._threads:
            thread.join()


def main() -> None:
    """Print the latency of each phase."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeat", type=int, default=10)
    repeat: int = parser.parse_args().repeat
    newest = cached_binaries()[1][0]
    source = EtcdSource(
        kind="process", location=str(newest), version=binary_version(newest), why="the newest"
    )
    with start_cluster(ClusterConfig(), source) as cluster, tempfile.TemporaryDirectory() as name:
        member = cluster.members[0]
        if not isinstance(member.server, EtcdProcess):
            sys.exit("this needs an etcd that runs as a process")
        judge = [sys.executable, "-m", "pytest_etcdtls", f"--pid={member.server.pid}"]
        load = Load(member)
        try:
            for _ in range(repeat):
                for phase, arguments in (("judged", judge), ("rehearsed", [*judge, "--rehearse"])):
                    load.phase = "nothing"
                    threading.Event().wait(3)
                    load.phase = phase
                    command(arguments, Path(name), may_fail=True)
        finally:
            load.end()
    middle, most = (
        {phase: pick(times) for phase, times in load.seconds.items()}
        for pick in (statistics.median, lambda times: statistics.quantiles(times, n=20)[-1])
    )
    for phase in ("nothing", "judged", "rehearsed"):
        print(
            f"{phase:10} {len(load.seconds[phase]):6} puts: median {middle[phase] * 1000:6.2f} ms, "
            f"p95 {most[phase] * 1000:6.2f} ms, {most[phase] / most['nothing']:.2f} times that without"
        )


if __name__ == "__main__":
    main()
