"""Conforming samples for tests; the modules of ``facts`` define them."""

from __future__ import annotations

from typing import Any

import pytest_etcdtls.lifecycle.experiment_table
import pytest_etcdtls.observer  # noqa: F401 - imports every module with samples
from pytest_etcdtls.facts.probe import sample_for
from pytest_etcdtls.registry import Need
from pytest_etcdtls.role import Role


def sample(need: Need, role: str) -> Any:
    """Return a conforming observation for what a check asks for on a listener of that role."""
    return sample_for(need.type, need.key, Role(role))
