"""What may never answer is given up after some seconds.

A read of ``/proc/PID/cmdline`` or ``environ`` waits for the lock of that process's memory, which may be held
while a file system does not answer. The resolver of names cannot be interrupted either. Each call has a
thread, which is left behind if it does not end; what executes Python in it ends.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def each_in_time(
    function: Callable[[S], T], items: Sequence[S], seconds: float, *, ahead: float = 0.0
) -> list[T | Exception]:
    """Call a function with each item, all at once, and return what it returns, or raises.

    Args:
        function: called in a thread of its own.
        items: one for each call.
        seconds: what has not ended that long after the last one began is a :class:`TimeoutError`.
        ahead: seconds that each call may have before the next one begins, and takes processor time from it.
    """
    results: list[T | Exception] = [TimeoutError(f"it does not answer within {seconds:g} s") for _ in items]

    def call(number: int) -> None:
        try:
            results[number] = function(items[number])
        except Exception as error:
            results[number] = error
        except SystemExit:  # given up
            pass

    threads = [threading.Thread(target=call, args=[number], daemon=True) for number in range(len(items))]
    for thread in threads:
        try:
            thread.start()
        except RuntimeError:  # a limit on threads
            break
        thread.join(ahead)
    deadline = time.monotonic() + seconds
    for thread in threads:
        if thread.ident is not None:
            thread.join(max(0.0, deadline - time.monotonic()))
        if thread.ident is not None and thread.is_alive():
            end = ctypes.py_object(SystemExit)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), end)
    return results.copy()
