"""The servers of our own, as fixtures."""

from impostors.staging import fake
from servers import pki, serve, tls_context

__all__ = ["fake", "pki", "serve", "tls_context"]
