"""Groups for key exchange: their numbers, and which are weak, of today, or post-quantum. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class GroupKind(StrEnum):
    """What a group is worth."""

    HYBRID = "hybrid"
    """An elliptic curve together with ML-KEM: what is recorded today stays secret from a quantum computer."""
    MODERN = "modern"
    """An elliptic curve with 128 bits of strength or more, which every client has one of."""
    OTHER = "other"
    """Strong enough (112 bits), but not what clients commonly offer."""
    WEAK = "weak"
    """Below 112 bits of strength."""


@dataclass(frozen=True, slots=True, order=True)
class NamedGroup:
    """A group of the IANA registry TLS Supported Groups.

    Attributes:
        code: its number there.
        name: its name there, which is also what ``openssl s_client -groups`` takes.
    """

    code: int
    name: str
    kind: GroupKind


HYBRIDS = (
    NamedGroup(0x11EC, "X25519MLKEM768", GroupKind.HYBRID),
    NamedGroup(0x11EB, "SecP256r1MLKEM768", GroupKind.HYBRID),
    NamedGroup(0x11ED, "SecP384r1MLKEM1024", GroupKind.HYBRID),
)
MODERN = (
    NamedGroup(29, "x25519", GroupKind.MODERN),
    NamedGroup(23, "secp256r1", GroupKind.MODERN),
    NamedGroup(24, "secp384r1", GroupKind.MODERN),
    NamedGroup(25, "secp521r1", GroupKind.MODERN),
    NamedGroup(30, "x448", GroupKind.MODERN),
)
OTHERS = (
    NamedGroup(21, "secp224r1", GroupKind.OTHER),
    NamedGroup(22, "secp256k1", GroupKind.OTHER),
    NamedGroup(26, "brainpoolP256r1", GroupKind.OTHER),
    NamedGroup(27, "brainpoolP384r1", GroupKind.OTHER),
    NamedGroup(28, "brainpoolP512r1", GroupKind.OTHER),
    NamedGroup(256, "ffdhe2048", GroupKind.OTHER),
    NamedGroup(257, "ffdhe3072", GroupKind.OTHER),
    NamedGroup(258, "ffdhe4096", GroupKind.OTHER),
)
WEAK = (
    NamedGroup(1, "sect163k1", GroupKind.WEAK),
    NamedGroup(2, "sect163r1", GroupKind.WEAK),
    NamedGroup(3, "sect163r2", GroupKind.WEAK),
    NamedGroup(4, "sect193r1", GroupKind.WEAK),
    NamedGroup(5, "sect193r2", GroupKind.WEAK),
    NamedGroup(15, "secp160k1", GroupKind.WEAK),
    NamedGroup(16, "secp160r1", GroupKind.WEAK),
    NamedGroup(17, "secp160r2", GroupKind.WEAK),
    NamedGroup(18, "secp192k1", GroupKind.WEAK),
    NamedGroup(19, "secp192r1", GroupKind.WEAK),
)

GROUPS: dict[int, NamedGroup] = {
    group.code: group for groups in (HYBRIDS, MODERN, OTHERS, WEAK) for group in groups
}
"""Every group that is known here, by number."""


def group_name(code: int) -> str:
    """Return the name of a group, its number in hexadecimal if it is not known here."""
    return GROUPS[code].name if code in GROUPS else f"0x{code:04X}"
