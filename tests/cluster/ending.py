"""Waiting for the end of processes."""

from __future__ import annotations

import os
import select

DEADLINE = 60.0
"""Seconds after which a process counts as not ended."""


def gone(pid: int) -> bool:
    """Wait for the end of a process that is not a child of this one."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], DEADLINE)[0])
    finally:
        os.close(process)
