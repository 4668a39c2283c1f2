"""An owned etcd, with the options of a live one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_etcdtls.etcd.cluster import Cluster, start_cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.sources import find_etcd


@dataclass(frozen=True)
class Live:
    """A live cluster as a user knows it.

    Attributes:
        files: directory of its PKI.
        client: URL of the client listener.
        peer: URL of the peer listener.
    """

    files: Path
    client: str
    peer: str

    @classmethod
    def of(cls, cluster: Cluster) -> Live:
        """Return the first member of a cluster as somebody's."""
        member = cluster.members[0]
        return cls(files=cluster.pki_directory, client=member.client_url, peer=member.peer_url)

    @property
    def options(self) -> tuple[str, ...]:
        """The options that judge both listeners."""
        return (
            f"--etcd-endpoint={self.client}",
            f"--etcd-peer-endpoint={self.peer}",
            *self.credentials,
        )

    @property
    def credentials(self) -> tuple[str, ...]:
        """The options that say who we are and whom we trust."""
        return (
            f"--etcd-cacert={self.files / 'server-ca.crt'}",
            f"--etcd-cert={self.files / 'client.crt'}",
            f"--etcd-key={self.files / 'client.key'}",
            f"--etcd-peer-cacert={self.files / 'peer-ca.crt'}",
            f"--etcd-peer-cert={self.files / 'peer-client.crt'}",
            f"--etcd-peer-key={self.files / 'peer-client.key'}",
        )

    @property
    def wrong_anchor(self) -> tuple[str, ...]:
        """Options by which ``cert.trusted`` violates on the client listener and nothing else does."""
        return (*self.options, f"--etcd-cacert={self.files / 'peer-ca.crt'}")

    @property
    def client_label(self) -> str:
        """Label of the client listener."""
        return f"client-127.0.0.1-{self.client.rpartition(':')[2]}"

    @property
    def peer_label(self) -> str:
        """Label of the peer listener."""
        return f"peer-127.0.0.1-{self.peer.rpartition(':')[2]}"

    def table(self, label: str, options: Sequence[str] = ()) -> str:
        """Return the cluster as an entry of ``--etcd-clusters``."""
        values = [option.removeprefix("--etcd-").split("=", 1) for option in options or self.options]
        lines = [f'label = "{label}"', *(f'{name} = "{value}"' for name, value in values)]
        return "\n".join(["[[cluster]]", *lines, ""])

    def node_id(self, check: str) -> str:
        """Return the node id of a check on the client listener."""
        return f"etcdtls::live::{self.client_label}::{check}"


@contextmanager
def start_live(directory: Path, binary: Path, **fields: Any) -> Iterator[Live]:
    """Start that etcd, configured with these fields, and stop it at the end."""
    # It stands for the whole session: with intervals of its own it takes next to no time of the processor.
    intervals = ("--heartbeat-interval=100", "--election-timeout=500")
    config = ClusterConfig(extra_flags=intervals, **fields)
    with start_cluster(config, find_etcd("process", binary=binary), directory=directory) as cluster:
        yield Live.of(cluster)
