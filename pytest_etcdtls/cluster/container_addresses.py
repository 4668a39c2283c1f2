"""The two sides of a container's listeners: what is published, and what etcd is told. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from pytest_etcdtls.cluster.addresses import MemberAddresses

CLIENT, PEER, METRICS, CLIENT_HTTP, PLAIN = 2379, 2380, 2381, 2382, 2383
"""Ports in the container."""


def published_ports(outside: MemberAddresses) -> Mapping[int, int]:
    """Return the ports on the host by those in the container."""
    client = _port(outside.listen_client[0])
    listeners = {
        CLIENT: outside.listen_client[:1],
        PEER: outside.listen_peer,
        METRICS: outside.listen_metrics,
        CLIENT_HTTP: outside.listen_client_http,
        PLAIN: tuple(url for url in outside.listen_client if _port(url) != client),
    }
    return {inside: _port(urls[0]) for inside, urls in listeners.items() if urls}


def inside_addresses(outside: MemberAddresses) -> MemberAddresses:
    """Return what the etcd in the container listens on and advertises.

    Clients are told the published URLs, which are true on this host. Peers find each other by name on the
    cluster's own network.

    Args:
        outside: what is published on the host.
    """
    inside = {published: port for port, published in published_ports(outside).items()}

    def listen(urls: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(f"{urlsplit(url).scheme}://0.0.0.0:{inside[_port(url)]}" for url in urls)

    return MemberAddresses(
        name=outside.name,
        listen_client=listen(outside.listen_client),
        advertise_client=outside.advertise_client,
        listen_peer=listen(outside.listen_peer),
        advertise_peer=tuple(
            f"{urlsplit(url).scheme}://{outside.name}:{PEER}" for url in outside.listen_peer
        ),
        listen_metrics=listen(outside.listen_metrics),
        listen_client_http=listen(outside.listen_client_http),
    )


def at_host(addresses: MemberAddresses, host: str) -> MemberAddresses:
    """Return the addresses with another host, that of an engine which is not on this one."""
    authority = f"[{host}]" if ":" in host else host

    def move(urls: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(f"{urlsplit(url).scheme}://{authority}:{_port(url)}" for url in urls)

    return MemberAddresses(
        name=addresses.name,
        listen_client=move(addresses.listen_client),
        advertise_client=move(addresses.advertise_client),
        listen_peer=move(addresses.listen_peer),
        advertise_peer=move(addresses.advertise_peer),
        listen_metrics=move(addresses.listen_metrics),
        listen_client_http=move(addresses.listen_client_http),
    )


def _port(url: str) -> int:
    port = urlsplit(url).port
    if port is None:
        raise ValueError(f"{url} has no port")
    return port
