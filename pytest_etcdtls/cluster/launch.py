"""Starts members and waits for what their logs say, with one deadline.

Does not know how the members are configured, how each is started, nor what is removed when it fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from pytest_etcdtls.cluster.failure import start_failure
from pytest_etcdtls.cluster.interface import Member
from pytest_etcdtls.cluster.owner import gateway_of
from pytest_etcdtls.cluster.readiness import ReadinessLog
from pytest_etcdtls.errors import ClusterStartError

START_SECONDS = 30.0
"""How long a cluster may take to come up on a busy machine."""

_GLANCE_SECONDS = 0.005
_HEALTH_GLANCE_SECONDS = 0.05


class PortTakenError(ClusterStartError):
    """Somebody else listens on a port that was free a moment ago."""


class StartableMember(Member, Protocol):
    """A member as its backend sees it."""

    @property
    def exit_status(self) -> int | None:
        """What its etcd ended with; ``None`` while it runs."""

    def start(self) -> None:
        """Start its etcd; what it listens on is not served yet.

        Raises:
            OSError: if it cannot be started.
            PortTakenError: if that is for want of a port.
        """

    def progress(self) -> ReadinessLog:
        """Read what its log has got since the last call, and return what that means."""

    def wait(self, seconds: float) -> bool:
        """Wait for its end, at most so long; return whether it has ended."""


class Launch:
    """One start of one or more members."""

    def __init__(self, what: str, seconds: float) -> None:
        """Set the deadline.

        Args:
            what: is started, for messages.
            seconds: that all of it may take.
        """
        self._what = what
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds

    def start(self, members: Sequence[StartableMember], *, one_by_one: bool) -> None:
        """Start members and wait until etcd's own log says that they serve clients.

        Args:
            members: to start.
            one_by_one: for members without data. Each asks the others whether it has been a member before;
                one whose port is bound and does not answer yet costs it a second. So the next one is started
                when the port of the last one answers.

        Raises:
            PortTakenError: if a port is taken.
            ClusterStartError: if one ends, or the time is over.
        """
        for member in members:
            try:
                member.start()
            except OSError as error:
                raise self._failure(member, f"it cannot be run: {error}") from error
            if one_by_one and member is not members[-1]:
                self._await([member], lambda log: log.serves_peers, "its peer port does not answer")
        self._await(members, lambda log: log.ready, "it does not serve clients")

    def await_health(self, members: Sequence[StartableMember]) -> None:
        """Wait until every member answers an authenticated ``/health`` well.

        Raises:
            ClusterStartError: if one ends, or the time is over.
        """
        for member in members:
            gateway = gateway_of(member)
            while (problem := gateway.health()) is not None:
                if time.monotonic() > self._deadline:
                    raise self._failure(member, f"not healthy after {self._seconds:g} s: {problem}")
                if member.wait(_HEALTH_GLANCE_SECONDS):
                    raise self._failure(member, f"it has ended; last answer: {problem}")

    def _await(
        self, members: Sequence[StartableMember], reached: Callable[[ReadinessLog], bool], otherwise: str
    ) -> None:
        pending = list(members)
        while pending := [member for member in pending if not self._reached(member, reached)]:
            if time.monotonic() > self._deadline:
                raise self._failure(pending[0], f"{otherwise} after {self._seconds:g} s")
            # Its end wakes us at once; the log, which outlives us, is looked at in between.
            pending[0].wait(_GLANCE_SECONDS)

    def _reached(self, member: StartableMember, reached: Callable[[ReadinessLog], bool]) -> bool:
        # In this order, so that the last words of one that has ended are read.
        ended = not member.running
        progress = member.progress()
        if progress.address_in_use:
            raise PortTakenError(str(self._failure(member, "one of its ports is taken")))
        if ended:
            raise self._failure(member, f"it ended with status {member.exit_status}")
        return reached(progress)

    def _failure(self, member: StartableMember, happened: str) -> ClusterStartError:
        attempted = f"{self._what}, member {member.name} at {member.client_url}"
        return start_failure(attempted, happened, member.log())
