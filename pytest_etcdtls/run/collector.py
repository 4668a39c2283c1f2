"""Collect, then judge: the observations of a target are made in threads, ahead of the checks that need them.

A :class:`Collector` makes those of the selected checks, in the order of the checks and within the bounds of
each listener. A check waits for what it needs. One after the other, checks would wait for one connection
each, which takes most of a run over a slow network.

:class:`Experiments` runs experiments in parallel: each has its own cluster, and mostly waits for its start.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from pytest_etcdtls.facts.fact import Reading
from pytest_etcdtls.run.workers import Worker, is_abandoned
from pytest_etcdtls.target import Listener

if TYPE_CHECKING:
    from pytest_etcdtls.checks.registry import Check
    from pytest_etcdtls.run.observer import Observer

_MOST_THREADS: Final = 32

_FIRST_THREADS: Final = 2

_LOOK_SECONDS: Final = 0.01
"""Between two looks at the processor time of the run."""

_IDLE: Final = 0.5
"""Share of one processor below which the threads wait for the network, and further ones help."""

AT_ONCE: Final = 4
"""Maximum number of clusters for experiments that run at a time."""

_END_SECONDS: Final = 20.0
"""Longest wait for abandoned experiments to remove their clusters. The watchdog removes the others."""


class _Task(Struct, frozen=True):
    """The observations of one check on one listener, or those of the gates if there is no check."""

    listener: Listener
    check: Check | None = None


class Collector:
    """Makes the observations of a target in threads, ahead of the checks that need them.

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
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        """``None`` ends a thread."""
        self._open = 0
        """Number of tasks that are waiting or running."""
        self._lock = threading.Lock()
        self._ended = threading.Event()
        bounds = observer.bounds
        tasks = sum(1 + len(checks) for _, checks in wanted)
        self._most_threads = min(_MOST_THREADS, (bounds.concurrency + 2) * len(wanted), tasks)
        self._threads: list[Worker] = []
        self._add([_Task(listener) for listener, _ in wanted])
        self._start_threads(_FIRST_THREADS)
        threading.Thread(target=self._add_threads, name="etcdtls_threads", daemon=True).start()

    def abandon(self) -> None:
        """Make no further connection."""
        self._ended.set()
        with self._lock:
            self._most_threads = 0
        for thread in self._threads:
            thread.abandoned = True

    def wait(self) -> None:
        """Wait until every observation is made."""
        self._ended.wait()

    def _add(self, tasks: Sequence[_Task], *, ended: int = 0) -> None:
        with self._lock:
            self._open += len(tasks) - ended
            open_tasks = self._open
        for task in tasks:
            self._tasks.put(task)
        if not open_tasks:
            self._ended.set()
            self._tasks.put(None)

    def _start_threads(self, number: int) -> None:
        with self._lock:
            for _ in range(min(number, self._most_threads - len(self._threads))):
                thread = Worker(self._work, f"ahead_{len(self._threads)}")
                self._threads.append(thread)
                thread.start()

    def _add_threads(self) -> None:
        """Add threads while tasks wait and the processor is idle.

        Those that wait for a far server cost nothing. Those that compute wait for Python's lock, in turns: 32
        need half as much processor time again as two for 100 members on a near network.
        """
        now, used = time.monotonic(), time.process_time()
        while not self._ended.wait(_LOOK_SECONDS):
            before, used_before, now, used = now, used, time.monotonic(), time.process_time()
            is_idle = used - used_before < _IDLE * (now - before)
            self._observer.processor_is_busy = not is_idle
            if is_idle and not self._tasks.empty():
                self._start_threads(len(self._threads))

    def _work(self) -> None:
        while task := self._tasks.get():
            following: list[_Task] = []
            try:
                following = self._run(task)
            finally:
                self._add(following, ended=1)
        self._tasks.put(None)  # for the next thread

    def _run(self, task: _Task) -> list[_Task]:
        """Run a task and return those that follow it."""
        if is_abandoned():
            return []
        # An error occurs again when the check is judged, and is its result then.
        with suppress(Exception), self._observer.work_lock.shared():
            if task.check is None:
                passes = self._passes(task.listener)
                return [_Task(task.listener, check) for check in self._wanted[task.listener.label] if passes]
            for need in task.check.needs.values():
                if need.reading is not Reading.EACH:  # the check reads it where it needs it
                    self._observer.get(need.type, need.key, task.listener)
        return []


class Experiments:
    """Makes the experiments of a target in threads, each on a cluster of its own.

    Args:
        observer: keeps the results.
        settings: names of the clusters to start, in this order.
    """

    def __init__(self, observer: Observer, settings: Sequence[str]) -> None:
        # Imported here, since most runs start no cluster.
        from pytest_etcdtls.lifecycle.changes import ExperimentResults

        self._observer, self._results = observer, ExperimentResults
        self._settings: SimpleQueue[str] = SimpleQueue()
        for name in settings:
            self._settings.put(name)
        number = min(AT_ONCE, len(settings))
        self._threads = [Worker(self._work, f"experiments_{thread}") for thread in range(number)]
        for thread in self._threads:
            thread.start()

    def abandon(self) -> None:
        """Start no further cluster; experiments that run go on to their end."""
        for thread in self._threads:
            thread.abandoned = True

    def end(self) -> None:
        """Abandon the experiments, and wait until every cluster is removed."""
        self.abandon()
        deadline = time.monotonic() + _END_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        with suppress(Empty):
            while not is_abandoned():
                name = self._settings.get_nowait()
                # An error occurs again when the check is judged, and is its result then.
                with suppress(Exception), self._observer.work_lock.shared():
                    self._observer.get(self._results, name)
