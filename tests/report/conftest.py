"""A live etcd and a runner of pytest, for reports of runs."""

from __future__ import annotations

from plugin.conftest import live, open_etcd
from plugin.runs import run

__all__ = ["live", "open_etcd", "run"]
