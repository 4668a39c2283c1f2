"""What a member listens on and what it advertises, as etcd's URL lists. Values only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pytest_etcdtls.cluster.config import ClusterConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberAddresses:
    """The URLs of one member.

    Attributes:
        name: of the member.
        listen_client: ``--listen-client-urls``.
        advertise_client: ``--advertise-client-urls``.
        listen_peer: ``--listen-peer-urls``.
        advertise_peer: ``--initial-advertise-peer-urls``, and the member's part of ``--initial-cluster``.
        listen_metrics: ``--listen-metrics-urls``; empty for none.
        listen_client_http: ``--listen-client-http-urls``; empty for none.
    """

    name: str
    listen_client: tuple[str, ...]
    advertise_client: tuple[str, ...]
    listen_peer: tuple[str, ...]
    advertise_peer: tuple[str, ...]
    listen_metrics: tuple[str, ...] = ()
    listen_client_http: tuple[str, ...] = ()


def ports_needed(config: ClusterConfig) -> int:
    """Return how many ports one member needs."""
    return 2 + config.plain_client_listener + (config.metrics is not None) + config.client_http


def loopback_addresses(config: ClusterConfig, name: str, ports: Iterator[int]) -> MemberAddresses:
    """Return the addresses of a member that listens on ``config.host``.

    Args:
        config: what is asked for.
        name: of the member.
        ports: as many as :func:`ports_needed` says are taken from it.
    """
    host = f"[{config.host}]" if ":" in config.host else config.host
    client_port = next(ports)
    client = f"{config.client_scheme}://{host}:{client_port}"
    peer = f"{config.peer_scheme}://{host}:{next(ports)}"
    listen = [client]
    if config.plaintext_on_client_port:
        listen.append(f"http://{host}:{client_port}")
    if config.plain_client_listener:
        listen.append(f"http://{host}:{next(ports)}")
    return MemberAddresses(
        name=name,
        listen_client=tuple(listen),
        advertise_client=(client,),
        listen_peer=(peer,),
        advertise_peer=(peer,),
        listen_metrics=(f"{config.metrics}://{host}:{next(ports)}",) if config.metrics else (),
        listen_client_http=(f"{config.client_scheme}://{host}:{next(ports)}",) if config.client_http else (),
    )
