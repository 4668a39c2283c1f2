"""Servers that imitate etcd with one PKI, as fixtures."""

from impostors.staging import fake
from servers import pki, serve

__all__ = ["fake", "pki", "serve"]
