"""Which etcd is to be started, and why that one. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdSource:
    """An etcd at hand.

    Attributes:
        kind: how it is started.
        location: path of the binary, or name of the image.
        version: as ``etcd --version`` prints it.
        why: why this one was taken, and what else is to be known about it; for the header.
    """

    kind: Literal["process", "container"]
    location: str
    version: str
    why: str
