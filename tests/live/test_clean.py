"""Conforming clusters conform in containers too, and in a second run; ``presets`` has those of processes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from starting import start_container, start_process
from zoo.baseline import warned
from zoo.model import explain, found

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer


def _nothing_but(warnings: dict[str, set[str]]) -> dict[str, dict[str, set[str]]]:
    return {"violates": {}, "warns": warnings, "not-verified": {}, "inconclusive": {}, "broken": {}}


def _judged(cluster: Cluster) -> list[CheckResult]:
    return run_checks(Observer(cluster.target()), select(["!lifecycle"]))


@pytest.mark.container
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.oldest_and_newest
def test_containers(etcd_image: str, size: int) -> None:
    with start_container(ClusterConfig(size=size), etcd_image) as cluster:
        results = _judged(cluster)
    # etcd's log has the address of Docker's bridge.
    unknown = {role: {"mtls.log-tells-the-same"} for role in ("client", "peer")}
    assert found(results) == {**_nothing_but(warned(cluster.version)), "not-verified": unknown}, explain(
        results
    )
    assert Counter(result.outcome for result in results)[Outcome.CONFORMS] > 40 * size


def test_a_second_run_gives_the_same_outcomes(etcd_binary: Path) -> None:
    with start_process(ClusterConfig(), etcd_binary) as cluster:
        looks = [_judged(cluster) for _ in range(3)]
    outcomes: dict[tuple[str, str], dict[Outcome, str]] = {}
    for result in (result for look in looks for result in look):
        # etcd drops similar log lines from the 101st within a second; three looks may make more.
        if result.check != "mtls.log-tells-the-same":
            reasons = outcomes.setdefault((result.check, result.listener), {})
            reasons[result.outcome] = result.reason
    assert {place: found for place, found in outcomes.items() if len(found) > 1} == {}
