"""A member advertises the URL of another port: in each way of a run, on real etcds."""

from __future__ import annotations

from pathlib import Path

import pytest
from discovery.discovering import judged, live, named, observer_of
from judged import judged as judged_by
from live.target_kinds import live as of_roles
from starting import start_process, start_where_possible
from unruly.programs import copied_flag, rewritten_arguments

from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.etcd import admin
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.report.model import faults
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.target import Target

CHECK = "cluster.advertised-reachable"
_PEER_PORT = copied_flag("listen-peer-urls", "advertise-client-urls")


def _judged(target: Target) -> CheckResult:
    [result] = judged_by(target, CHECK)
    return result


@pytest.mark.kills(CHECK)
@pytest.mark.parametrize("size", [1, 3])
def test_the_peer_port_is_advertised_to_clients(size: int, etcd_binary: Path, tmp_path: Path) -> None:
    with start_process(ClusterConfig(size=size), _PEER_PORT(etcd_binary, tmp_path)) as cluster:
        first = cluster.members[0]
        by_client = _judged(of_roles(cluster, Role.CLIENT))
        with_peers = _judged(of_roles(cluster))
        discovering = observer_of(live(cluster, named(first.client_url)))
        discovered = run_checks(discovering, ["listener", "cert", "mtls.announced-ca-expected", "cluster"])
    for result in (by_client, with_peers, *(one for one in discovered if one.check == CHECK)):
        assert result.outcome is Outcome.VIOLATES
        messages = [finding.message for finding in result.findings]
        expected = f"{first.peer_url}, which m0 advertises to clients, is the peer port of m0"
        assert expected in messages
        assert len(messages) == size
    assert "--advertise-client-urls" in with_peers.remediation
    found = faults(discovered, Outcome.VIOLATES)
    assert [fault.first.check for fault in found] == [CHECK], found
    assert {one.check for one in discovered if one.cause} == {"cluster.discovered"}
    assert {one.role for one in discovering.target.listeners if one.url == first.peer_url} == {Role.PEER}


def test_the_metrics_port_is_advertised_to_clients(newest_etcd: Path, tmp_path: Path) -> None:
    etcd = copied_flag("listen-metrics-urls", "advertise-client-urls")(newest_etcd, tmp_path)
    with start_process(ClusterConfig(metrics="https"), etcd) as cluster:
        member = cluster.members[0]
        declared = _judged(cluster.target())
        discovered = run_checks(observer_of(live(cluster, named(member.client_url))), ["listener", CHECK])
    message = f"{member.metrics_url}, which m0 advertises to clients, is the port for metrics of m0"
    assert [finding.message for finding in declared.findings] == [message]
    [fault] = faults(discovered, Outcome.VIOLATES)
    assert (fault.first.check, fault.first.message) == (CHECK, message)
    assert {one.check for one in discovered if one.cause} == {"listener.is-etcd"}


@pytest.mark.etcd_version("3.5.33", "3.6", "3.7")
def test_the_port_without_grpc_is_advertised_to_clients(newest_etcd: Path, tmp_path: Path) -> None:
    etcd = copied_flag("listen-client-http-urls", "advertise-client-urls")(newest_etcd, tmp_path)
    with start_where_possible(ClusterConfig(client_http=True), etcd) as cluster:
        result = _judged(cluster.target())
    assert "is the port of --listen-client-http-urls, which serves no gRPC, of m0" in result.message


def test_a_client_port_is_advertised_to_peers(etcd_binary: Path) -> None:
    with start_process(ClusterConfig(), etcd_binary) as cluster:
        member = cluster.members[0]
        assert _judged(cluster.target()).outcome is Outcome.CONFORMS
        [listed] = admin.call(member.gateway(), "cluster/member/list", {})["members"]
        change = {"ID": listed["ID"], "peerURLs": [member.client_url]}
        admin.call(member.gateway(), "cluster/member/update", change)
        results = [_judged(cluster.target()), _judged(of_roles(cluster, Role.CLIENT))]
        discovered = run_checks(observer_of(live(cluster, named(member.client_url))), ["listener", "cluster"])
    for result in (*results, *(one for one in discovered if one.check == CHECK)):
        assert result.outcome is Outcome.VIOLATES
        assert f"{member.client_url}, which m0 advertises to peers, is the client port of" in result.message
        assert "etcdctl member update" in result.remediation
    [fault] = faults(discovered, Outcome.VIOLATES)
    assert fault.first.check == CHECK


def test_https_is_advertised_and_the_port_is_plain(newest_etcd: Path, tmp_path: Path) -> None:
    etcd = rewritten_arguments("^--advertise-client-urls=http:", "--advertise-client-urls=https:")
    config = ClusterConfig(client_scheme="http", expects_health=False)
    with start_process(config, etcd(newest_etcd, tmp_path)) as cluster:
        result = _judged(cluster.target())
    assert result.outcome is Outcome.VIOLATES
    assert "advertises, answers plain HTTP and no TLS" in result.message


@pytest.mark.parametrize(
    "config",
    [
        ClusterConfig(size=3),
        ClusterConfig(metrics="https"),
        ClusterConfig(client_cert_auth=False, trusted_ca_file=None),
    ],
    ids=["three", "metrics", "open"],
)
def test_urls_of_the_right_ports(config: ClusterConfig, newest_etcd: Path) -> None:
    with start_process(config, newest_etcd) as cluster:
        first = cluster.members[0]
        kinds = [cluster.target(), of_roles(cluster), of_roles(cluster, Role.CLIENT)]
        results = [_judged(kind) for kind in kinds]
        results.append(judged(observer_of(live(cluster, named(first.client_url))), CHECK))
        results.append(judged(observer_of(live(cluster, named(first.peer_url, Role.PEER))), CHECK))
    assert {result.outcome for result in results} == {Outcome.CONFORMS}, results
