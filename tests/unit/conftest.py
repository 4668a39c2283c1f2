"""Servers of our own, as a fixture."""

from servers import serve

__all__ = ["serve"]
