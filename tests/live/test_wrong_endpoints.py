"""Endpoints that lead to another port or another etcd than intended; every etcd is real."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from starting import start_process
from zoo.model import explain

from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.observer import Observer
from pytest_etcdtls.pki.profile import CLIENT, SERVER, PKIPlan
from pytest_etcdtls.registry import catalogue, select
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.role import Role
from pytest_etcdtls.runner import Judge, run_checks
from pytest_etcdtls.suite.plan import planned
from pytest_etcdtls.target import Listener, Target

GOOD = ClusterConfig()


def _judge(target: Target, check: str) -> CheckResult:
    return Judge(Observer(target)).result(catalogue()[check], target.listeners[0])


def _of(target: Target, role: Role) -> Listener:
    return next(listener for listener in target.listeners if listener.role is role)


@pytest.mark.kills("api.metrics-scope")
@pytest.mark.parametrize(("scheme", "outcome"), [("https", Outcome.WARNS), ("http", Outcome.VIOLATES)])
def test_the_client_port_is_passed_as_metrics_listener(
    scheme: Literal["http", "https"], outcome: Outcome, etcd_binary: Path
) -> None:
    """Over https only clients with a certificate are accepted, over http every client is."""
    with start_process(replace(GOOD, client_scheme=scheme), etcd_binary) as cluster:
        target = cluster.target()
        listener = replace(_of(target, Role.CLIENT), role=Role.METRICS, label="metrics-m0")
        result = _judge(replace(target, listeners=(listener,)), "api.metrics-scope")
    assert result.outcome is outcome
    assert "/version: HTTP 200" in result.findings[0].observed


@pytest.mark.parametrize("role", [Role.CLIENT, Role.PEER, Role.METRICS])
def test_an_http_endpoint_that_serves_tls_needs_https(role: Role, etcd_binary: Path) -> None:
    with start_process(replace(GOOD, metrics="https"), etcd_binary) as cluster:
        target = cluster.target()
        listener = replace(_of(target, role), scheme="http")
        target = replace(target, listeners=(listener,))
        observer = Observer(target)
        result = Judge(observer).result(catalogue()["listener.answers"], listener)
    assert result.outcome is Outcome.INCONCLUSIVE
    https = listener.url.replace("http", "https")
    assert result.reason == f"{listener.url} answers TLS and no plain HTTP: use https, pass {https}"
    assert (
        observer.used[listener.label]
        <= planned(target, [catalogue()["listener.answers"]])[listener.label] + Observer.RETRIES
    )


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_metrics_port_serves_metrics_only(scheme: str, etcd_binary: Path) -> None:
    config = replace(GOOD, metrics="http" if scheme == "http" else "https")
    with start_process(config, etcd_binary) as cluster:
        target = cluster.target()
        result = _judge(replace(target, listeners=(_of(target, Role.METRICS),)), "api.metrics-scope")
    assert result.outcome is Outcome.CONFORMS


@pytest.mark.kills("api.metrics-exposed")
@pytest.mark.parametrize(
    ("host", "outcome"), [("etcd.example", Outcome.WARNS), ("localhost", Outcome.CONFORMS)]
)
def test_plain_metrics_beyond_loopback(host: str, outcome: Outcome, newest_etcd: Path) -> None:
    with start_process(replace(GOOD, metrics="http"), newest_etcd) as cluster:
        target = cluster.target()
        listener = _of(target, Role.METRICS)
        # As curl's --connect-to: the name is judged, the connection stays on loopback.
        listener = replace(listener, host=host, connect_to=(listener.host, listener.port))
        result = _judge(replace(target, listeners=(listener,)), "api.metrics-exposed")
    assert result.outcome is outcome


UNUSUAL_HOSTS = ["xn--n3h.com", "etcd.example.", f"{'a' * 64}.example", "under_score"]


@pytest.mark.parametrize("host", UNUSUAL_HOSTS)
def test_hosts_that_are_not_idna(host: str, newest_etcd: Path) -> None:
    unusual = (host.rstrip("."), "", f"{'b' * 64}.example", "two..dots", "nul\0.example")
    config = replace(GOOD, pki=PKIPlan(server=replace(SERVER, dns_names=unusual)))
    with start_process(config, newest_etcd) as cluster:
        target = cluster.target()
        listener = _of(target, Role.CLIENT)
        listener = replace(listener, host=host, connect_to=(listener.host, listener.port))
        target = replace(target, listeners=(listener,))
        results = run_checks(Observer(target), select(["!lifecycle", "!cluster", "!advisory"]))
    bad = (Outcome.BROKEN, Outcome.INCONCLUSIVE, Outcome.VIOLATES)
    assert not [result for result in results if result.outcome in bad], explain(results)
    by_check = {result.check: result.outcome for result in results}
    for check in ("listener.answers", "cert.covers-endpoint", "cert.same-for-every-hello"):
        assert by_check[check] is Outcome.CONFORMS


@pytest.mark.kills("api.version-agrees", "api.peer-members")
@pytest.mark.two_etcds
@pytest.mark.etcd_version("3.5.1")
def test_the_peer_port_of_another_etcd_is_passed(etcd_binary: Path, newest_etcd: Path) -> None:
    with start_process(GOOD, etcd_binary) as first, start_process(GOOD, newest_etcd) as second:
        peer = second.target()
        target = replace(
            first.target(),
            listeners=(_of(peer, Role.PEER), _of(first.target(), Role.CLIENT)),
            peer=peer.peer,
        )
        results = [_judge(target, check) for check in ("api.version-agrees", "api.peer-members")]
    assert [result.outcome for result in results] == [Outcome.WARNS, Outcome.WARNS]


def test_a_range_is_requested_as_the_given_user(etcd_binary: Path) -> None:
    with start_process(replace(GOOD, authentication=True), etcd_binary) as cluster:
        target = cluster.target()
        listeners = (_of(target, Role.CLIENT),)
        as_user = _judge(replace(target, listeners=listeners), "api.grpc-range")
        as_nobody = _judge(replace(target, listeners=listeners, user=None), "api.grpc-range")
        wrong = replace(target, listeners=listeners, user=("root", "wrong"))
        with_wrong_password = _judge(wrong, "api.grpc-range")
        untrusted = replace(target.client, server_ca=target.peer.server_ca)
        to_untrusted = Observer(replace(target, listeners=listeners, client=untrusted))
        not_sent = Judge(to_untrusted).result(catalogue()["api.grpc-range"], listeners[0])
    assert as_user.outcome is Outcome.CONFORMS
    assert as_user.reason == "requested as user root"
    assert with_wrong_password.outcome is Outcome.INCONCLUSIVE
    for result in (as_nobody, not_sent):
        assert result.outcome is Outcome.NOT_VERIFIED
    for result in (as_nobody, with_wrong_password, not_sent):
        assert "--etcd-user" in result.reason
    assert "authentication failed" in with_wrong_password.reason
    assert "the password was not sent" in not_sent.reason
    assert not any("Authenticate" in attempt.purpose for attempt in to_untrusted.connections)


@pytest.mark.etcd_version("3.5.33", "3.6", "3.7")
@pytest.mark.parametrize("split", [False, True], ids=["one port", "HTTP split off"])
def test_the_gateway_is_used_as_the_given_user(split: bool, etcd_binary: Path) -> None:
    nameless = replace(CLIENT, common_name=None, organization="clients")
    config = replace(GOOD, authentication=True, client_http=split, pki=PKIPlan(client=nameless))
    with start_process(config, etcd_binary) as cluster:
        target = cluster.target()
        place = _of(target, Role.CLIENT_HTTP if split else Role.CLIENT)
        check = catalogue()["api.gateway-works"]
        as_user = Judge(Observer(target)).result(check, place)
        as_nobody = Judge(Observer(replace(target, user=None))).result(check, place)
    assert (as_user.outcome, as_user.reason) == (Outcome.CONFORMS, "requested as user root")
    assert as_nobody.outcome is Outcome.NOT_VERIFIED
    assert "--etcd-user" in as_nobody.reason
