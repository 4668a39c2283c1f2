"""The servers of our own, as fixtures."""

from servers import pki, serve, tls_context

__all__ = ["pki", "serve", "tls_context"]
