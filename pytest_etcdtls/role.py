"""What a listener of etcd is for.

A vocabulary of its own, below everything that talks about listeners: declared ones and real ones.
"""

from __future__ import annotations

from enum import StrEnum

CLUSTER = "cluster"
"""The role and the listener label of what is about the whole target."""


class Role(StrEnum):
    """What a listener is for, with etcd's usual port."""

    CLIENT = "client"
    """2379, ``--listen-client-urls``."""
    PEER = "peer"
    """2380, ``--listen-peer-urls``."""
    METRICS = "metrics"
    """2381, ``--listen-metrics-urls``."""
    CLIENT_HTTP = "client-http"
    """``--listen-client-http-urls``."""

    @property
    def option(self) -> str:
        """The option that names such a listener: ``--etcd-endpoint`` a client's, ``--etcd-peer-endpoint``."""
        return "--etcd-endpoint" if self is Role.CLIENT else f"--etcd-{self}-endpoint"
