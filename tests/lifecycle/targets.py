"""Targets of which only the etcd that they run is known, which is all that an experiment needs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pytest_etcdtls.etcd.sources import binary_version
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener, Target


def of_etcd(source: str, version: str, origin: Literal["live", "process", "container"] = "process") -> Target:
    """Return a target whose own cluster does not run."""
    listener = Listener(
        role=Role.CLIENT, scheme="https", host="127.0.0.1", port=1, member="m0", label="client-m0"
    )
    return Target(label="t", origin=origin, listeners=(listener,), source=source, etcd_version=version)


def of_binary(binary: Path) -> Target:
    """Return a target that runs that binary."""
    return of_etcd(str(binary), binary_version(binary))
