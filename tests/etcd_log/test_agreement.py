"""Both ends of every connection agree: how an attempt ends on the wire, and what etcd logs about it."""

from __future__ import annotations

from pathlib import Path

import pytest
from starting import start_container, start_process

from etcd_log.agreement import agrees, ended_by_etcd
from etcd_log.cases import VERSIONS, cases
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd_log.parse import Cause, EtcdLog, parse_log
from pytest_etcdtls.facts.etcd_log import EtcdLogs, match_log
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Bounds
from pytest_etcdtls.tls.attempt import Attempt
from pytest_etcdtls.tls.hello import Connection

WITH_EVERYTHING = ClusterConfig(metrics="https", client_crl_file="crl.der", peer_crl_file="crl.der")


@pytest.mark.parametrize("version", VERSIONS)
def test_recorded_connections(version: str) -> None:
    logged = [(one.attempt, line) for one in cases(version) if one.attempt is not None for line in one.own]
    assert len(logged) > 80
    differing = [(one.identity, one.describe(), line) for one, line in logged if not agrees(one, line.cause)]
    assert not differing


def _judge(cluster: Cluster) -> Observer:
    # etcd drops similar lines from the 101st within a second.
    observer = Observer(cluster.target(), Bounds(concurrency=1, pause=0.02))
    run_checks(observer, ["mtls", "tls"])
    return observer


def _matched(observer: Observer) -> tuple[EtcdLog, dict[int, Connection]]:
    """Return the log of the first member, with our connections."""
    target = observer.target
    source = target.log_of(target.listeners[0])
    assert source is not None
    log = parse_log(source.read()[0])
    return log, match_log(target, observer.recording, source, log)


def test_the_whole_matrix_of_identities(etcd_binary: Path) -> None:
    with start_process(WITH_EVERYTHING, etcd_binary) as cluster:
        observer = _judge(cluster)
        log, matched = _matched(observer)
        [read] = observer.get(EtcdLogs).logs
    pairs = [(one, log.rejections[number]) for number, one in matched.items() if isinstance(one, Attempt)]
    differing = [(one.identity, one.describe(), line) for one, line in pairs if not agrees(one, line.cause)]
    assert not differing
    ids = {id(attempt) for attempt, _ in pairs}
    ended = [one for one in observer.connections if isinstance(one, Attempt) and ended_by_etcd(one)]
    unlogged = {one.purpose.partition(" ")[0] for one in ended if id(one) not in ids}
    assert unlogged <= {"renegotiation"}, "which is after the handshake"
    identities = {attempt.identity for attempt, _ in pairs}
    assert {"none", "foreign-ca", "self-signed", "lookalike-ca", "revoked"} <= identities
    assert Cause.PLAINTEXT in {line.cause for _, line in pairs}
    assert (read.others, read.problem, read.ours) == ((), "", len(log.rejections))


def _logged(cluster: Cluster) -> set[str]:
    """Return the labels of the listeners at which etcd logs that it rejects clients."""
    observer = _judge(cluster)
    urls = {one.url for one in _matched(observer)[1].values()}
    return {listener.label for listener in observer.target.listeners if listener.url in urls}


@pytest.mark.etcd_version("3.5.33", "3.6", "3.7")
def test_a_grpc_only_port_is_not_logged(etcd_binary: Path) -> None:
    with start_process(ClusterConfig(client_http=True), etcd_binary) as cluster:
        assert _logged(cluster) == {"client-http-m0", "peer-m0"}


@pytest.mark.etcd_version("3.5.1")
def test_clients_of_an_auto_tls_port_are_not_logged(etcd_binary: Path) -> None:
    """3.5.1 is the only one that turns somebody away there whom others let in: it has no TLS 1.3."""
    config = ClusterConfig(auto_tls=True, cert_file=None, key_file=None, expects_health=False)
    with start_process(config, etcd_binary) as cluster:
        assert _logged(cluster) == {"peer-m0"}


@pytest.mark.container
@pytest.mark.etcd_version("3.5.1", "3.7")
def test_in_a_container_behind_a_published_port(etcd_image: str) -> None:
    with start_container(WITH_EVERYTHING, etcd_image) as cluster:
        [log] = _judge(cluster).get(EtcdLogs).logs
    assert log.ours > 0
    assert log.others == ()
