"""No reader of foreign bytes raises an undocumented error, or takes time beyond the size of its input."""

from __future__ import annotations

import contextlib
import time

import pytest
from fuzz.inputs import inputs
from fuzz.readers import READERS, ForeignReader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SECONDS = 10.0
"""Processor time for a few kilobytes on a slow machine. A reader beyond it takes quadratic time or worse."""

EXAMPLES = 40


def holds(reader: ForeignReader, data: bytes) -> None:
    """Assert that the reader returns, or raises an error that it documents, in time."""
    begin = time.thread_time()
    with contextlib.suppress(*reader.documented):
        reader.read(data)
    assert time.thread_time() - begin < SECONDS


@pytest.mark.parametrize("reader", READERS.values(), ids=list(READERS))
def test_kept_inputs_are_read(reader: ForeignReader) -> None:
    kept = reader.corpus()
    assert kept
    for data in kept:
        holds(reader, data)


@pytest.mark.parametrize("reader", READERS.values(), ids=list(READERS))
def test_anything_is_read_or_refused(reader: ForeignReader) -> None:
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def check(data: st.DataObject) -> None:
        holds(reader, data.draw(inputs(reader)))

    check()
