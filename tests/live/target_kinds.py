"""A cluster of ours as a live target, of which options name the listeners."""

from __future__ import annotations

from dataclasses import replace

from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Target


def live(cluster: Cluster, *roles: Role) -> Target:
    """Return the cluster as a live one, of which the listeners of these roles are named."""
    target = cluster.target()
    listeners = tuple(listener for listener in target.listeners if listener.role in (roles or Role))
    return replace(target, origin="live", listeners=listeners, etcd_version=None, source=None)


def tunnelled(target: Target, **changes: str) -> Target:
    """Return the target under a name that does not resolve, with a way to each listener."""
    listeners = tuple(
        replace(listener, host="etcd.example", connect_to=listener.address, **changes)
        for listener in target.listeners
    )
    return replace(target, listeners=listeners)


def at_hosts(target: Target, *hosts: str) -> Target:
    """Return a target as a live one of which options name the listeners, each member at one of the hosts."""
    of_member = dict(zip(dict.fromkeys(listener.member for listener in target.listeners), hosts, strict=True))
    listeners = tuple(
        replace(listener, host=host, member=host, label=f"{listener.role}-{host}-{listener.port}")
        for listener in target.listeners
        for host in [of_member[listener.member]]
    )
    unknown = replace(target, etcd_version=None, source=None, declared={}, logs={})
    return replace(unknown, origin="live", listeners=listeners)
