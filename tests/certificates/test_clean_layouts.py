"""Nothing is wrong with the certificates of any layout and kind of key that clusters are started with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from starting import start_process
from zoo.model import explain

from pytest_etcdtls.catalog import select
from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.observer import Observer
from pytest_etcdtls.pki.bundle import CALayout, PKIPlan
from pytest_etcdtls.pki.profile import KeyType
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.runner import run_checks


def judge(config: ClusterConfig, binary: Path) -> list[CheckResult]:
    with start_process(config, binary) as cluster:
        return run_checks(Observer(cluster.target()), select(["cert"]))


def assert_nothing_found(results: list[CheckResult]) -> None:
    found = {result.outcome for result in results}
    assert found <= {Outcome.CONFORMS, Outcome.NOT_APPLICABLE}, explain(results)
    assert sum(result.outcome is Outcome.CONFORMS for result in results) > 40


def test_kubeadms(etcd_binary: Path) -> None:
    assert_nothing_found(judge(ClusterConfig(pki=PKIPlan(layout=CALayout.KUBEADM)), etcd_binary))


@pytest.mark.parametrize("layout", list(CALayout))
def test_every_layout(newest_etcd: Path, layout: CALayout) -> None:
    # In the layout per role the gateway does not work, which is for another check to say.
    config = ClusterConfig(pki=PKIPlan(layout=layout), expects_health=False)
    assert_nothing_found(judge(config, newest_etcd))


@pytest.mark.parametrize("key_type", list(KeyType))
def test_every_key_type(newest_etcd: Path, key_type: KeyType) -> None:
    assert_nothing_found(judge(ClusterConfig(pki=PKIPlan(key_type=key_type)), newest_etcd))


@pytest.mark.parametrize(
    "config",
    [
        ClusterConfig(host="::1"),
        ClusterConfig(metrics="https"),
        ClusterConfig(client_http=True),
        replace(ClusterConfig(), size=3, pki=PKIPlan(layout=CALayout.KUBEADM)),
    ],
    ids=["IPv6", "metrics", "split", "three members"],
)
def test_other_clusters(newest_etcd: Path, config: ClusterConfig) -> None:
    assert_nothing_found(judge(config, newest_etcd))
