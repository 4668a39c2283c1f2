"""Versions of etcd as numbers to compare, and what is asked of them. Knows nothing of what changed when."""

from __future__ import annotations

import re

UNKNOWN_IS_NEWEST = (99,)
"""What an unknown version is compared as: etcd as it is today."""


def version_key(version: str | None) -> tuple[int, ...]:
    """Return a version as numbers: ``v3.6.4-0`` as (3, 6, 4), ``None`` as the newest."""
    match = re.search(r"\d+(\.\d+){1,2}", version or "")
    return tuple(int(number) for number in match[0].split(".")) if match else UNKNOWN_IS_NEWEST


def line(version: str | None) -> str | None:
    """Return the minor line, ``3.6`` for ``3.6.16``; ``None`` if the version is not known."""
    key = version_key(version)
    return None if key == UNKNOWN_IS_NEWEST else ".".join(map(str, key[:2]))


def has(version: str | None, first: dict[str, int], newer: bool = True) -> bool:
    """Return whether a version has what came with different patch releases of different lines.

    Args:
        version: to ask about.
        first: by line, the first patch release that has it.
        newer: whether the lines above all of these have it.
    """
    key = version_key(version)
    own = ".".join(map(str, key[:2]))
    if own in first:
        return (key[2] if len(key) > 2 else 0) >= first[own]
    return newer and key > max(version_key(known) for known in first)


def tag_version(image: str | None) -> str | None:
    """Return the version that an image's tag names: ``3.6.4`` for ``registry.k8s.io/etcd:3.6.4-0``."""
    match = re.search(r":v?(3\.\d+\.\d+)(?![\d.])[^/]*$", image or "")
    return match[1] if match else None
