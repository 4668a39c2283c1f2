"""A recording that grows while it is read: threads add facts, and an abandoned one may do so at any time."""

from __future__ import annotations

import gc
from itertools import count
from typing import Any

from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.target import Target

FACTS = 5000


def test_facts_are_added_while_others_are_read() -> None:
    """The collection of garbage runs code in the middle of a loop in C, as other threads then do."""
    recording = Recording(Target(label="live", origin="live", listeners=()))
    for number in range(FACTS):
        recording.add((None, int, str(number)), number)
    numbers = count()

    class Adding:
        """Garbage that adds a fact when it is collected, and leaves more such garbage."""

        itself: Any

        def __del__(self) -> None:
            number = next(numbers)
            recording.add((None, str, str(number)), str(number))
            if number < FACTS:
                again = self.__class__()
                again.itself = again

    garbage = Adding()
    garbage.itself = garbage
    del garbage
    thresholds = gc.get_threshold()
    gc.set_threshold(1, 1000, 1000)
    try:
        read = len(recording.facts)
        kept = recording.until_now()
    finally:
        gc.set_threshold(*thresholds)
    assert FACTS <= read <= len(recording.facts)
    assert len(kept.facts) >= read
