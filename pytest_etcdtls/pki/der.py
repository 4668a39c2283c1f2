"""As much of DER (X.690) as it takes to read and to exchange fields of a certificate."""

from __future__ import annotations

from typing import Final

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
OBJECT_IDENTIFIER: Final = 0x06
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18
SEQUENCE: Final = 0x30
SET: Final = 0x31


class MalformedError(ValueError):
    """It is not what it should be; the text says which part."""


class Reader:
    """Reads elements one after the other, as strict as Go's ``cryptobyte``.

    Every method that reads takes the words for what is read: the text of the error.
    """

    def __init__(self, data: bytes) -> None:
        self.rest = data

    def __bool__(self) -> bool:
        return bool(self.rest)

    def at(self, tag: int) -> bool:
        """Return whether an element of that tag is next."""
        return self.rest[:1] == bytes((tag,))

    def any_element(self, what: str) -> tuple[int, bytes, bytes]:
        """Return tag, content and the whole element.

        Raises:
            MalformedError: if no element of DER is there.
        """
        data = self.rest
        # Tags above 30 take several octets; no field of a certificate has one.
        if len(data) < 2 or data[0] & 0x1F == 0x1F:
            raise MalformedError(what)
        tag, length, begin = data[0], data[1], 2
        if length >= 0x80:
            begin = 2 + (length & 0x7F)
            octets = data[2:begin]
            length = int.from_bytes(octets, "big")
            shortest = octets and octets[0] and length >= 0x80
            if not shortest or len(octets) > 4 or len(octets) != begin - 2:
                raise MalformedError(what)
        end = begin + length
        if len(data) < end:
            raise MalformedError(what)
        self.rest = data[end:]
        return tag, data[begin:end], data[:end]

    def element(self, tag: int, what: str) -> bytes:
        """Return the whole next element, which must have the tag."""
        found, _, whole = self.any_element(what)
        if found != tag:
            raise MalformedError(what)
        return whole

    def content(self, tag: int, what: str) -> bytes:
        """Return the content of the next element, which must have the tag."""
        found, content, _ = self.any_element(what)
        if found != tag:
            raise MalformedError(what)
        return content

    def inside(self, tag: int, what: str) -> Reader:
        """Return a reader of the content of the next element, which must have the tag."""
        return Reader(self.content(tag, what))

    def optional(self, tag: int, what: str) -> bytes | None:
        """Return the content of the next element if it has the tag, else ``None``, and nothing is read."""
        return self.content(tag, what) if self.at(tag) else None

    def boolean(self, what: str) -> bool:
        """Return a BOOLEAN."""
        content = self.content(BOOLEAN, what)
        if content not in (b"\x00", b"\xff"):
            raise MalformedError(what)
        return content == b"\xff"

    def integer(self, what: str, *, tag: int = INTEGER, bits: int | None = None) -> int:
        """Return an INTEGER, one that fits so many bits with its sign."""
        content = self.content(tag, what)
        value = int.from_bytes(content, "big", signed=True)
        if not content or content != encode_integer(value):
            raise MalformedError(what)
        if bits is not None and not -(1 << bits - 1) <= value < 1 << bits - 1:
            raise MalformedError(what)
        return value

    def bit_string(self, what: str) -> tuple[bytes, int]:
        """Return the octets of a BIT STRING and how many bits of the last are unused."""
        content = self.content(BIT_STRING, what)
        if not content:
            raise MalformedError(what)
        unused, octets = content[0], content[1:]
        if unused > 7 or (unused and not octets) or (octets and octets[-1] & ((1 << unused) - 1)):
            raise MalformedError(what)
        return octets, unused

    def object_identifier(self, what: str) -> str:
        """Return an OBJECT IDENTIFIER in dotted form; numbers above 2**31 are refused, as in Go."""
        return dotted(self.content(OBJECT_IDENTIFIER, what), what)


def dotted(content: bytes, what: str, *, largest: int = (1 << 31) - 1) -> str:
    """Return the dotted form of the content of an OBJECT IDENTIFIER.

    Raises:
        MalformedError: if it is none, or one of its numbers is larger than asked for.
    """
    numbers: list[int] = []
    value, started = 0, False
    for octet in content:
        if not started and octet == 0x80:
            raise MalformedError(what)
        value, started = value << 7 | octet & 0x7F, True
        if value > largest:
            raise MalformedError(what)
        if not octet & 0x80:
            numbers.append(value)
            value, started = 0, False
    if started or not numbers:
        raise MalformedError(what)
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


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
