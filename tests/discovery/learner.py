"""A learner that joins an owned cluster: with the pairs of its first member, on ports of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from starting import running_etcd

from pytest_etcdtls.etcd import admin
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.ports import claim_ports

_SECONDS = 60.0


@dataclass(frozen=True)
class Learner:
    client_url: str
    peer_url: str


def add_learner(cluster: Cluster, peer_url: str) -> None:
    """Add a learner to the cluster without starting it."""
    first = cluster.members[0]
    admin.change_members(first.gateway(), [peer_url], _SECONDS, admin.add_learner)


@contextmanager
def start_learner(cluster: Cluster, directory: Path) -> Iterator[Learner]:
    """Start a learner, wait until it serves clients, and stop it at the end."""
    claim = claim_ports(2, "127.0.0.1")
    client, peer = (f"https://127.0.0.1:{port}" for port in claim.ports)
    add_learner(cluster, peer)
    try:
        with running_etcd(_arguments(cluster, directory, client, peer), directory / "learner.log") as etcd:
            assert etcd.serves(_SECONDS), etcd.text[-2000:]
            yield Learner(client, peer)
    finally:
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
