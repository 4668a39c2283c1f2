"""Roles of listeners, TLS versions, and protocols."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

CLUSTER = "cluster"
"""The role and the listener label of results about the whole target."""

Side = Literal["client", "peer"]


class Role(StrEnum):
    """The role of a listener, with etcd's usual port."""

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
        """The option that names such a listener: ``--etcd-endpoint``, ``--etcd-peer-endpoint``, ..."""
        return "--etcd-endpoint" if self is Role.CLIENT else f"--etcd-{self}-endpoint"

    @property
    def prefix(self) -> str:
        """The prefix of the flags and options for its certificates: ``peer-``, or empty for other roles."""
        return "peer-" if self is Role.PEER else ""

    @property
    def side(self) -> Side:
        """The side whose TLS settings apply: etcd has one set for peers, and one for all other listeners."""
        return "peer" if self is Role.PEER else "client"


class TLSVersion(StrEnum):
    """A protocol version, spelled as in RFC 8446 and RFC 5246."""

    TLS1_2 = "TLSv1.2"
    TLS1_3 = "TLSv1.3"


class Protocol(StrEnum):
    """The protocol used after the handshake."""

    HTTP1 = "http/1.1"
    """A GET over HTTP/1.1."""
    HTTP2 = "h2"
    """A GET over HTTP/2."""
    GATEWAY = "gateway"
    """A POST to etcd's JSON gateway, over HTTP/1.1."""
    GRPC = "grpc"
    """A unary gRPC call over HTTP/2."""
