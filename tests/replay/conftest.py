"""A runner of pytest, and a port that must not be contacted."""

from __future__ import annotations

from plugin.runs import listening, run

__all__ = ["listening", "run"]
