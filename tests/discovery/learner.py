"""A learner that joins an owned cluster: with the pairs of its first member, on ports of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pytest_etcdtls.etcd import admin
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.ports import claim_ports

_SECONDS = 60.0
_READY = re.compile("serving client (traffic securely|requests on)")  # of 3.4 in text


@dataclass(frozen=True)
class Learner:
    client_url: str
    peer_url: str


def add_learner(cluster: Cluster, peer_url: str) -> None:
    """Add a learner to the cluster without starting it."""
    first = cluster.members[0]
    admin.add_learner(first.gateway(), [peer_url], _SECONDS)


@contextmanager
def start_learner(cluster: Cluster, directory: Path) -> Iterator[Learner]:
    """Start a learner, wait until it serves clients, and stop it at the end."""
    claim = claim_ports(2, "127.0.0.1")
    client, peer = (f"https://127.0.0.1:{port}" for port in claim.ports)
    add_learner(cluster, peer)
    log = directory / "learner.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            _arguments(cluster, directory, client, peer), stdout=output, stderr=output, start_new_session=True
        )
    try:
        _await(process, log)
        yield Learner(client, peer)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        claim.release()


def _arguments(cluster: Cluster, directory: Path, client: str, peer: str) -> list[str]:
    first = cluster.members[0]
    own = {
        "--name": "learner",
        "--data-dir": str(directory / "data"),
        "--listen-client-urls": client,
        "--advertise-client-urls": client,
        "--listen-peer-urls": peer,
        "--initial-advertise-peer-urls": peer,
        "--initial-cluster": f"{first.name}={first.peer_url},learner={peer}",
    }
    kept = [word for word in first.argv if word.partition("=")[0] not in own]
    return [*kept, "--initial-cluster-state=existing", *(f"{flag}={value}" for flag, value in own.items())]


def _await(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _SECONDS
    while not _READY.search(log.read_text(errors="replace", encoding="utf-8")):
        assert process.poll() is None, log.read_text(errors="replace", encoding="utf-8")[-2000:]
        assert time.monotonic() < deadline, log.read_text(errors="replace", encoding="utf-8")[-2000:]
        threading.Event().wait(0.01)
