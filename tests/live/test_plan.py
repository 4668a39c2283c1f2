"""``--etcd-plan`` lists every connection that a run makes, whichever checks are selected."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from accounting import AccountingObserver, beyond_the_plan, counted_connections
from starting import start_process

from pytest_etcdtls.cluster.cluster import Cluster
from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.registry import Check, catalogue, select
from pytest_etcdtls.results import Outcome
from pytest_etcdtls.role import CLUSTER, Role
from pytest_etcdtls.runner import run_checks
from pytest_etcdtls.suite.plan import ADVERTISED, planned
from pytest_etcdtls.target import Target


@pytest.fixture(scope="module")
def cluster(newest_etcd: Path) -> Iterator[Cluster]:
    with start_process(ClusterConfig(), newest_etcd) as started:
        yield started


def _live(cluster: Cluster, *roles: Role) -> Target:
    target = cluster.target()
    listeners = tuple(listener for listener in target.listeners if listener.role in roles)
    return replace(target, origin="live", listeners=listeners, etcd_version=None, source=None)


def test_a_peer_endpoint_alone_names_the_advertised_client_urls(cluster: Cluster) -> None:
    target, checks = _live(cluster, Role.PEER), select(["cluster.advertised-reachable"])
    observer = AccountingObserver(target)
    with counted_connections() as made:
        [result] = run_checks(observer, checks)
    assert result.outcome is Outcome.CONFORMS, result.reason
    client = urlsplit(cluster.members[0].client_url)
    assert made["127.0.0.1", client.port or 0] == 2 <= planned(target, checks)[ADVERTISED]
    assert sorted(observer.undeclared) == []
    assert beyond_the_plan(made, target, checks) == []


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, id=check.id)
        for check in catalogue().values()
        if check.family != "lifecycle" and not check.opt_in
    ],
)
def test_each_check_alone_makes_no_more_connections_than_planned(cluster: Cluster, check: Check) -> None:
    target = _live(cluster, Role.CLIENT, Role.PEER)
    observer = AccountingObserver(target)
    with counted_connections() as made:
        run_checks(observer, [check])
    plan = planned(target, [check])
    over = {label: number for label, number in observer.first_tries.items() if number > plan.get(label, 0)}
    assert (over, sorted(observer.undeclared)) == ({}, [])
    unlisted = set(made) - {listener.address for listener in target.listeners if plan[listener.label]}
    assert not unlisted or plan.get(CLUSTER) or plan.get(ADVERTISED)
