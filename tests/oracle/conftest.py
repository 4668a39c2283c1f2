"""Go's own verifier."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from oracle.clients import GoClient


@pytest.fixture(scope="session")
def go(tmp_path_factory: pytest.TempPathFactory, program: Callable[[str], str]) -> GoClient:
    """The Go client, built here; skipped with a message without Go."""
    program("go")
    return GoClient(tmp_path_factory.mktemp("oracle"))
