"""Versions of etcd and Go, and which of them has a change.

A change reaches several release lines, each in a patch release of its own: ``{"3.5": 32, "3.6": 13}``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Self

from msgspec import Struct

_LONGEST = 100
_RELEASE = re.compile(r"(?:v|go)?(\d+)\.(\d+)(?:\.(\d+))?(.*)", re.DOTALL)


class Release(Struct, frozen=True, order=True):
    """A version that can be compared: ``3.6.0-rc.1`` comes before ``3.6.0``.

    Attributes:
        patch: 0 where the version has none (``go1.20``).
        final: it is no alpha, beta or release candidate. Other suffixes are a vendor's and are ignored.
    """

    major: int
    minor: int
    patch: int
    final: bool = True

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the release that ``3.5.33``, ``3.6.0-rc.1`` or ``go1.24.0`` names, ``None`` if none."""
        match = _RELEASE.fullmatch(text.strip()) if len(text) < _LONGEST else None
        if match is None:
            return None
        final = not is_before_release(match[0])
        return cls(int(match[1]), int(match[2]), int(match[3] or 0), final)

    @property
    def line(self) -> tuple[int, int]:
        """The release line, ``(3, 6)``."""
        return self.major, self.minor

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}" + ("" if self.final else "-pre-release")


UNKNOWN_IS_NEWEST = (99,)
"""The key of an unknown version. It compares as the newest etcd."""


def version_key(version: str | None) -> tuple[int, ...]:
    """Return a version as numbers: ``v3.6.4-0`` as (3, 6, 4), ``None`` as the newest."""
    match = re.search(r"\d+(\.\d+){1,2}", version or "")
    return tuple(int(number) for number in match[0].split(".")) if match else UNKNOWN_IS_NEWEST


def minor_line(version: str | None) -> str | None:
    """Return the minor line, ``3.6`` for ``3.6.16``; ``None`` if the version is not known."""
    key = version_key(version)
    return None if key == UNKNOWN_IS_NEWEST else ".".join(map(str, key[:2]))


def is_before_release(version: str | None) -> bool:
    """Return whether a version of etcd or Go is an alpha, beta or release candidate: ``3.8.0-alpha.0``."""
    return re.match(r"(v|go)?\d+(\.\d+){1,2}-?(alpha|beta|pre|rc)", version or "") is not None


def has_since(version: Release | str | None, first: Mapping[str, int]) -> bool:
    """Return whether a version has a change that several lines got in different patch releases.

    Args:
        version: of etcd or Go; ``None`` is the newest.
        first: the first patch release that has it, by minor line. Newer lines have it too; a pre-release
            of one of these lines has not.
    """
    text = None if version is None else str(version)
    key = version_key(text)
    own = ".".join(map(str, key[:2]))
    if own in first:
        return not is_before_release(text) and (key[2] if len(key) > 2 else 0) >= first[own]
    return key > max(map(version_key, first))


def tag_version(image: str | None) -> str | None:
    """Return the version in an image's tag: ``3.6.4`` for ``registry.k8s.io/etcd:3.6.4-0``."""
    match = re.search(r":v?(3\.\d+\.\d+(?:-(?:alpha|beta|rc)\.\d+)?)(?![\d.])[^/]*$", image or "")
    return match[1] if match else None
