"""A peer port for which only a client certificate is available: no verdict where peers have their own CA."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from starting import start_process

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.profile import CALayout, PKIPlan
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Target


def _with_the_clients_only(target: Target) -> Target:
    """Return the target as it is known when ``--etcd-cert`` is given and ``--etcd-peer-cert`` is not."""
    peer = replace(
        target.peer,
        identities=tuple(replace(identity, name="client") for identity in target.client.identities),
        signing_key=None,
    )
    listeners = tuple(listener for listener in target.listeners if listener.role is Role.PEER)
    return replace(target, listeners=listeners, peer=peer)


def _judged(config: ClusterConfig, binary: Path) -> CheckResult:
    with start_process(config, binary) as cluster:
        observer = Observer(_with_the_clients_only(cluster.target()))
        [result] = run_checks(observer, select(["mtls.trusted-client"]))
    return result


def test_peers_with_a_separate_ca(newest_etcd: Path) -> None:
    result = _judged(ClusterConfig(), newest_etcd)
    assert result.outcome is Outcome.NOT_VERIFIED
    assert "--etcd-peer-cert" in result.reason


def test_one_ca_for_all_certificates(newest_etcd: Path) -> None:
    result = _judged(ClusterConfig(pki=PKIPlan(layout=CALayout.SHARED)), newest_etcd)
    assert (result.outcome, result.findings) == (Outcome.CONFORMS, ())
