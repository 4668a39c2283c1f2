"""Endpoints that lead to another port or another etcd than intended; every etcd is real."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from judged import judge, listener_of
from starting import start_process
from zoo.model import explain

from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.facts.api import OtherPort
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.profile import CLIENT, SERVER, CALayout, PKIPlan
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import Judge, run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.run.plan import planned
from pytest_etcdtls.target import Listener, PortCredentials, Target, TrustBundle

GOOD = ClusterConfig()
_LONG_NAME = ".".join(["nowhere" * 8] * 4)


def _judge(target: Target, check: str) -> CheckResult:
    return judge(target, check, target.listeners[0].role)


@pytest.mark.kills("api.metrics-scope")
@pytest.mark.parametrize(("scheme", "outcome"), [("https", Outcome.WARNS), ("http", Outcome.VIOLATES)])
def test_the_client_port_is_passed_as_metrics_listener(
    scheme: Literal["http", "https"], outcome: Outcome, etcd_binary: Path
) -> None:
    """Over https only clients with a certificate are accepted, over http every client is."""
    with start_process(replace(GOOD, client_scheme=scheme), etcd_binary) as cluster:
        target = cluster.target()
        listener = replace(listener_of(target, Role.CLIENT), role=Role.METRICS, label="metrics-m0")
        result = _judge(replace(target, listeners=(listener,)), "api.metrics-scope")
    assert result.outcome is outcome
    assert "/version: HTTP 200" in result.findings[0].observed


@pytest.mark.parametrize("role", [Role.CLIENT, Role.PEER, Role.METRICS])
def test_an_http_endpoint_that_serves_tls_needs_https(role: Role, etcd_binary: Path) -> None:
    with start_process(replace(GOOD, metrics="https"), etcd_binary) as cluster:
        target = cluster.target()
        listener = replace(listener_of(target, role), scheme="http")
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


@pytest.mark.kills("api.metrics-exposed")
@pytest.mark.parametrize(
    ("host", "outcome"), [("etcd.example", Outcome.WARNS), ("localhost", Outcome.CONFORMS)]
)
def test_plain_metrics_beyond_loopback(host: str, outcome: Outcome, newest_etcd: Path) -> None:
    with start_process(replace(GOOD, metrics="http"), newest_etcd) as cluster:
        target = cluster.target()
        listener = listener_of(target, Role.METRICS)
        # As curl's --connect-to: the name is judged, the connection stays on loopback.
        listener = replace(listener, host=host, connect_to=(listener.host, listener.port))
        result = _judge(replace(target, listeners=(listener,)), "api.metrics-exposed")
    assert result.outcome is outcome


@pytest.mark.parametrize("host", ["xn--n3h.com", "etcd.example.", f"{'a' * 64}.example", "under_score"])
def test_hosts_that_are_not_idna(host: str, newest_etcd: Path) -> None:
    unusual = (host.rstrip("."), "", f"{'b' * 64}.example", "two..dots", "nul\0.example")
    config = replace(GOOD, pki=PKIPlan(server=replace(SERVER, dns_names=unusual)))
    with start_process(config, newest_etcd) as cluster:
        target = cluster.target()
        listener = listener_of(target, Role.CLIENT)
        listener = replace(listener, host=host, connect_to=(listener.host, listener.port))
        target = replace(target, listeners=(listener,))
        results = run_checks(Observer(target), ["!lifecycle", "!cluster", "!advisory"])
    bad = (Outcome.BROKEN, Outcome.INCONCLUSIVE, Outcome.VIOLATES)
    assert not [result for result in results if result.outcome in bad], explain(results)
    by_check = {result.check: result.outcome for result in results}
    for check in ("listener.answers", "cert.covers-endpoint", "cert.same-for-every-hello"):
        assert by_check[check] is Outcome.CONFORMS


@pytest.mark.parametrize(
    ("host", "shown"), [("nowhere.invalid", "nowhere.invalid"), (_LONG_NAME, f"{_LONG_NAME[:79]}…")]
)
def test_a_name_that_is_not_resolved_is_to_be_corrected(host: str, shown: str) -> None:
    here = Listener(role=Role.CLIENT, scheme="https", host=host, port=2379, member="m0", label="m0")
    result = _judge(Target(label="live", origin="live", listeners=(here,)), "listener.answers")
    assert result.outcome is Outcome.INCONCLUSIVE
    assert f"the name {shown} was not resolved" in result.reason
    assert result.reason.endswith("; correct the name, or name the member by its address")


@pytest.mark.kills("api.version-agrees", "api.peer-members")
@pytest.mark.two_etcds
def test_the_peer_port_of_another_etcd_is_passed(etcd_binaries: dict[str, Path]) -> None:
    older, *_, newest = etcd_binaries.values()
    with start_process(GOOD, older) as first, start_process(GOOD, newest) as second:
        peer = second.target()
        target = replace(
            first.target(),
            listeners=(listener_of(peer, Role.PEER), listener_of(first.target(), Role.CLIENT)),
            peer=peer.peer,
        )
        results = [_judge(target, check) for check in ("api.version-agrees", "api.peer-members")]
    assert [result.outcome for result in results] == [Outcome.WARNS, Outcome.WARNS]


def test_a_range_is_requested_as_the_given_user(etcd_binary: Path) -> None:
    with start_process(replace(GOOD, authentication=True), etcd_binary) as cluster:
        target = cluster.target()
        as_user, as_nobody, with_wrong_password = (
            judge(replace(target, user=user), "api.grpc-range", Role.CLIENT)
            for user in (target.user, None, ("root", "wrong"))
        )
        untrusted = replace(target.client, server_ca=target.peer.server_ca)
        to_untrusted = Observer(replace(target, client=untrusted))
        not_sent = Judge(to_untrusted).result(catalogue()["api.grpc-range"], listener_of(target, Role.CLIENT))
    assert as_user.outcome is Outcome.CONFORMS
    assert as_user.reason == "requested as user root"
    assert with_wrong_password.outcome is Outcome.INCONCLUSIVE
    for result in (as_nobody, not_sent):
        assert result.outcome is Outcome.NOT_VERIFIED
    for result in (as_nobody, with_wrong_password, not_sent):
        assert "--etcd-user" in result.reason
    assert "etcd refuses the user root with this password: " in with_wrong_password.reason
    assert "authentication failed" in with_wrong_password.reason
    assert "check --etcd-user and" in with_wrong_password.reason
    assert "the password was not sent" in not_sent.reason
    assert not any("Authenticate" in attempt.purpose for attempt in to_untrusted.connections)


@pytest.mark.etcd_version("3.5.33", "3.6", "3.7")
@pytest.mark.parametrize("split", [False, True], ids=["one port", "HTTP split off"])
def test_the_gateway_is_used_as_the_given_user(split: bool, etcd_binary: Path) -> None:
    nameless = replace(CLIENT, common_name=None, organization="clients")
    config = replace(GOOD, authentication=True, client_http=split, pki=PKIPlan(client=nameless))
    with start_process(config, etcd_binary) as cluster:
        target = cluster.target()
        role = Role.CLIENT_HTTP if split else Role.CLIENT
        as_user, as_nobody = (
            judge(replace(target, user=user), "api.gateway-works", role) for user in (target.user, None)
        )
    assert (as_user.outcome, as_user.reason) == (Outcome.CONFORMS, "requested as user root")
    assert as_nobody.outcome is Outcome.NOT_VERIFIED
    assert "--etcd-user" in as_nobody.reason


_ONE_CA = replace(GOOD, metrics="https", pki=PKIPlan(layout=CALayout.SHARED))
_WRONG_PORTS = [
    (Role.PEER, Role.CLIENT, "peer port of etcd, named as a client port: it answers /members", "peer"),
    (Role.CLIENT, Role.PEER, "client port of etcd, named as a peer port: it answers /health", "end"),
    (
        *(Role.METRICS, Role.CLIENT),
        "metrics port of etcd, named as a client port: it answers /health and not /version",
        "metrics-endpoint",
    ),
    (Role.METRICS, Role.PEER, "metrics port of etcd, named as a peer port", "metrics-endpoint"),
    (Role.PEER, Role.METRICS, "peer port of etcd, named as a metrics port", "peer-endpoint"),
    (Role.PEER, Role.CLIENT_HTTP, "peer port of etcd, named as a client port for HTTP", "peer"),
]


@pytest.mark.kills("listener.is-etcd")
def test_another_port_of_etcd_is_named(etcd_binary: Path) -> None:
    with start_process(_ONE_CA, etcd_binary) as cluster:
        target = cluster.target()
        target = replace(target, peer=replace(target.peer, identities=target.client.identities))
        for real, named, message, option in _WRONG_PORTS:
            listener = replace(listener_of(target, real), role=named, label=f"{named}-m0")
            named_so = replace(target, listeners=(listener,))
            gate, other = (_judge(named_so, check) for check in ("listener.is-etcd", "mtls.no-certificate"))
            assert gate.outcome is Outcome.VIOLATES
            assert f"this is a {message}" in gate.findings[0].message
            assert f"name it with --etcd-{option}" in gate.remediation
            command, *_ = gate.findings[0].commands
            assert ("look for a list of members in JSON" in command) is (real is Role.PEER), command
            assert other.outcome is Outcome.NOT_VERIFIED
        for role in {listener.role for listener in target.listeners}:
            assert judge(target, "listener.is-etcd", role).outcome is Outcome.CONFORMS


@pytest.mark.kills("listener.is-etcd")
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_metrics_port_in_plain_http_is_named(scheme: Literal["http", "https"], newest_etcd: Path) -> None:
    with start_process(replace(GOOD, metrics="http"), newest_etcd) as cluster:
        metrics = listener_of(target := cluster.target(), Role.METRICS)
        named = replace(metrics, role=Role.CLIENT, label="client-m0", scheme=scheme)
        gate = _judge(replace(target, listeners=(named,)), "listener.is-etcd")
        assert "this is a metrics port of etcd, named as a client port" in gate.findings[0].message
        assert f"curl -sS -i -k --http1.1 http://{metrics.authority}/health" in gate.findings[0].commands[0]


@pytest.mark.kills("listener.is-etcd")
@pytest.mark.parametrize("layout", [CALayout.SHARED, CALayout.PER_ROLE])
@pytest.mark.parametrize("knows_clients", [True, False], ids=["client", "no client"])
def test_a_peer_port_that_refuses_the_client_is_asked_about(
    etcd_binary: Path, layout: CALayout, *, knows_clients: bool
) -> None:
    """As on a client port, nothing is answered; the CA of the served certificate is another one on both."""
    foreign = CertificateAuthority.create("foreign")
    client = foreign.issue(CLIENT, name="foreign", hosts=()) if knows_clients else None
    given = PortCredentials(
        identities=(client,) if client else (), server_ca=TrustBundle((foreign.certificate,), "ca.crt")
    )
    wrong = ("cert.trusted", "mtls.announced-ca-expected")
    with start_process(replace(GOOD, metrics="https", pki=PKIPlan(layout=layout)), etcd_binary) as cluster:
        target = replace(cluster.target(), origin="live", client=given, expected=(), declared={})
        peer = replace(listener_of(target, Role.PEER), role=Role.CLIENT, label="client-m0")
        for listener, asks in (
            (peer, True),
            (replace(peer, role=Role.METRICS, label="metrics-m0"), True),
            *((listener_of(target, role), False) for role in (Role.CLIENT, Role.METRICS)),
        ):
            alone = replace(target, listeners=(listener,))
            checks = [catalogue()[check] for check in ("listener.is-etcd", *wrong)]
            results = {result.check: result for result in run_checks(Observer(alone), checks)}
            gate, outcomes = results["listener.is-etcd"], [results[check].outcome for check in wrong]
            assert gate.outcome is (Outcome.VIOLATES if asks else Outcome.NOT_VERIFIED), gate
            assert outcomes[0] is (Outcome.NOT_VERIFIED if asks else Outcome.VIOLATES), outcomes
            assert not asks or outcomes[1] is Outcome.NOT_VERIFIED
            if asks:
                [finding] = gate.findings
                assert finding.message.startswith("is this the peer port of etcd?")
                assert "it ended after 5." in finding.observed
                assert "only a peer port ends the connection" in finding.commands[0]
                assert f"pass it as --etcd-peer-endpoint={listener.url}" in gate.remediation
        if knows_clients:
            verified = replace(given, server_ca=target.peer.server_ca)
            observer = Observer(replace(target, client=verified, listeners=(peer,)))
            assert observer.get(OtherPort, None, peer).silence is None, "the wait of seconds has no use"


@pytest.mark.etcd_version("3.5.33", "3.6", "3.7")
@pytest.mark.parametrize("gateway", ["true", "false"])
def test_a_port_without_grpc_or_without_a_gateway_is_a_client_port(gateway: str, etcd_binary: Path) -> None:
    config = replace(GOOD, client_http=True, extra_flags=(f"--enable-grpc-gateway={gateway}",))
    with start_process(replace(config, expects_health=False), etcd_binary) as cluster:
        target = cluster.target()
        for role in (Role.CLIENT, Role.CLIENT_HTTP):
            listener = replace(listener_of(target, role), role=Role.CLIENT)
            result = _judge(replace(target, listeners=(listener,)), "listener.is-etcd")
            assert result.outcome is Outcome.CONFORMS, result
        no_grpc = _judge(replace(target, listeners=(listener,)), "api.grpc-range")
    assert "name it with --etcd-client-http-endpoint" in no_grpc.remediation


@pytest.mark.etcd_version("3.5.33", "3.6", "3.7")
def test_http_on_another_port_is_not_verified_until_that_is_named(etcd_binary: Path) -> None:
    served_for_servers = replace(SERVER, extended_key_usage=("serverAuth",))
    config = replace(GOOD, client_http=True, pki=PKIPlan(server=served_for_servers), expects_health=False)
    with start_process(config, etcd_binary) as cluster:
        both = cluster.target()
        grpc = replace(both, listeners=(listener_of(both, Role.CLIENT),))
        for check in ("api.debug-vars", "api.gateway-works", "api.gateway-needs-certificate", *_OVER_HTTP):
            result, result_of_both = (judge(target, check, Role.CLIENT) for target in (grpc, both))
            assert result.outcome is Outcome.NOT_VERIFIED, result
            assert "pass --etcd-client-http-endpoint" in result.reason
            assert result_of_both.outcome is Outcome.NOT_APPLICABLE, result_of_both
        assert "pass --etcd-client-http-endpoint" in judge(grpc, "advisory.go-runtime").reason


_OVER_HTTP = ("api.version-answers", "api.healthy", "api.metrics-needs-certificate", "cert.client-usage")


@pytest.mark.kills("mtls.plaintext-refused")
@pytest.mark.etcd_version("3.5.33", "3.6", "3.7")
def test_grpc_in_plaintext_is_named(etcd_binary: Path) -> None:
    """With --listen-client-http-urls an http client URL serves gRPC alone, over HTTP/2 without TLS."""
    config = replace(GOOD, client_scheme="http", client_http=True, expects_health=False)
    with start_process(config, etcd_binary) as cluster:
        target = cluster.target()
        grpc, http = (
            judge(target, "mtls.plaintext-refused", role).findings[0]
            for role in (Role.CLIENT, Role.CLIENT_HTTP)
        )
    assert (grpc.message, grpc.observed) == ("gRPC is served in plaintext", "an HTTP/2 SETTINGS frame")
    assert f"etcdctl --endpoints={listener_of(target, Role.CLIENT).url} endpoint status" in grpc.commands[0]
    assert http.message == "plain HTTP is answered"
