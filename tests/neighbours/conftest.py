"""Clients and plugins of others: ``make test WITH=neighbours`` installs them, else tests are skipped."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from plugin.conftest import live, open_etcd

__all__ = ["live", "open_etcd"]

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    if os.environ.get("NEIGHBOURS"):
        return
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(
                pytest.mark.skip(reason="needs clients and plugins of others: run make test WITH=neighbours")
            )
