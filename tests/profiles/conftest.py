"""The pytest runner and the etcd of the plugin tests."""

from __future__ import annotations

from plugin.conftest import live
from plugin.runs import run

__all__ = ["live", "run"]
