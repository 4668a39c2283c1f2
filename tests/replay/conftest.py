"""A runner of pytest, and a port that must not be contacted."""

from __future__ import annotations

from plugin.runs import run
from plugin.unvisited import listening

__all__ = ["listening", "run"]
