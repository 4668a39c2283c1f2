"""A cluster of ours as a live target, of which options name the listeners."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener, Target


def only(target: Target, wanted: Callable[[Listener], bool]) -> Target:
    """Return the target with these of its listeners."""
    return replace(target, listeners=tuple(filter(wanted, target.listeners)))


def live(cluster: Cluster, *roles: Role) -> Target:
    """Return the cluster as a live one, of which the listeners of these roles are named."""
    target = replace(cluster.target(), origin="live", etcd_version=None, source=None)
    return only(target, lambda listener: listener.role in (roles or Role))


def without_ca_keys(target: Target) -> Target:
    """Return the target as a live one of which no CA key, served key or revoked client is known."""
    client, peer = (
        replace(port, signing_key=None, served=(), revoked=None) for port in (target.client, target.peer)
    )
    return replace(target, origin="live", client=client, peer=peer)


def tunnelled(target: Target, member: str | None = None) -> Target:
    """Return the target under a name that does not resolve, with a way to each listener."""
    listeners = tuple(
        replace(one, host="etcd.example", member=member or one.member, connect_to=one.address)
        for one in target.listeners
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
