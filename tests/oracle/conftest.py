"""Go's own verifier."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from oracle.clients import GoClient, why_no_go


@pytest.fixture(scope="session")
def go(tmp_path_factory: pytest.TempPathFactory, program: Callable[[str], str]) -> GoClient:
    """The Go client, built here; skipped with a message without Go."""
    program("go")
    if missing := why_no_go():
        pytest.skip(f"needs {missing}")
    return GoClient(tmp_path_factory.mktemp("oracle"))
