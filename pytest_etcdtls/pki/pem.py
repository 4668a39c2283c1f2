"""Finds the blocks of a PEM file (RFC 7468). Does not decode what is in them, nor raise for what is not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

CERTIFICATE_LABELS: Final = frozenset({"CERTIFICATE", "X509 CERTIFICATE"})
KEY_LABELS: Final = frozenset({"PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY", "DSA PRIVATE KEY"})
ENCRYPTED_LABEL: Final = "ENCRYPTED PRIVATE KEY"

_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----")


@dataclass(frozen=True, slots=True)
class Block:
    """One block.

    Attributes:
        label: what its first line says that it is.
        data: from its first line to its last; ``None`` if it has no last line.
    """

    label: str
    data: bytes | None

    @property
    def encrypted(self) -> bool:
        """Whether it is a key under a password, by its label or by the headers of RFC 1421."""
        return self.label == ENCRYPTED_LABEL or b"ENCRYPTED" in (self.data or b"")[:200]


def pem_blocks(text: bytes) -> tuple[Block, ...]:
    """Return all blocks in order; empty if it is no PEM file."""
    blocks = []
    for begin in _BEGIN.finditer(text):
        end = text.find(b"-----END " + begin[1] + b"-----", begin.end())
        following = _BEGIN.search(text, begin.end())
        whole = end >= 0 and (following is None or end < following.start())
        last = end + len(begin[0]) - len(b"BEGIN") + len(b"END")
        blocks.append(Block(begin[1].decode(), text[begin.start() : last] if whole else None))
    return tuple(blocks)
