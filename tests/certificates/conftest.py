"""The servers of our own, as fixtures."""

from servers import serve

__all__ = ["serve"]
