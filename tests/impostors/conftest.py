"""Impostors of one PKI, started and closed by fixtures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from impostors.staging import Stage
from servers import Handler, Server, pki, serve

from pytest_etcdtls.pki.bundle import ClusterPKI

__all__ = ["pki", "serve"]


@pytest.fixture
def phase(pki: tuple[ClusterPKI, Path], serve: Callable[[Handler], Server]) -> Stage:
    """Where impostors are put up and judged."""
    return Stage(*pki, serve)
