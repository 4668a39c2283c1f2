"""Clocks where a test has stopped or moved that of Python, as time-machine and freezegun do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_COARSE = 5
"""CLOCK_REALTIME_COARSE of Linux, which has no name in Python, so that tools for tests do not move it."""
_CLOCK_TOLERANCE = 60.0


def clock_lead() -> float:
    """Return the seconds by which this process is ahead of the system: time-machine and freezegun do that."""
    lead = time.time() - time.clock_gettime(_COARSE)
    return lead if abs(lead) > _CLOCK_TOLERANCE else 0.0


def moved_clock() -> str:
    """Return what a failed start has to do with a moved clock, for the end of a message, or nothing."""
    if not clock_lead():
        return ""
    now = time.strftime("%Y-%m-%d %H:%M", time.gmtime(time.time()))
    return (
        f"; the time of this process is {now} UTC, and certificates are issued in it, but etcd has the time "
        "of the system: start the cluster before a test stops or moves the clock"
    )


def system_clock() -> float:
    """Return the seconds of the system's monotonic clock, which no test stops or moves."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def until(reached: Callable[[], T], seconds: float, pause: float = 0.005) -> T:
    """Return what a function returns as soon as that is true, or after so many seconds."""
    deadline = system_clock() + seconds
    while not (result := reached()) and system_clock() < deadline:
        time.sleep(pause)
    return result
