"""Inputs for a reader: random bytes, tokens of its language, and damaged copies of valid inputs."""

from __future__ import annotations

from collections.abc import Sequence

from fuzz.readers import ForeignReader
from hypothesis import strategies as st

_LONGEST = 4096


def inputs(reader: ForeignReader) -> st.SearchStrategy[bytes]:
    """Return the strategy for one reader."""
    corpus, words = reader.corpus(), list(reader.words)
    choices: list[st.SearchStrategy[bytes]] = [st.binary(max_size=512)]
    if corpus:
        choices += [st.sampled_from(corpus), damaged(corpus)]
    if words:
        parts = st.one_of(st.sampled_from(words), st.binary(max_size=8))
        choices.append(st.lists(parts, max_size=60).map(b"".join))
        # Depth and length are faults of their own.
        choices.append(
            st.tuples(st.sampled_from(words), st.integers(1, 3000)).map(lambda two: two[0] * two[1])
        )
    return st.one_of(choices)


@st.composite
def damaged(draw: st.DrawFn, corpus: Sequence[bytes]) -> bytes:
    """Return a copy of a valid input with pieces removed, replaced, repeated or inserted."""
    data = bytearray(draw(st.sampled_from(corpus)))
    for _ in range(draw(st.integers(1, 6))):
        begin = draw(st.integers(0, len(data)))
        end = min(len(data), begin + draw(st.integers(0, 16)))
        match draw(st.integers(0, 3)):
            case 0:
                del data[begin:end]
            case 1:
                data[begin:end] = draw(st.binary(max_size=16))
            case 2:
                data[begin:begin] = data[begin:end] * draw(st.integers(1, 50))
            case _:
                data[begin:begin] = draw(
                    st.sampled_from([b"\0", b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x1b[31m"])
                )
    return bytes(data[:_LONGEST])
