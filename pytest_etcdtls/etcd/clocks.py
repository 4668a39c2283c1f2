"""Clocks where a test has stopped or moved that of Python, as time-machine and freezegun do."""

from __future__ import annotations

import time

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
