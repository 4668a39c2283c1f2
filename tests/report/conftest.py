"""A live etcd and a runner of pytest, for reports of runs."""

from __future__ import annotations

from plugin.conftest import live
from plugin.runs import run

__all__ = ["live", "run"]
