"""Rules about names and revocation in force: the checks about them conform, and nothing else is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from starting import start_process
from zoo.baseline import warned
from zoo.model import explain, found

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.profile import PEER
from pytest_etcdtls.results import Outcome
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer

GOOD = ClusterConfig()
FAMILIES = ["listener", "mtls", "api", "cluster", "advisory"]

IN_FORCE = [
    pytest.param(
        replace(GOOD, peer_cert_allowed_hostname="localhost"),
        {"mtls.wrong-peer-hostname"},
        id="peer-hostname",
    ),
    pytest.param(
        replace(GOOD, peer_cert_allowed_cn=str(PEER.common_name)), {"mtls.wrong-cn"}, id="peer-common-name"
    ),
    pytest.param(
        replace(GOOD, client_crl_file="crl.der"), {"mtls.revoked-http", "mtls.revoked-grpc"}, id="revocation"
    ),
]


@pytest.mark.parametrize(("config", "judged"), IN_FORCE)
def test_a_declared_rule_is_in_force(config: ClusterConfig, judged: set[str], etcd_binary: Path) -> None:
    with start_process(config, etcd_binary) as cluster:
        results = run_checks(Observer(cluster.target()), select(FAMILIES))
    seen = found(results)
    usual = {
        where: {check for check in ids if check.split(".")[0] in FAMILIES}
        for where, ids in warned(cluster.version).items()
    }
    assert seen.pop("warns") == {where: ids for where, ids in usual.items() if ids}, explain(results)
    assert not any(seen.values()), explain(results)
    assert judged <= {result.check for result in results if result.outcome is Outcome.CONFORMS}


@pytest.mark.etcd_version("3.5.33", "3.6", "3.7")
def test_revocation_with_a_separate_http_listener(etcd_binary: Path) -> None:
    config = replace(GOOD, client_http=True, client_crl_file="crl.der")
    judged = {"mtls.revoked-http", "mtls.revoked-grpc", "mtls.same-verdict-grpc-and-http"}
    with start_process(config, etcd_binary) as cluster:
        results = run_checks(Observer(cluster.target()), select(["mtls", "advisory"]))
    assert not found(results)["violates"], explain(results)
    conforming = {result.check for result in results if result.outcome is Outcome.CONFORMS}
    assert judged | {"advisory.ghsa-3wh4-j44w-pg92-proved"} <= conforming
