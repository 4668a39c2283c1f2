"""One member of a cluster of processes: its addresses, files and log, its current etcd process.

Does not know the other members, nor how long to wait.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_etcdtls.cluster.addresses import MemberAddresses
from pytest_etcdtls.cluster.etcd_process import EtcdProcess
from pytest_etcdtls.cluster.pki_files import FileNames
from pytest_etcdtls.cluster.readiness import ReadinessLog, Served


@dataclass(kw_only=True)
class ProcessMember:
    """An etcd server that runs as a process on this host.

    Attributes:
        addresses: what it listens on.
        argv: its command line; paths, no secret.
        environment: all of its environment.
        directory: of the member; its data and its log are here.
        pki_root: the cluster's PKI directory.
        files: where each file is below that.
    """

    addresses: MemberAddresses
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    directory: Path
    pki_root: Path
    files: FileNames = field(repr=False)
    process: EtcdProcess | None = field(default=None, repr=False)
    _progress: ReadinessLog = field(default_factory=lambda: ReadinessLog(()), repr=False)

    @property
    def name(self) -> str:
        """Its name."""
        return self.addresses.name

    @property
    def client_url(self) -> str:
        """The client listener."""
        return self.addresses.listen_client[0]

    @property
    def peer_url(self) -> str:
        """The peer listener."""
        return self.addresses.listen_peer[0]

    @property
    def metrics_url(self) -> str | None:
        """The metrics listener, if there is one."""
        return next(iter(self.addresses.listen_metrics), None)

    @property
    def client_http_url(self) -> str | None:
        """The HTTP listener of a split set-up, if there is one."""
        return next(iter(self.addresses.listen_client_http), None)

    @property
    def plain_client_url(self) -> str | None:
        """The ``http`` client listener on a port of its own, if there is one."""
        others = self.addresses.listen_client[1:]
        shared = self.client_url.rpartition(":")[2]
        return next((url for url in others if url.rpartition(":")[2] != shared), None)

    @property
    def pki_directory(self) -> Path:
        """The directory of its own key pairs."""
        return self.file("server.crt").parent

    @property
    def running(self) -> bool:
        """Whether its process is alive now."""
        return self.process is not None and self.process.running

    @property
    def log_file(self) -> Path:
        """Where it logs."""
        return self.directory / "etcd.log"

    def file(self, name: str) -> Path:
        """Return where a file of that logical name is."""
        return self.pki_root / self.files.path(name)

    def log(self) -> str:
        """Return everything that it has logged so far."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def start(self) -> EtcdProcess:
        """Start its process; what it listens on is not served yet.

        Raises:
            OSError: if the system cannot start it.
        """
        listen = (*self.addresses.listen_client, *self.addresses.listen_client_http)
        self._progress = ReadinessLog(Served.from_urls(listen))
        self.process = EtcdProcess(self.argv, self.environment, self.log_file)
        return self.process

    def progress(self) -> ReadinessLog:
        """Read what its log has got since the last call, and return what that means."""
        if self.process is not None:
            self._progress.feed(self.process.new_lines())
        return self._progress

    def forget(self) -> None:
        """Remove data and log of a process that has ended."""
        shutil.rmtree(self.directory, ignore_errors=True)
