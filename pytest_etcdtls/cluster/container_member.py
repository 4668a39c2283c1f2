"""One member of a cluster of containers: its container, and its log beyond the container's end.

Does not know the other members, nor how long to wait.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field

from pytest_etcdtls.cluster.etcd_container import ContainerPlan, EtcdContainer
from pytest_etcdtls.cluster.reachable import ReachableMember
from pytest_etcdtls.cluster.readiness import ReadinessLog, Served


@dataclass(kw_only=True)
class ContainerMember(ReachableMember):
    """An etcd server that runs in a container.

    Attributes:
        plan: of its container.
        listen_urls: on which it serves clients, as seen in the container.
    """

    plan: ContainerPlan = field(repr=False)
    listen_urls: tuple[str, ...]
    container: EtcdContainer | None = field(default=None, repr=False)
    _progress: ReadinessLog = field(default_factory=lambda: ReadinessLog(()), repr=False)
    _last_log: str = field(default="", repr=False)

    @property
    def running(self) -> bool:
        """Whether its container runs now."""
        return self.container is not None and self.container.running

    @property
    def ready(self) -> bool:
        """Whether it runs and has said since its last start that it serves its clients."""
        return self.running and self.progress().ready

    @property
    def exit_status(self) -> int | None:
        """What its etcd ended with; ``None`` while it runs."""
        return None if self.container is None else self.container.exit_status

    def log(self) -> str:
        """Return everything that it has logged so far, also when the container is gone."""
        return self._last_log if self.container is None else self.container.log()

    def start(self) -> None:
        """Start its container; what it listens on is not served yet.

        Raises:
            OSError: if the engine refuses.
            PortTakenError: if it does so for want of a port.
        """
        self._progress = ReadinessLog(Served.from_urls(self.listen_urls))
        if self.container is None:
            self.container = EtcdContainer(self.plan)
            self.container.create()
        else:
            self.container.start()

    def progress(self) -> ReadinessLog:
        """Read what its log has got since the last call, and return what that means."""
        if self.container is not None:
            self._progress.feed(self.container.new_lines())
        return self._progress

    def wait(self, seconds: float) -> bool:
        """Wait for its end, at most so long; return whether it has ended."""
        # The engine tells of an end only to a request that blocks until then.
        time.sleep(seconds)
        return not self.running

    def copy_files(self) -> None:
        """Have etcd see the files of the PKI directory as they are on this host now."""
        if self.container is not None:
            self.container.copy_files()

    def forget(self) -> None:
        """Let go of a container that is about to be removed; its log is kept."""
        if self.container is None:
            return
        with suppress(OSError):
            self._last_log = self.container.log()
        self.container.close()
        self.container = None
