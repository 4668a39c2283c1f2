"""An etcd that trusts the CA of Kubernetes is found by the key of that CA, whatever path its file has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from judged import judged
from starting import start_process

from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.profile import CALayout, PKIPlan
from pytest_etcdtls.target import Target, TrustBundle


@pytest.fixture(scope="module")
def cluster(newest_etcd: Path) -> Iterator[Cluster]:
    with start_process(ClusterConfig(), newest_etcd) as started:
        yield started


def judge(target: Target) -> dict[str, CheckResult]:
    results = judged(target, "cert.ca-not-shared-with-kubernetes")
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


def test_the_key_decides_and_not_the_name(cluster: Cluster) -> None:
    """A name alone is no verdict without a known bundle."""
    subject = cluster.pki.client_ca.certificate.subject.rfc4514_string().removeprefix("CN=")
    target, live = cluster.target(), replace(cluster.target(), origin="live")
    unknown = replace(target.client, client_trust=None)
    namesake, other = (
        TrustBundle((CertificateAuthority.create(name).certificate,), "ca.crt") for name in (subject, "k8s")
    )
    for changed, outcome, words in (
        (replace(target, kubernetes_ca=other), Outcome.CONFORMS, ""),
        (replace(target, kubernetes_ca=namesake), Outcome.CONFORMS, ""),
        (
            replace(target, kubernetes_ca=namesake, client=unknown),
            Outcome.NOT_VERIFIED,
            "--etcd-trusted-ca",
        ),
        (target, Outcome.NOT_APPLICABLE, ""),
        (live, Outcome.NOT_VERIFIED, "--etcd-kubernetes-ca"),
    ):
        result = judge(changed)["client"]
        assert result.outcome is outcome, result
        assert words in result.reason


def test_without_a_bundle_the_issuers_of_accepted_and_served_certificates_count(newest_etcd: Path) -> None:
    config = ClusterConfig(pki=PKIPlan(layout=CALayout.PER_ROLE), expects_health=False)
    with start_process(config, newest_etcd) as cluster:
        target = cluster.target()
        served = target.client.server_ca
        assert served is not None
        of_clients = TrustBundle((cluster.pki.client_ca.certificate,), "ca.crt")
        for kubernetes, unknown, words in (
            (of_clients, "client_trust", "has signed the client that is accepted"),
            (served, "server_ca", "issued the served certificate"),
        ):
            nothing: dict[str, Any] = {unknown: None, "signing_key": None}
            client = replace(target.client, **nothing)
            result = judge(replace(target, kubernetes_ca=kubernetes, client=client))["client"]
            assert result.outcome is Outcome.WARNS, result
            assert words in result.findings[0].observed
