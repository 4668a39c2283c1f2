"""An etcd that serves metrics beyond what its manifest says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kubeadm.judging import judged, target
from kubeadm.nodes import Cluster, running
from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.facts.discovery import LoopbackElsewhere
from pytest_etcdtls.role import CLUSTER
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.run.plan import planned
from pytest_etcdtls.tls.attempt import Attempt

ADDRESS = "127.0.0.31"


@pytest.fixture(scope="module")
def lax(newest_etcd: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A kubeadm node whose etcd serves metrics beyond loopback."""
    otherwise = {"listen-metrics-urls": f"http://127.0.0.1:{{metrics}},http://{ADDRESS}:{{metrics}}"}
    with running(tmp_path_factory.mktemp("lax"), newest_etcd, [ADDRESS], otherwise) as cluster:
        yield cluster


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


@pytest.mark.kills("config.manifest-beside")
def test_a_backup_that_the_kubelet_runs_instead(lax: Cluster) -> None:
    node = lax.nodes[0]
    backup = node.manifest.with_name("etcd.yaml.bak")
    for text, outcome in ((f"# old\n{node.text}", Outcome.VIOLATES), (node.text, Outcome.WARNS)):
        backup.write_text(text, encoding="utf-8")
        live = target(etcd_config=node.manifest, etcd_pki_dir=node.pki)
        [result] = judged(live, "config.manifest-beside")
        assert result.outcome is outcome, result
        [finding] = result.findings
        assert f"the kubelet runs the pod kube-system/etcd of {backup}" in finding.message
    backup.unlink()
    [result] = judged(target(etcd_config=node.manifest, etcd_pki_dir=node.pki), "config.manifest-beside")
    assert result.outcome is Outcome.CONFORMS
