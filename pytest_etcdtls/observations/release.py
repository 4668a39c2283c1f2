"""Which release of etcd and of Go is running. Parses version strings; knows of no advisory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

_RELEASE = re.compile(r"(?:v|go)?(\d+)\.(\d+)(?:\.(\d+))?(.*)", re.DOTALL)
_BEFORE_RELEASE = re.compile(r"-?(alpha|beta|pre|rc)")


@dataclass(frozen=True, slots=True, order=True)
class Release:
    """A version that can be compared: ``3.6.0-rc.1`` comes before ``3.6.0``.

    Attributes:
        patch: 0 where the version has none (``go1.20``).
        final: it is no alpha, beta or release candidate. Other suffixes are a vendor's and change nothing.
    """

    major: int
    minor: int
    patch: int
    final: bool = True

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the release that ``3.5.33``, ``3.6.0-rc.1`` or ``go1.24.0`` names, ``None`` if none."""
        found = _RELEASE.fullmatch(text.strip())
        if found is None:
            return None
        final = _BEFORE_RELEASE.match(found[4]) is None
        return cls(int(found[1]), int(found[2]), int(found[3] or 0), final)

    @property
    def line(self) -> tuple[int, int]:
        """The release line, ``(3, 6)``."""
        return self.major, self.minor

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}" + ("" if self.final else " before release")


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdRelease:
    """The release of the etcd behind a listener.

    Attributes:
        member: label of the member.
        source: where it was read: ``/version``, ``gRPC Status``, ``/metrics``, or ``the binary`` of an owned
            cluster.
    """

    url: str
    member: str
    release: Release
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GoRelease:
    """The Go release that the etcd behind a listener was built with, as ``/metrics`` tells it.

    Attributes:
        member: label of the member.
        text: as etcd writes it: ``go1.26.8``.
    """

    url: str
    member: str
    release: Release
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdReleases:
    """The etcd releases of the target's members, one each."""

    members: tuple[EtcdRelease, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitListeners:
    """The etcd releases of the members whose HTTP has a listener beside the gRPC port."""

    members: tuple[EtcdRelease, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GoReleases:
    """The Go releases of the target's members, one each."""

    members: tuple[GoRelease, ...]
