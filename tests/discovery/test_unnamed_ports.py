"""Plain HTTP at usual ports, where no listener is named, on the hosts of the member list of real etcds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from discovery.discovering import judged, live, named, observer_of
from kubeadm.namespaces import two_machines
from kubeadm.nodes import running
from msgspec import convert, structs
from plugin.runs import run_apart
from starting import start_process

from pytest_etcdtls.checks.gates import no_unknown_listener_serves_plain_http
from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.checks.results import Finding, Level, Outcome
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.ports import claim_ports
from pytest_etcdtls.facts.listener import UnnamedPorts
from pytest_etcdtls.report.document import ResultEntry
from pytest_etcdtls.role import CLUSTER, Role
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.run.plan import planned
from pytest_etcdtls.target import Bounds, Target
from pytest_etcdtls.tls.attempt import Attempt

ID = "listener.undeclared"


@pytest.fixture(scope="module")
def with_metrics(newest_etcd: Path) -> Iterator[Cluster]:
    """One member that serves metrics in plain HTTP."""
    with start_process(ClusterConfig(metrics="http"), newest_etcd) as cluster:
        yield cluster


@pytest.fixture
def nobodys_port() -> Iterator[int]:
    """A port where nobody listens."""
    claim = claim_ports(1, "127.0.0.1")
    yield claim.ports[0]
    claim.release()


@pytest.fixture
def metrics_port(with_metrics: Cluster, usual_ports: dict[int, Role], nobodys_port: int) -> int:
    """Its port, which counts as a usual one, as do its client port and one where nobody listens."""
    member = with_metrics.members[0]
    port = int(str(member.metrics_url).rpartition(":")[2])
    usual_ports[nobodys_port] = Role.CLIENT
    usual_ports[port] = Role.METRICS
    usual_ports[int(member.client_url.rpartition(":")[2])] = Role.CLIENT
    return port


def whole(cluster: Cluster) -> Target:
    return live(cluster, named(cluster.members[0].client_url))


def elsewhere(observer: Observer) -> list[Attempt]:
    """Return the connections to what is no listener of the target."""
    urls = {listener.url for listener in observer.target.listeners}
    return [
        connection
        for connection in observer.connections
        if isinstance(connection, Attempt) and connection.url not in urls
    ]


def test_an_unnamed_metrics_listener_is_judged_as_a_named_one(
    with_metrics: Cluster, metrics_port: int
) -> None:
    """On loopback it is no fault. Elsewhere it is a warning, as of api.metrics-exposed."""
    observer = observer_of(whole(with_metrics))
    result = judged(observer, ID)
    url = f"http://127.0.0.1:{metrics_port}"
    assert result.outcome is Outcome.CONFORMS
    assert f"{url} serves metrics in plain HTTP on loopback" in result.reason
    made = elsewhere(observer)
    assert sorted(one.url for one in made if one.url == url) == [url, url]
    assert {one.identity for one in made} == {"none"}
    assert observer.used[CLUSTER] == 3 <= planned(observer.target, select((ID,)))[CLUSTER]
    ports = observer.get(UnnamedPorts)
    [attempt] = [one for one in ports.tried if one.url == url]
    there = structs.replace(attempt, url=f"http://10.0.0.11:{metrics_port}")
    for metrics, level in ((frozenset({there.url}), Level.SHOULD), (frozenset(), None)):
        [finding] = no_unknown_listener_serves_plain_http(UnnamedPorts(tried=(there,), metrics=metrics))
        assert isinstance(finding, Finding)
        assert finding.level is level
        assert finding.message == f"etcd answers plain HTTP at {there.url}, which is not a known listener"
        assert finding.observed.startswith("HTTP 200")


def test_a_named_metrics_listener_is_not_a_finding(with_metrics: Cluster, metrics_port: int) -> None:
    target = whole(with_metrics)
    url = str(with_metrics.members[0].metrics_url)
    observer = observer_of(replace(target, listeners=(*target.listeners, named(url, Role.METRICS))))
    assert judged(observer, ID).outcome is Outcome.CONFORMS
    assert url not in {one.url for one in elsewhere(observer)}


def test_an_unnamed_tls_port_is_a_remark(newest_etcd: Path, usual_ports: dict[int, Role]) -> None:
    with start_process(ClusterConfig(metrics="https"), newest_etcd) as cluster:
        url = str(cluster.members[0].metrics_url)
        usual_ports[int(url.rpartition(":")[2])] = Role.METRICS
        result = judged(observer_of(whole(cluster)), ID)
    assert result.outcome is Outcome.CONFORMS
    assert f"{url.replace('https', 'http')} accepts connections and answers no plain HTTP" in result.reason


def test_without_discovery_it_does_not_apply(with_metrics: Cluster, metrics_port: int) -> None:
    observer = Observer(replace(whole(with_metrics), discover=False))
    assert judged(observer, ID).outcome is Outcome.NOT_APPLICABLE
    assert observer.connections == []


def test_redirected_hosts_are_not_tried(with_metrics: Cluster, metrics_port: int) -> None:
    client = with_metrics.members[0].client_url
    port = int(client.rpartition(":")[2])
    there = replace(named(client), connect_to=("127.0.0.1", port))
    observer = observer_of(live(with_metrics, there))
    result = judged(observer, ID)
    assert result.outcome is Outcome.NOT_VERIFIED
    assert "--etcd-connect-to says how it is reached" in result.reason
    assert elsewhere(observer) == []


def test_unnamed_ports_are_within_the_cap(with_metrics: Cluster, metrics_port: int) -> None:
    bounds = Bounds(max_connections=1)
    observer = Observer(whole(with_metrics))
    observer.discover()
    observer.bounds = bounds
    observer.used[CLUSTER] = 1
    assert judged(observer, ID).outcome is Outcome.INCONCLUSIVE


METRICS = "http://10.111.0.1:2381"
OPENED = "https://127.0.0.1:2379,https://10.111.0.1:2379,http://10.111.0.1:4001"


@pytest.mark.program("ip")
@pytest.mark.kills("listener.undeclared")
@pytest.mark.parametrize(
    ("changes", "exit_code", "outcome", "urls"),
    [
        ({}, 0, Outcome.CONFORMS, []),
        ({"listen-metrics-urls": "http://0.0.0.0:2381"}, 0, Outcome.WARNS, [METRICS]),
        (
            {"listen-metrics-urls": "http://0.0.0.0:2381", "listen-client-urls": OPENED},
            1,
            Outcome.VIOLATES,
            [METRICS, "http://10.111.0.1:4001"],
        ),
    ],
    ids=["loopback", "metrics", "clients"],
)
def test_from_another_machine(
    changes: Mapping[str, str],
    exit_code: int,
    outcome: Outcome,
    urls: list[str],
    newest_etcd: Path,
    tmp_path: Path,
) -> None:
    """On loopback nothing is tried; metrics are a warning, as of api.metrics-exposed."""
    with ExitStack() as stack:
        there, elsewhere = stack.enter_context(two_machines())
        ports, directory = (2379, 2380, 2381), tmp_path / "node"
        cluster = stack.enter_context(
            running(directory, newest_etcd, [there.address], changes, ports=ports, prefix=there.prefix)
        )
        pki = cluster.nodes[0].pki / "etcd"
        ran = run_apart(
            tmp_path,
            *(f"--etcd-endpoint=https://{there.address}:2379", "--etcd-discover"),
            *(f"--etcd-cacert={pki / 'ca.crt'}", f"--etcd-cert={pki / 'healthcheck-client.crt'}"),
            *(f"--etcd-key={pki / 'healthcheck-client.key'}", "--etcd-check=listener,mtls.no-certificate"),
            prefix=elsewhere.prefix,
        )
    result = convert(ran.result_of(ID), ResultEntry)
    assert (ran.exit_code, result.outcome) == (exit_code, outcome), ran.out
    assert [finding.message.partition(" at ")[2].partition(",")[0] for finding in result.findings] == urls
    made = [connection["url"] for connection in ran.report["connections"]]
    usual = [f"http://10.111.0.1:{port}" for port in (2381, 4001, 7001)]
    assert sorted(url for url in made if url.startswith("http:")) == sorted([*usual, *urls[:1]])
