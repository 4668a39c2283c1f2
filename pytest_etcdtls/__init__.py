"""TLS on a live etcd, judged from the wire."""

from __future__ import annotations

from pytest_etcdtls._version import __version__

__all__ = ["__version__"]
