"""The settings of one run, as immutable values.

Knows neither where they come from nor what is done with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.observer import Bounds
from pytest_etcdtls.target import Target
from pytest_etcdtls.waivers import Waiver


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """How owned clusters are started.

    Attributes:
        backend: ``auto``, ``container`` or ``process``.
        images: one cluster from each.
        binaries: paths, or names to look up on ``PATH``; one cluster from each, behind the images'.
        config: what they shall be.
        keep: they are left standing after the run.
    """

    backend: str = "auto"
    images: tuple[str, ...] = ()
    binaries: tuple[str, ...] = ()
    config: ClusterConfig = field(default_factory=ClusterConfig)
    keep: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one run is about.

    Attributes:
        live: the live cluster, ``None`` if an owned one is meant.
        owned: how owned clusters are started.
        patterns: of ``--etcd-check``.
        strict: a SHOULD that is not kept violates.
        expiry_days: certificates that expire within so many days are warned about.
        allow_unverified: a TLS listener without any verdict about mutual TLS does not fail the run.
        waivers: those of the file; none if waivers are switched off.
        reports: files to write.
        bounds: of all observing.
        allow_writes: the fixture ``etcd_client`` may write to a live cluster.
    """

    live: Target | None = None
    owned: Owned = field(default_factory=Owned)
    patterns: tuple[str, ...] = ()
    strict: bool = False
    expiry_days: int = 30
    allow_unverified: bool = False
    waivers: tuple[Waiver, ...] = ()
    reports: tuple[Path, ...] = ()
    bounds: Bounds = field(default_factory=Bounds)
    allow_writes: bool = False
