"""Servers that imitate etcd with one PKI, started and closed by fixtures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from impostors.staging import FakeCluster
from servers import Handler, Server, pki, serve

from pytest_etcdtls.pki.bundle import ClusterPKI

__all__ = ["pki", "serve"]


@pytest.fixture
def fake(pki: tuple[ClusterPKI, Path], serve: Callable[[Handler], Server]) -> FakeCluster:
    """Servers that imitate a cluster."""
    return FakeCluster(*pki, serve)
