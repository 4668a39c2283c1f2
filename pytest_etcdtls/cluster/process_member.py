"""One member of a cluster of processes: its directory and log, its current etcd process.

Does not know the other members, nor how long to wait.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_etcdtls.cluster.etcd_process import EtcdProcess
from pytest_etcdtls.cluster.reachable import ReachableMember
from pytest_etcdtls.cluster.readiness import ReadinessLog, Served
from pytest_etcdtls.cluster.watchdog import Watchdog


@dataclass(kw_only=True)
class ProcessMember(ReachableMember):
    """An etcd server that runs as a process on this host.

    Attributes:
        environment: all of its environment.
        directory: of the member; its data and its log are here.
        watchdog: that is told of its process.
    """

    environment: Mapping[str, str] = field(repr=False)
    directory: Path
    watchdog: Watchdog = field(repr=False)
    process: EtcdProcess | None = field(default=None, repr=False)
    _progress: ReadinessLog = field(default_factory=lambda: ReadinessLog(()), repr=False)

    @property
    def running(self) -> bool:
        """Whether its process is alive now."""
        return self.process is not None and self.process.running

    @property
    def ready(self) -> bool:
        """Whether it runs and has said since its last start that it serves its clients."""
        return self.running and self.progress().ready

    @property
    def exit_status(self) -> int | None:
        """What its process ended with; ``None`` while it runs."""
        return None if self.process is None else self.process.exit_status

    @property
    def log_file(self) -> Path:
        """Where it logs."""
        return self.directory / "etcd.log"

    def log(self) -> str:
        """Return everything that it has logged so far."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def start(self) -> None:
        """Start its process; what it listens on is not served yet.

        Raises:
            OSError: if the system cannot start it.
        """
        listen = (*self.addresses.listen_client, *self.addresses.listen_client_http)
        self._progress = ReadinessLog(Served.from_urls(listen))
        self.process = EtcdProcess(self.argv, self.environment, self.log_file)
        self.watchdog.guard_group(self.process.pid)

    def wait(self, seconds: float) -> bool:
        """Wait for the end of its process, at most so long; return whether it has ended."""
        return self.process is None or self.process.wait(seconds)

    def progress(self) -> ReadinessLog:
        """Read what its log has got since the last call, and return what that means."""
        if self.process is not None:
            self._progress.feed(self.process.new_lines())
        return self._progress

    def forget(self) -> None:
        """Remove data and log of a process that has ended."""
        shutil.rmtree(self.directory, ignore_errors=True)
