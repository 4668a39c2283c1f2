"""Makes what takes long once in a run of the tests, for all workers of pytest-xdist."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from filelock import FileLock

T = TypeVar("T")


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], T]) -> T:
    """Return what was made in its own directory, by this worker or by another one before."""
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    made = shared / f"{name}.pickle"
    with FileLock(shared / f"{name}.lock"):
        if not made.exists():
            made.write_bytes(pickle.dumps(make(factory.mktemp(name))))
        value: T = pickle.loads(made.read_bytes())  # noqa: S301 (our own, of this very run)
    return value
