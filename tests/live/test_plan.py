"""``--etcd-plan`` lists every connection that a run makes, whichever check is selected."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from live.target_kinds import CHECKS, EACH_KIND, Kind, beyond, live, start

from pytest_etcdtls.checks.registry import Check
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig


@pytest.fixture(scope="module")
def cluster(newest_etcd: Path) -> Iterator[Cluster]:
    with start(ClusterConfig(), newest_etcd) as started:
        yield started


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_no_check_alone_makes_more_connections_than_planned(cluster: Cluster, check: Check) -> None:
    assert beyond(live(cluster), [check]) == []


@pytest.mark.whole
@EACH_KIND
def test_no_check_alone_makes_more_on_any_target(kind: Kind, newest_etcd: Path) -> None:
    with start(kind.config, newest_etcd) as cluster:
        target = kind.target(cluster)
        by_check = {check.id: beyond(target, [check]) for check in CHECKS}
    assert {id_: said for id_, said in by_check.items() if said} == {}
