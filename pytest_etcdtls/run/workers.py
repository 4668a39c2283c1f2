"""Threads that make connections, and what they wait for.

They are daemons: connecting and resolving may end late, and nobody waits for a thread that is abandoned. A
thread that an abandoned one started is abandoned too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TypeVar, cast

from pytest_etcdtls.errors import InconclusiveError

S = TypeVar("S")
T = TypeVar("T")


class Worker(threading.Thread):
    """A daemon thread that makes connections, since connecting and resolving may end late.

    Attributes:
        abandoned: nobody waits for it any more, so it makes no further connection.
    """

    def __init__(self, work: Callable[[], None], name: str) -> None:
        super().__init__(target=work, name=f"etcdtls_{name}", daemon=True)
        self.abandoned = False
        self._parent = threading.current_thread()

    @property
    def is_abandoned(self) -> bool:
        """Whether it, or the thread that started it, is abandoned."""
        return self.abandoned or (isinstance(self._parent, Worker) and self._parent.is_abandoned)


def is_abandoned() -> bool:
    """Return whether this thread is a worker that nobody waits for any more."""
    thread = threading.current_thread()
    return isinstance(thread, Worker) and thread.is_abandoned


def in_threads(make: Callable[[S], T], items: Sequence[S], workers: int) -> list[T]:
    """Call a function for each item in threads, and return the results in order.

    An exception that interrupts the waiting (Ctrl-C, a time-out of a test) is raised at once, and the threads
    are abandoned.

    Args:
        make: the function. After the first exception it is not called for further items.
        items: the arguments.
        workers: the number of threads.

    Raises:
        Exception: the first one, in the order of the items, that the function raised.
    """
    if workers == 1 and isinstance(threading.current_thread(), Worker):
        return [make(item) for item in items]
    pending = iter(enumerate(items))
    done: SimpleQueue[None] = SimpleQueue()
    lock = threading.Lock()
    results: dict[int, T] = {}
    errors: dict[int, Exception] = {}

    def work() -> None:
        try:
            while not errors:
                with lock:
                    number, item = next(pending, (-1, None))
                if number < 0:
                    break
                try:
                    results[number] = make(cast("S", item))
                except Exception as error:
                    errors[number] = error
        finally:
            done.put(None)

    threads = [Worker(work, str(number)) for number in range(workers)]
    try:
        for thread in threads:
            thread.start()
        for _ in threads:
            done.get()
    except BaseException:
        for thread in threads:
            thread.abandoned = True
        raise
    if errors:
        raise errors[min(errors)]
    return [results[number] for number in range(len(items))]


class SharedLock:
    """A lock that several threads hold shared, or one thread exclusively."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._threads: set[int] = set()
        """Those that hold it shared."""
        self._exclusive = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold the lock together with others."""
        this_thread = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: not self._exclusive)
            self._threads.add(this_thread)
        try:
            yield
        finally:
            with self._changed:
                self._threads.discard(this_thread)
                self._changed.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the lock when no other thread does; this thread may hold it shared already."""
        mine = {threading.get_ident()}
        with self._changed:
            while self._exclusive or self._threads - mine:
                if is_abandoned():
                    raise InconclusiveError("the run was interrupted")
                self._changed.wait(_POLL_SECONDS)
            self._exclusive = True
        try:
            yield
        finally:
            with self._changed:
                self._exclusive = False
                self._changed.notify_all()


_POLL_SECONDS = 0.2
