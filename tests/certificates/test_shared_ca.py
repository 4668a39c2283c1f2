"""An etcd that trusts the CA of Kubernetes is found by the key of that CA, whatever path its file has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starting import start_process

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.profile import AUTHORITY, CALayout, PKIPlan
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Target, TrustBundle


@pytest.fixture(scope="module")
def cluster(newest_etcd: Path) -> Iterator[Cluster]:
    with start_process(ClusterConfig(), newest_etcd) as started:
        yield started


def judge(target: Target) -> dict[str, CheckResult]:
    results = run_checks(Observer(target), select(["cert.ca-not-shared-with-kubernetes"]))
    return {result.role: result for result in results}


@pytest.mark.kills("cert.ca-not-shared-with-kubernetes")
def test_the_same_key_under_another_name_warns(cluster: Cluster) -> None:
    """The client port's CA is that of Kubernetes too; the peer port's is not."""
    etcds = cluster.pki.client_ca
    renewed = CertificateAuthority.from_key(etcds.certificate, etcds.key).certificate
    results = judge(replace(cluster.target(), kubernetes_ca=TrustBundle((renewed,), "ca.crt")))
    assert results["client"].outcome is Outcome.WARNS, results
    assert "is trusted for clients" in results["client"].findings[0].observed
    assert results["peer"].outcome is Outcome.CONFORMS, results


def test_another_ca_conforms(cluster: Cluster) -> None:
    others = TrustBundle((CertificateAuthority.create("kubernetes").certificate,), "ca.crt")
    results = judge(replace(cluster.target(), kubernetes_ca=others))
    assert {result.outcome for result in results.values()} == {Outcome.CONFORMS}, results


def test_the_same_name_with_another_key_conforms_if_the_bundle_is_known(cluster: Cluster) -> None:
    results = judge(replace(cluster.target(), kubernetes_ca=_namesake(cluster)))
    assert results["client"].outcome is Outcome.CONFORMS, results


def test_the_same_name_gives_no_verdict_if_the_bundle_is_unknown(cluster: Cluster) -> None:
    target = cluster.target()
    target = replace(
        target,
        kubernetes_ca=_namesake(cluster),
        client=replace(target.client, client_trust=None),
    )
    results = judge(target)
    assert results["client"].outcome is Outcome.NOT_VERIFIED, results
    assert "--etcd-trusted-ca" in results["client"].reason


def test_the_issuer_of_the_accepted_client_is_trusted_if_the_bundle_is_unknown(newest_etcd: Path) -> None:
    config = ClusterConfig(pki=PKIPlan(layout=CALayout.PER_ROLE), expects_health=False)
    with start_process(config, newest_etcd) as cluster:
        target = cluster.target()
        kubernetes = TrustBundle((cluster.pki.client_ca.certificate,), "ca.crt")
        client = replace(target.client, client_trust=None, signing_key=None)
        results = judge(replace(target, kubernetes_ca=kubernetes, client=client))
    assert results["client"].outcome is Outcome.WARNS, results
    assert "has signed the client that is accepted" in results["client"].findings[0].observed


def test_the_issuer_of_the_served_certificate_if_no_ca_of_servers_is_given(newest_etcd: Path) -> None:
    config = ClusterConfig(pki=PKIPlan(layout=CALayout.PER_ROLE), expects_health=False)
    with start_process(config, newest_etcd) as cluster:
        target = cluster.target()
        assert target.client.server_ca is not None
        client = replace(target.client, server_ca=None, signing_key=None)
        results = judge(replace(target, kubernetes_ca=target.client.server_ca, client=client))
    assert results["client"].outcome is Outcome.WARNS, results
    assert "issued the served certificate" in results["client"].findings[0].observed


def test_a_live_cluster_without_that_ca_is_not_verified_and_an_owned_one_is_not_applicable(
    cluster: Cluster,
) -> None:
    owned = judge(cluster.target())
    assert {result.outcome for result in owned.values()} == {Outcome.NOT_APPLICABLE}, owned
    live = judge(replace(cluster.target(), origin="live"))
    assert {result.outcome for result in live.values()} == {Outcome.NOT_VERIFIED}, live
    assert "--etcd-kubernetes-ca" in live["client"].reason


def _namesake(cluster: Cluster) -> TrustBundle:
    subject = cluster.pki.client_ca.certificate.subject.rfc4514_string().removeprefix("CN=")
    return TrustBundle((CertificateAuthority.create(subject, profile=AUTHORITY).certificate,), "ca.crt")
