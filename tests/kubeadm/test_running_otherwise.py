"""An etcd that runs with weaker settings than its manifest: the declaration is right, what runs is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kubeadm.judging import Found, explain, found, judged, target
from kubeadm.nodes import Cluster, running
from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.errors import InconclusiveError
from pytest_etcdtls.facts.discovery import LoopbackElsewhere
from pytest_etcdtls.results import Outcome
from pytest_etcdtls.role import CLUSTER
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.run.plan import planned
from pytest_etcdtls.target import Bounds
from pytest_etcdtls.tls.attempt import Attempt

ADDRESS = "127.0.0.31"
UNTRUSTED = {"mtls.no-certificate", "mtls.self-signed", "mtls.foreign-ca", "mtls.lookalike-ca"}
NOT_IN_FORCE: Found = {
    "violates": {
        "client": {
            *UNTRUSTED,
            *("config.client-auth-in-force", "config.trusted-ca-in-force", "mtls.announced-ca-present"),
        },
        "peer": {
            *UNTRUSTED,
            *("config.peer-auth-in-force", "config.peer-trusted-ca-in-force", "mtls.announced-ca-present"),
        },
        "cluster": {"config.listeners-as-declared"},
    },
}


@pytest.fixture(scope="module")
def lax(newest_etcd: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A kubeadm node whose etcd requests no certificate and serves metrics beyond loopback."""
    otherwise: dict[str, str | None] = dict.fromkeys(
        ("client-cert-auth", "trusted-ca-file", "peer-client-cert-auth", "peer-trusted-ca-file")
    )
    otherwise["listen-metrics-urls"] = f"http://127.0.0.1:{{metrics}},http://{ADDRESS}:{{metrics}}"
    with running(tmp_path_factory.mktemp("lax"), newest_etcd, [ADDRESS], otherwise) as cluster:
        yield cluster


def test_client_authentication_that_is_not_in_force(lax: Cluster) -> None:
    node = lax.nodes[0]
    results = judged(
        target(etcd_config=node.manifest, etcd_pki_dir=node.pki),
        *("config", "listener", "mtls.trusted-client", "mtls.announced-*", *sorted(UNTRUSTED)),
    )
    assert found(results) == NOT_IN_FORCE, explain(results)


def test_metrics_on_the_nodes_address_that_are_declared_on_loopback(lax: Cluster) -> None:
    node = lax.nodes[0]
    live = target(
        etcd_config=node.manifest,
        etcd_pki_dir=node.pki,
        etcd_metrics_endpoint=[f"http://127.0.0.1:{node.metrics}", f"http://{ADDRESS}:{node.metrics}"],
    )
    results = judged(live, "config.listeners-as-declared", "config.metrics-as-declared", "listener.answers")
    assert found(results) == {"violates": {"cluster": {"config.listeners-as-declared"}}}, explain(results)
    [finding] = next(result for result in results if result.findings).findings
    assert f"http://{ADDRESS}:{node.metrics}" in finding.message + finding.observed


@pytest.mark.kills("config.listeners-as-declared")
def test_metrics_that_are_declared_on_loopback_are_tried_at_the_nodes_address(lax: Cluster) -> None:
    node = lax.nodes[0]
    live = target(etcd_config=node.manifest, etcd_pki_dir=node.pki)
    checks = select(("config.listeners-as-declared",))
    observer = Observer(live)
    [result] = run_checks(observer, checks)
    assert result.outcome is Outcome.VIOLATES
    [finding] = result.findings
    url = f"http://{ADDRESS}:{node.metrics}"
    assert finding.message.startswith(
        f"http://127.0.0.1:{node.metrics} is declared, on loopback only, and {url} answers"
    )
    assert "HTTP 200" in finding.observed
    [command] = finding.commands
    assert command.startswith(f"curl -sS -i -k --http1.1 {url}/health\n# look for ")
    tried = [connection for connection in observer.connections if connection.url == url]
    assert [one.identity for one in tried if isinstance(one, Attempt)] == ["none"]
    assert observer.used[CLUSTER] == planned(live, checks)[CLUSTER] == 1


def test_the_connection_elsewhere_is_capped(lax: Cluster) -> None:
    node = lax.nodes[0]
    live = target(etcd_config=node.manifest, etcd_pki_dir=node.pki)
    observer = Observer(live, Bounds(max_connections=0))
    with pytest.raises(InconclusiveError, match="the cap"):
        observer.get(LoopbackElsewhere)
    assert observer.connections == []


def test_a_redirected_address_is_not_tried(lax: Cluster) -> None:
    node = lax.nodes[0]
    live = target(
        etcd_config=node.manifest,
        etcd_pki_dir=node.pki,
        etcd_connect_to=[f"{ADDRESS}::127.0.0.1:"],
    )
    elsewhere = Observer(live).get(LoopbackElsewhere)
    assert elsewhere.attempts == ()
    assert elsewhere.not_tried == (
        f"no other address of {ADDRESS} was tried, since --etcd-connect-to says how it is reached",
    )
