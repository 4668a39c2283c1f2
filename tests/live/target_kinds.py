"""Every kind of target, and whether a run makes more connections to it than planned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from accounting import AccountingObserver, beyond_the_plan
from connections import counted_connections
from discovery.discovering import live as discovering
from discovery.discovering import named
from starting import start_process

from pytest_etcdtls.checks.registry import Check, select
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.etcd_flags import UnknownFlagError
from pytest_etcdtls.etcd.presets import PRESETS
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.plan import planned
from pytest_etcdtls.target import ConnectTo, Listener, Target

CHECKS = select(["!lifecycle"])


def start(config: ClusterConfig, binary: Path) -> Cluster:
    """Start a cluster. The test is skipped where this etcd lacks a flag of the configuration."""
    try:
        return start_process(config, binary)
    except UnknownFlagError as error:
        pytest.skip(f"not to be expressed in this version: {error}")


def live(cluster: Cluster, *roles: Role) -> Target:
    """Return the cluster as a live one, of which the listeners of these roles are named."""
    target = cluster.target()
    listeners = tuple(listener for listener in target.listeners if listener.role in (roles or Role))
    return replace(target, origin="live", listeners=listeners, etcd_version=None, source=None)


def at_hosts(target: Target, *hosts: str) -> Target:
    """Return a target as a live one of which options name the listeners, each member at one of the hosts."""
    of_member = dict(zip(dict.fromkeys(listener.member for listener in target.listeners), hosts, strict=True))
    listeners = tuple(
        replace(listener, host=host, member=host, label=f"{listener.role}-{host}-{listener.port}")
        for listener in target.listeners
        for host in [of_member[listener.member]]
    )
    return replace(
        target,
        origin="live",
        etcd_version=None,
        source=None,
        listeners=listeners,
        declared={},
        logs={},
    )


def _elsewhere(cluster: Cluster) -> Target:
    """Return the cluster as a live one that is reached by ``--etcd-connect-to``."""

    def moved(listener: Listener) -> Listener:
        return replace(listener, host="etcd.example", connect_to=(listener.host, listener.port))

    target = live(cluster)
    rule = ConnectTo(text="etcd.example::127.0.0.1:", host="etcd.example", to_host="127.0.0.1")
    return replace(target, listeners=tuple(map(moved, target.listeners)), connect_to=(rule,))


def _by_name(cluster: Cluster) -> Target:
    """Return the cluster as a live one whose host has a name, with an address for each IP version."""
    target = live(cluster)
    listeners = tuple(replace(listener, host="localhost") for listener in target.listeners)
    return replace(target, listeners=listeners)


def _through(role: Role) -> Callable[[Cluster], Target]:
    """Return the function that names one listener of a cluster, whose others are discovered."""

    def target(cluster: Cluster) -> Target:
        member = cluster.members[0]
        url = member.peer_url if role is Role.PEER else member.client_url
        return discovering(cluster, named(url, role))

    return target


@dataclass(frozen=True)
class Kind:
    """A kind of target: what runs, and what of it a user names."""

    config: ClusterConfig
    target: Callable[[Cluster], Target]


_PLAIN = ClusterConfig(client_scheme="http", peer_scheme="http")

KINDS: Mapping[str, Kind] = {
    "endpoints": Kind(ClusterConfig(metrics="https"), live),
    "metrics and client-http": Kind(ClusterConfig(metrics="http", client_http=True), live),
    "plaintext": Kind(_PLAIN, live),
    "users": Kind(PRESETS["authentication"].config, live),
    "connect-to": Kind(ClusterConfig(), _elsewhere),
    "a name with addresses": Kind(ClusterConfig(), _by_name),
    "several members": Kind(ClusterConfig(size=3), live),
    "discovery by a client listener": Kind(ClusterConfig(size=3), _through(Role.CLIENT)),
    "discovery by a peer listener": Kind(ClusterConfig(size=3), _through(Role.PEER)),
    "discovery of plaintext": Kind(_PLAIN, _through(Role.CLIENT)),
}


EACH_KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def beyond(target: Target, checks: Sequence[Check]) -> list[str]:
    """Judge a target and return what was not in the plan, or was not declared."""
    plan = planned(target, checks)
    observer = AccountingObserver(target)
    with counted_connections() as made:
        observer.discover()
        run_checks(observer, checks)
    return beyond_the_plan(made, plan, observer.target.listeners) + sorted(observer.beyond)
