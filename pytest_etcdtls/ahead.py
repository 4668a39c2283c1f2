"""Observations made ahead of the checks that need them: where the network is slow, and experiments.

Checks run one after the other, and each waits for its connections. Over a slow network, a tunnel or a port
forwarding, a run does little but wait. There, threads make the observations of the selected checks, in the
order of the checks and within the bounds of each listener. A check finds its observations made, or waits for
the thread that makes them. They are the same observations as without threads, and are judged in the same way.

Experiments have clusters of their own, and mostly wait for them to start. They run side by side, and beside
the judging of everything else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.observer import Observer, Worker, is_abandoned
from pytest_etcdtls.registry import Check
from pytest_etcdtls.target import Listener

_MOST_THREADS: Final = 32

AT_ONCE: Final = 4
"""Maximum number of clusters for experiments that run at a time."""

_END_SECONDS: Final = 20.0
"""The longest wait for abandoned experiments to remove their clusters; the watchdog removes what is left."""


@dataclass(frozen=True, slots=True)
class _Task:
    """The observations of one check on one listener; of the gates if there is no check."""

    listener: Listener
    check: Check | None = None


class Ahead:
    """Makes observations of a target in threads.

    Args:
        observer: makes and keeps the observations.
        passes: returns whether a listener passes its gates, which it judges. It is called in threads.
        wanted: the listeners in order, with the checks that judge each.
    """

    def __init__(
        self,
        observer: Observer,
        passes: Callable[[Listener], bool],
        wanted: Sequence[tuple[Listener, Sequence[Check]]],
    ) -> None:
        self._observer = observer
        self._passes = passes
        self._wanted = {listener.label: checks for listener, checks in wanted}
        self._tasks: SimpleQueue[_Task] = SimpleQueue()
        self._open = len(wanted)
        self._changed = threading.Condition()
        for listener, _ in wanted:
            self._tasks.put(_Task(listener))
        bounds = observer.bounds
        number = min(_MOST_THREADS, (bounds.concurrency + 2) * len(wanted))
        self._threads = [Worker(self._work, f"ahead_{place}") for place in range(number)]
        for thread in self._threads:
            thread.start()

    def abandon(self) -> None:
        """Make no further connection."""
        for thread in self._threads:
            thread.abandoned = True

    def wait(self) -> None:
        """Wait until every observation is made."""
        with self._changed:
            while self._open:
                self._changed.wait()

    def _work(self) -> None:
        while True:
            with self._changed:
                while (task := self._next()) is None:
                    if not self._open:
                        return
                    self._changed.wait()
            more: list[_Task] = []
            try:
                more = self._carried_out(task)
            finally:
                for one in more:
                    self._tasks.put(one)
                with self._changed:
                    self._open += len(more) - 1
                    self._changed.notify_all()

    def _next(self) -> _Task | None:
        with suppress(Empty):
            return self._tasks.get_nowait()
        return None

    def _carried_out(self, task: _Task) -> list[_Task]:
        """Carry a task out and return those that it leads to."""
        if is_abandoned():
            return []
        # What goes wrong here goes wrong again when it is the check's turn, and is its result then.
        with suppress(Exception):
            if task.check is not None:
                self._observe(task.check, task.listener)
            elif self._passes(task.listener):
                return [_Task(task.listener, check) for check in self._wanted[task.listener.label]]
        return []

    def _observe(self, check: Check, listener: Listener) -> None:
        """Make the observations of a check, up to the first that cannot be made, as judging does."""
        for need in check.needs.values():
            self._observer.get(need.type, need.key, listener)


class Experiments:
    """Makes the experiments of a target in threads, each on a cluster of its own.

    Args:
        observer: keeps the results.
        settings: names of the clusters to start, in this order.
    """

    def __init__(self, observer: Observer, settings: Sequence[str]) -> None:
        # It starts clusters, which a run over a slow network does not.
        from pytest_etcdtls.lifecycle.lab import ExperimentResults

        self._observer, self._results = observer, ExperimentResults
        self._settings: SimpleQueue[str] = SimpleQueue()
        for name in settings:
            self._settings.put(name)
        number = min(AT_ONCE, len(settings))
        self._threads = [Worker(self._work, f"experiments_{place}") for place in range(number)]
        for thread in self._threads:
            thread.start()

    def abandon(self) -> None:
        """Start no further cluster, and let what runs come to its end."""
        for thread in self._threads:
            thread.abandoned = True

    def end(self) -> None:
        """Abandon what is left, and wait until every cluster is removed."""
        self.abandon()
        deadline = time.monotonic() + _END_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        with suppress(Empty):
            while not is_abandoned():
                name = self._settings.get_nowait()
                # What goes wrong here goes wrong again when it is the check's turn, and is its result then.
                with suppress(Exception), self._observer.quiet.beside():
                    self._observer.get(self._results, name)
