"""As much of DER (X.690) as it takes to exchange a field of a certificate. Knows no certificates."""

from __future__ import annotations

from typing import Final

INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
SEQUENCE: Final = 0x30


def encode(tag: int, content: bytes) -> bytes:
    """Return one element: tag, length, content."""
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def encode_integer(value: int) -> bytes:
    """Return the content of an INTEGER: the shortest two's complement, at least one octet."""
    magnitude = value if value >= 0 else ~value
    return value.to_bytes(magnitude.bit_length() // 8 + 1, "big", signed=True)


def children(der: bytes) -> list[bytes]:
    """Return the elements of a SEQUENCE, each with its tag and length.

    For DER that is known to be sound: nothing is checked.
    """
    position, end = _content(der, 0)
    elements = []
    while position < end:
        _, next_position = _content(der, position)
        elements.append(der[position:next_position])
        position = next_position
    return elements


def _content(der: bytes, start: int) -> tuple[int, int]:
    """Return where the content of the element at ``start`` begins and ends."""
    first = der[start + 1]
    if first < 0x80:
        return start + 2, start + 2 + first
    begin = start + 2 + (first & 0x7F)
    return begin, begin + int.from_bytes(der[start + 2 : begin], "big")
