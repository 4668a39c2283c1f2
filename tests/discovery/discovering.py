"""Targets with some named listeners, whose other listeners are discovered."""

from __future__ import annotations

from collections.abc import Callable

from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.checks.results import CheckResult
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.facts.discovery import Discovery
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import Judge
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.settings.endpoints import parse_endpoint
from pytest_etcdtls.target import Bounds, Listener, Target

_OPTIONS = {Role.CLIENT: "etcd_endpoint", Role.PEER: "etcd_peer_endpoint"}


def named(url: str, role: Role = Role.CLIENT) -> Listener:
    """Return the listener that a user names by that URL."""
    return parse_endpoint(_OPTIONS.get(role, f"etcd_{role}_endpoint"), url, role)


def live(cluster: Cluster, *listeners: Listener) -> Target:
    """Return the cluster as a live one, of which only these listeners are named."""
    target = cluster.target("live")
    return Target(
        label="live",
        origin="live",
        listeners=listeners,
        client=target.client,
        peer=target.peer,
        user=target.user,
        discover=True,
    )


def observer_of(target: Target, bounds: Bounds | None = None) -> Observer:
    """Return an observer that has discovered the members of the cluster."""
    observer = Observer(target, bounds)
    observer.discover()
    return observer


def found(observer: Observer) -> Discovery:
    """Return the discovery."""
    return observer.get(Discovery)


def judged(
    observer: Observer, check: str = "cluster.discovered", listener: Listener | None = None
) -> CheckResult:
    """Return the result of a check."""
    return Judge(observer).result(catalogue()[check], listener)


def urls(observer: Observer) -> set[str]:
    """Return the URLs that are judged."""
    return {listener.url for listener in observer.target.listeners}


def everything(cluster: Cluster, of: Callable[[int], bool] = lambda _: True) -> set[str]:
    """Return the client and peer URLs of the members of the cluster."""
    return {
        url
        for index, member in enumerate(cluster.members)
        for url in (member.client_url, member.peer_url)
        if of(index)
    }
