"""A cluster of three members, impostors, and a runner of pytest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from impostors.staging import fake
from plugin.runs import listening, run
from servers import pki, serve
from starting import start_process

from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.facts import discovery
from pytest_etcdtls.role import Role

__all__ = ["fake", "listening", "pki", "run", "serve"]


@pytest.fixture(autouse=True)
def usual_ports(monkeypatch: pytest.MonkeyPatch) -> dict[int, Role]:
    """The ports at which listeners are looked for that nobody named: none, unless a test adds some."""
    ports: dict[int, Role] = {}
    monkeypatch.setattr(discovery, "USUAL_PORTS", ports)
    return ports


@pytest.fixture(scope="session")
def trio(newest_etcd: Path) -> Iterator[Cluster]:
    """Three conforming members; who stops one starts it again."""
    with start_process(ClusterConfig(size=3), newest_etcd) as cluster:
        yield cluster
