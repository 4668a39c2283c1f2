"""Hostile servers, child runs that are pointed at them, and an etcd of somebody's."""

from __future__ import annotations

from hostile.hostile_servers import hostile, judge
from plugin.conftest import live
from servers import pki, serve

__all__ = ["hostile", "judge", "live", "pki", "serve"]
