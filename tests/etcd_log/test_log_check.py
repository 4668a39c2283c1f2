"""Both ends of every connection agree on real etcds; a log that disagrees is found."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs
from starting import start_container, start_process

from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd_log.parse import LogSource, own_log
from pytest_etcdtls.facts.etcd_log import EtcdLogs, LogComparison
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import Judge, run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Bounds

CHECK = "mtls.log-tells-the-same"
WITH_EVERYTHING = ClusterConfig(metrics="https", client_crl_file="crl.der", peer_crl_file="crl.der")


def _results(observer: Observer) -> dict[str, CheckResult]:
    return {
        result.listener: result for result in run_checks(observer, ["mtls", "tls"]) if result.check == CHECK
    }


def _comparisons(observer: Observer) -> dict[str, LogComparison]:
    return {str(label): fact for label, _, fact in observer.facts if isinstance(fact, LogComparison)}


def _all_is_told(cluster: Cluster) -> None:
    # etcd drops similar lines from the 101st within a second.
    observer = Observer(cluster.target(), Bounds(concurrency=1, pause=0.02))
    results = _results(observer)
    assert {(result.outcome, result.reason) for result in results.values()} == {(Outcome.CONFORMS, "")}, (
        results
    )
    comparisons = _comparisons(observer)
    assert set(comparisons) == set(results) >= {"client-m0", "peer-m0"}
    for found in comparisons.values():
        assert not found.unlogged
        tried = {one.identity for one in found.compared}
        assert {"none", "foreign-ca", "self-signed", "lookalike-ca"} <= tried
        assert any("does not look like a TLS handshake" in one.in_the_log for one in found.compared)
    assert "revoked" in {one.identity for one in comparisons["client-m0"].compared}
    [log] = observer.get(EtcdLogs).logs
    assert (log.others, log.problem) == ((), "")
    assert log.ours >= sum(len(found.compared) for found in comparisons.values())


def test_the_whole_matrix_of_identities(etcd_binary: Path) -> None:
    with start_process(WITH_EVERYTHING, etcd_binary) as cluster:
        _all_is_told(cluster)


@pytest.mark.container
@pytest.mark.etcd_version("3.5.1", "3.7")
def test_in_a_container_behind_a_published_port(etcd_image: str) -> None:
    with start_container(WITH_EVERYTHING, etcd_image) as cluster:
        observer = Observer(cluster.target())
        results = _results(observer)
        assert {result.outcome for result in results.values()} == {Outcome.NOT_VERIFIED}
        said = "the published port of a container changes our addresses"
        assert all(said in one.reason for one in results.values())
        [log] = observer.get(EtcdLogs).logs
    assert log.ours > 0
    assert log.others == ()


@pytest.mark.etcd_version("3.5.33", "3.6", "3.7")
def test_a_grpc_only_port_is_not_logged(etcd_binary: Path) -> None:
    with start_process(ClusterConfig(client_http=True), etcd_binary) as cluster:
        results = _results(Observer(cluster.target()))
    outcomes = {label: result.outcome for label, result in results.items()}
    assert outcomes == {
        "client-m0": Outcome.NOT_APPLICABLE,
        "client-http-m0": Outcome.CONFORMS,
        "peer-m0": Outcome.CONFORMS,
    }
    assert "gRPC" in results["client-m0"].reason


@pytest.mark.etcd_version("3.5.1")
def test_clients_of_an_auto_tls_port_are_not_logged(etcd_binary: Path) -> None:
    """3.5.1 is the only one that turns somebody away there whom others let in: it has no TLS 1.3."""
    config = ClusterConfig(auto_tls=True, cert_file=None, key_file=None, expects_health=False)
    with start_process(config, etcd_binary) as cluster:
        results = _results(Observer(cluster.target()))
    assert results["client-m0"].outcome is Outcome.NOT_APPLICABLE
    assert "auto-tls" in results["client-m0"].reason
    assert results["peer-m0"].outcome is Outcome.CONFORMS


@pytest.fixture(scope="module")
def cluster(newest_etcd: Path) -> Iterator[Cluster]:
    """A conforming etcd that several tests judge, each with another log beside it."""
    with start_process(ClusterConfig(), newest_etcd) as started:
        yield started


def test_an_owned_etcd_without_a_line_in_time(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_etcdtls.facts.etcd_log._FIRST_LINE", 0.1)

    def log_text() -> str:
        lines = cluster.members[0].log().splitlines(keepends=True)
        return "".join(line for line in lines if "rejected connection" not in line)

    observer = Observer(replace(cluster.target(), logs={"": own_log("a log", log_text)}))
    result = Judge(observer).result(catalogue()[CHECK], observer.target.listeners[0])
    assert result.outcome is Outcome.NOT_VERIFIED
    assert result.reason.endswith("changes our addresses, or etcd's --log-level is above info")


def _somebodys(log_text: Callable[[], str]) -> LogSource:
    """Return a log that tells what a test makes it tell, as somebody's file would."""
    return structs.replace(own_log("a log", log_text), file=Path("/var/log/etcd.log"))


def _judged(cluster: Cluster, log_text: Callable[[], str]) -> dict[Role, CheckResult]:
    """Judge the cluster as somebody's, with that log."""
    observer = Observer(replace(cluster.target(), origin="live", logs={"": _somebodys(log_text)}))
    judge = Judge(observer)
    return {
        listener.role: judge.result(catalogue()[CHECK], listener) for listener in observer.target.listeners
    }


@pytest.mark.kills("mtls.log-tells-the-same")
@pytest.mark.etcd_version("3.5.33", "3.6", "3.7")
def test_another_reason_in_the_log(cluster: Cluster) -> None:
    def log_text() -> str:
        expired = "tls: failed to verify certificate: x509: certificate has expired or is not yet valid"
        return re.sub(
            r"tls: client didn't provide a certificate", f"{expired}: current time", cluster.members[0].log()
        )

    for result in _judged(cluster, log_text).values():
        assert result.outcome is Outcome.WARNS
        [finding] = result.findings
        assert "identity none" in finding.message
        assert "alert 116 certificate_required" in finding.observed
        assert "expired certificate: tls: failed to verify" in finding.observed
        assert "45 certificate_expired" in finding.expected
        assert re.fullmatch(
            r"grep -F 127\.0\.0\.1:\d+ /var/log/etcd\.log\n# look for .*", finding.commands[0]
        )


@pytest.mark.kills("mtls.log-tells-the-same")
def test_a_client_rejected_in_the_log_and_served_on_the_wire(cluster: Cluster) -> None:
    observer = Observer(cluster.target())
    client = observer.target.listeners[0]
    Judge(observer).result(catalogue()["mtls.trusted-client"], client)
    [served, *_] = [
        connection for connection in observer.connections if "good identity" in connection.purpose
    ]

    def log_text() -> str:
        [line, *_] = [line for line in cluster.members[0].log().splitlines() if "t provide a cert" in line]
        log_text = {
            **json.loads(line),
            "ts": served.started_at.isoformat(),
            "remote-addr": served.local_address,
        }
        return json.dumps(log_text, separators=(",", ":"))

    observer.recording.target = replace(observer.target, logs={"": _somebodys(log_text)})
    result = Judge(observer).result(catalogue()[CHECK], client)
    assert result.outcome is Outcome.WARNS
    assert [finding.evidence["log"] for finding in result.findings] == ["a log"]
    assert "served: HTTP 200" in result.findings[0].observed


def test_without_a_log(cluster: Cluster) -> None:
    observer = Observer(replace(cluster.target(), logs={}))
    for listener in observer.target.listeners:
        result = Judge(observer).result(catalogue()[CHECK], listener)
        assert result.outcome is Outcome.NOT_VERIFIED
        assert result.reason.endswith("pass --etcd-log")
    assert "bad identity" not in " ".join(connection.purpose for connection in observer.connections)


@pytest.mark.parametrize(
    ("change", "outcome", "said"),
    [
        (
            lambda log: (Path(__file__).parent / "shapes" / "3.7-json.log").read_text(encoding="utf-8"),
            Outcome.NOT_VERIFIED,
            "none of our rejected connections is in a log, which ends at 2026-",
        ),
        (
            lambda log: log.replace('"remote-addr":"127.0.0.1:', '"remote-addr":"172.18.0.1:'),
            Outcome.NOT_VERIFIED,
            "a proxy or a published port changes our addresses",
        ),
        (
            lambda log: re.sub(r'("ts":"\d{4}-\d\d-\d\dT[\d:.]+)Z"', r'\1-02:00"', log),
            Outcome.NOT_VERIFIED,
            "if its times are more than two seconds from ours",
        ),
        (
            lambda log: re.sub(r"(?m)^.*certificate signed by unknown authority.*\n", "", log),
            Outcome.CONFORMS,
            "self-signed",
        ),
    ],
    ids=["another run", "addresses of a proxy", "another time zone", "lines that are missing"],
)
def test_a_log_that_lacks_our_lines(
    cluster: Cluster, change: Callable[[str], str], outcome: Outcome, said: str
) -> None:
    for result in _judged(cluster, lambda: change(cluster.members[0].log())).values():
        assert (result.outcome, result.findings) == (outcome, ())
        assert said in result.reason
