"""The runner of pytest that the tests of the plugin have, and their etcd."""

from __future__ import annotations

from plugin.conftest import live
from plugin.runs import run

__all__ = ["live", "run"]
