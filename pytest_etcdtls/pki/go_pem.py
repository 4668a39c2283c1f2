"""Go's ``pem.Decode``, by which etcd finds the certificates in a file of trusted CAs.

``decode`` follows Go 1.24.8, 1.25.2 and newer (encoding/pem). Older ones find the same blocks, except one
whose BEGIN stands inside another block's BEGIN or END line. ``pem_blocks`` in ``certificate`` is more lenient
and keeps the text of the blocks.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

_BEGIN: Final = b"-----BEGIN "
_END: Final = b"\n-----END "
_DASHES: Final = b"-----"
_BLANK: Final = b" \t"


class DecodedBlock(Struct, frozen=True):
    """One block that Go recognises.

    Attributes:
        label: the type in its BEGIN line.
        content: the decoded octets.
    """

    label: str
    content: bytes


def decode(data: bytes) -> Iterator[DecodedBlock]:
    """Yield the blocks that repeated calls of Go's ``pem.Decode`` return. Takes time linear in the size."""
    position = 0
    while (end := data.find(_END, position)) >= 0:
        after_end = end + len(_END)
        begin = data.rfind(_BEGIN, position, end)
        # ``position`` starts a line, or it follows an END line that was not accepted.
        if begin < 0 or (begin > position and data[begin - 1] != ord("\n")):
            position = after_end
            continue
        label, start = _line(data, begin + len(_BEGIN))
        if not label.endswith(_DASHES):
            position = after_end
            continue
        label = label[: -len(_DASHES)]
        headers = 0
        while True:
            if start >= len(data):
                return
            header, following = _line(data, start)
            if b":" not in header:
                break
            headers, start = headers + 1, following
        # Without headers the END line may follow at once; then its newline is that of the BEGIN line.
        if headers and end < start:
            if after_end < start:
                return
            position = after_end
            continue
        content = _content(data, start, end, label, after_end)
        position = after_end
        if content is not None:
            yield DecodedBlock(label.decode(errors="replace"), content)
            _, position = _line(data, after_end)


def _line(data: bytes, start: int) -> tuple[bytes, int]:
    """Return a line without its end and trailing blanks, and the start of the next one."""
    newline = data.find(b"\n", start)
    if newline < 0:
        return data[start:].rstrip(_BLANK), len(data)
    end = newline - 1 if newline > start and data[newline - 1] == ord("\r") else newline
    return data[start:end].rstrip(_BLANK), newline + 1


def _content(data: bytes, start: int, end: int, label: bytes, after_end: int) -> bytes | None:
    """Return the decoded content of a block, ``None`` if its END line or its base64 is not accepted."""
    trailer, _ = _line(data, after_end)
    if trailer != label + _DASHES:
        return None
    encoded = data[start:end].translate(None, b" \t\r\n") if end > start else b""
    try:
        # Python accepts padding after complete groups of four, unlike Go.
        return (
            None
            if len(encoded) % 4 or encoded.endswith(b"===")
            else binascii.a2b_base64(encoded, strict_mode=True)
        )
    except binascii.Error:
        return None
