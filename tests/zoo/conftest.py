"""Collects what the zoo's run saw, and writes the kill matrix where ``KILL_MATRIX`` names a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from zoo.matrix import Row, render

from pytest_etcdtls.catalog import catalogue


@pytest.fixture(scope="session")
def kill_matrix() -> Iterator[list[Row]]:
    """Rows of the kill matrix, one per cluster that was judged as expected."""
    rows: list[Row] = []
    yield rows
    if path := os.environ.get("KILL_MATRIX"):
        Path(path).write_text(render(rows, catalogue()))
