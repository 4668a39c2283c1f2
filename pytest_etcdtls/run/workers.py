"""Threads that make connections, and what they wait for.

They are daemons: connecting and resolving may end late, and nobody waits for a thread that is abandoned. A
thread that an abandoned one started is abandoned too.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Final, TypeAlias, TypeVar

from pytest_etcdtls.errors import InconclusiveError

S = TypeVar("S")
T = TypeVar("T")

Task: TypeAlias = Callable[[], "Sequence[Task]"]
"""What a thread of a pool does; it returns the tasks that follow, and raises nothing."""

_FIRST_THREADS: Final = 2

_LOOK_SECONDS: Final = 0.01
"""Between two looks at the processor time of the run."""

_IDLE: Final = 0.5
"""Share of one processor below which the threads wait for the network, and further ones help."""

_POLL_SECONDS: Final = 0.2

_END_SECONDS: Final = 20.0
"""Longest wait for abandoned experiments to remove their clusters. The watchdog removes the others."""


class Worker(threading.Thread):
    """A daemon thread that makes connections, since connecting and resolving may end late.

    Attributes:
        abandoned: nobody waits for it any more, so it makes no further connection.
    """

    def __init__(self, work: Callable[[], None], name: str, pool: Pool | None = None) -> None:
        super().__init__(target=work, name=f"etcdtls_{name}", daemon=True)
        self.abandoned = False
        self._parent = threading.current_thread()
        self.pool = pool

    @property
    def is_abandoned(self) -> bool:
        """Whether it, or the thread that started it, is abandoned."""
        return self.abandoned or (isinstance(self._parent, Worker) and self._parent.is_abandoned)


def is_abandoned() -> bool:
    """Return whether this thread is a worker that nobody waits for any more."""
    thread = threading.current_thread()
    return isinstance(thread, Worker) and thread.is_abandoned


def thread_would_help() -> bool:
    """Return whether a further thread may make a connection sooner than this one.

    A thread takes longer to start than a connection to a near server.
    """
    thread = threading.current_thread()
    return not (isinstance(thread, Worker) and thread.pool is not None and thread.pool.is_busy)


class Pool:
    """Threads that run tasks and those that follow them; further ones while they wait for the network.

    Threads that wait for a far server cost nothing. Those that compute wait for Python's lock, in turns: 32
    need half as much processor time again as two for 100 members on a near network.

    Args:
        name: of the threads.
        tasks: the first ones.
        most: the maximum number of threads.
    """

    def __init__(self, name: str, tasks: Sequence[Task], most: int) -> None:
        self.is_busy = False
        """Whether the processor is, so that a further thread would not help."""
        self._name, self._most = name, most
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        """``None`` ends a thread."""
        self._open = 0
        """Number of tasks that are waiting or running."""
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._threads: list[Worker] = []
        self._add(tasks)
        self._start_threads(_FIRST_THREADS)
        threading.Thread(target=self._add_threads, name="etcdtls_threads", daemon=True).start()

    def abandon(self) -> None:
        """Make no further connection."""
        self._ended.set()
        with self._lock:
            self._most = 0
        for thread in self._threads:
            thread.abandoned = True

    def wait(self) -> None:
        """Wait until every task has ended."""
        self._ended.wait()

    def finish(self) -> None:
        """Wait until every task has ended. An interruption (Ctrl-C, a time-out of a test) abandons them."""
        try:
            self.wait()
        finally:
            self.abandon()

    def end(self) -> None:
        """Abandon the tasks, and wait until those that run have ended."""
        self.abandon()
        deadline = time.monotonic() + _END_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _add(self, tasks: Sequence[Task], *, ended: int = 0) -> None:
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
            for _ in range(min(number, self._most - len(self._threads))):
                thread = Worker(self._work, f"{self._name}_{len(self._threads)}", self)
                self._threads.append(thread)
                thread.start()

    def _add_threads(self) -> None:
        now, used = time.monotonic(), time.process_time()
        while not self._ended.wait(_LOOK_SECONDS):
            before, used_before, now, used = now, used, time.monotonic(), time.process_time()
            self.is_busy = used - used_before >= _IDLE * (now - before)
            if not self.is_busy and not self._tasks.empty():
                self._start_threads(len(self._threads))

    def _work(self) -> None:
        while task := self._tasks.get():
            following: Sequence[Task] = ()
            try:
                if not is_abandoned():
                    following = task()
            finally:
                self._add(following, ended=1)
        self._tasks.put(None)  # for the next thread


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
    if not items or (workers == 1 and isinstance(threading.current_thread(), Worker)):
        return [make(item) for item in items]
    pending = deque(enumerate(items))
    done: SimpleQueue[None] = SimpleQueue()
    results: dict[int, T] = {}
    errors: dict[int, Exception] = {}

    def work() -> None:
        try:
            while not errors:
                number, item = pending.popleft()
                try:
                    results[number] = make(item)
                except Exception as error:
                    errors[number] = error
        except IndexError:
            pass  # none is left
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
