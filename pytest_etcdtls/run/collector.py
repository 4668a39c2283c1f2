"""Collect, then judge: the observations of a target are made in threads, ahead of the checks that need them.

:func:`collect` makes those of the selected checks, in the order of the checks and within the bounds of
each listener. A check waits for what it needs. One after the other, checks would wait for one connection
each, which takes most of a run over a slow network.

:func:`experiment` runs experiments in parallel: each has its own cluster, and mostly waits for its start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from pytest_etcdtls.facts.fact import Reading
from pytest_etcdtls.run.workers import Pool, Task

if TYPE_CHECKING:
    from pytest_etcdtls.checks.registry import Check
    from pytest_etcdtls.run.observer import Observer
    from pytest_etcdtls.target import Listener

_MOST_THREADS: Final = 32

AT_ONCE: Final = 4
"""Maximum number of clusters for experiments that run at a time."""


def collect(
    observer: Observer,
    passes: Callable[[Check, Listener], bool],
    wanted: Sequence[tuple[Listener, Sequence[Check]]],
) -> Pool:
    """Make the observations of a target in threads, ahead of the checks that need them.

    Args:
        observer: makes and keeps the observations.
        passes: returns whether a listener passes the gates of a check, which it judges. It is called in
            threads.
        wanted: the listeners in order, with the checks that judge each.
    """

    def start(listener: Listener, checks: Sequence[Check]) -> Sequence[Task]:
        """Judge the gates of a listener, and return what follows if it passes them."""
        with suppress(Exception), observer.work_lock.shared():
            return [partial(observe, listener, check) for check in checks if passes(check, listener)]
        return ()

    def observe(listener: Listener, check: Check) -> Sequence[Task]:
        # An error occurs again when the check is judged, and is its result then.
        with suppress(Exception), observer.work_lock.shared():
            for need in check.needs.values():
                if need.reading is not Reading.EACH:  # the check reads it where it needs it
                    observer.get(need.type, need.key, listener)
        return ()

    tasks = sum(1 + len(checks) for _, checks in wanted)
    most = min(_MOST_THREADS, (observer.bounds.concurrency + 2) * len(wanted), tasks)
    return Pool("ahead", [partial(start, *one) for one in wanted], most)


def experiment(observer: Observer, settings: Sequence[str]) -> Pool:
    """Make the experiments of a target in threads, each on a cluster of its own.

    Args:
        observer: keeps the results.
        settings: names of the clusters to start, in this order.
    """

    def make(setting: str) -> Sequence[Task]:
        # Imported here, since most runs start no cluster.
        from pytest_etcdtls.lifecycle.changes import ExperimentResults

        # An error occurs again when the check is judged, and is its result then.
        with suppress(Exception), observer.work_lock.shared():
            observer.get(ExperimentResults, setting)
        return ()

    return Pool("experiments", [partial(make, name) for name in settings], AT_ONCE)
