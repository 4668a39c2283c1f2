"""Conforming clusters conform in containers too; ``presets`` has those of processes."""

from __future__ import annotations

from collections import Counter

import pytest
from starting import start_container
from zoo.baseline import warned
from zoo.model import explain, found

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer


@pytest.mark.container
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.oldest_and_newest
def test_containers(etcd_image: str, size: int) -> None:
    with start_container(ClusterConfig(size=size), etcd_image) as cluster:
        results = run_checks(Observer(cluster.target()), select(["!lifecycle"]))
    # etcd's log has the address of Docker's bridge.
    unknown = {role: {"mtls.log-tells-the-same"} for role in ("client", "peer")}
    rest: dict[str, dict[str, set[str]]] = {"violates": {}, "inconclusive": {}, "broken": {}}
    expected = rest | {"warns": warned(cluster.version), "not-verified": unknown}
    assert found(results) == expected, explain(results)
    assert Counter(result.outcome for result in results)[Outcome.CONFORMS] > 40 * size
