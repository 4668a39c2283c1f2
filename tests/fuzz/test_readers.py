"""No reader of foreign bytes raises an undocumented error, or takes time beyond the size of its input."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence

import pytest
from fuzz.readers import READERS, ForeignReader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SECONDS = 10.0
"""Processor time for a few kilobytes on a slow machine. A reader beyond it takes quadratic time or worse."""

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "40"))
"""Of each reader. A number from outside is for new ones."""


def inputs(reader: ForeignReader) -> st.SearchStrategy[bytes]:
    """Return random bytes, words of its language, and damaged copies of valid inputs."""
    choices: list[st.SearchStrategy[bytes]] = [st.binary(max_size=512)]
    if corpus := reader.corpus():
        choices += [st.sampled_from(corpus), damaged(corpus)]
    if words := list(reader.words):
        parts = st.one_of(st.sampled_from(words), st.binary(max_size=8))
        choices.append(st.lists(parts, max_size=60).map(b"".join))
        # Depth and length are faults of their own.
        choices.append(
            st.tuples(st.sampled_from(words), st.integers(1, 3000)).map(lambda two: two[0] * two[1])
        )
    return st.one_of(choices)


@st.composite
def damaged(draw: st.DrawFn, corpus: Sequence[bytes]) -> bytes:
    """Return a copy of a valid input with pieces removed, repeated or replaced."""
    data = bytearray(draw(st.sampled_from(corpus)))
    for _ in range(draw(st.integers(1, 6))):
        begin = draw(st.integers(0, len(data)))
        end = min(len(data), begin + draw(st.integers(0, 16)))
        piece = draw(st.sampled_from([b"", b"\0", b"\xff" * 4, b"\x1b[31m"]) | st.binary(max_size=16))
        data[begin:end] = data[begin:end] * draw(st.sampled_from([0, 0, 2, 50])) + piece
    return bytes(data[:4096])


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
        derandomize="FUZZ_EXAMPLES" not in os.environ,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def check(data: st.DataObject) -> None:
        holds(reader, data.draw(inputs(reader)))

    check()
