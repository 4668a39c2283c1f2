"""etcd's own proxies in front of an etcd; every process is real.

A grpc-proxy ends TLS and is a client of etcd: it is judged for who it lets in. `etcd gateway` passes TCP on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from judged import judge, judged, listener_of
from made import made_report
from starting import running_etcd, start_process

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.children import child_environment
from pytest_etcdtls.errors import NotVerifiedError
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.ports import claim_ports
from pytest_etcdtls.facts.member_list import MemberListing
from pytest_etcdtls.pki.profile import CLIENT, PKIPlan
from pytest_etcdtls.report.overview import access_in_words
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import PortCredentials, Target

# The proxy refuses to be a client with a common name (EmptyCN in etcdmain/grpc_proxy.go).
CONFIG = ClusterConfig(pki=PKIPlan(client=replace(CLIENT, common_name=None, organization="clients")))
TLS = ("--cert-file={pki}/m0/server.crt", "--key-file={pki}/m0/server.key")
CLOSED = (*TLS, "--trusted-ca-file={pki}/client-ca.crt")
GATES = ("listener.answers", "listener.is-etcd")
FAMILIES = ("mtls", "cert", "tls")
OF_ETCD = ("cert.client-usage", "cert.covers-advertised-url")


@contextmanager
def _proxy(
    cluster: Cluster,
    etcd: Path,
    directory: Path,
    *flags: str,
    metrics: bool = False,
    down: bool = False,
    listed: bool = False,
) -> Iterator[Target]:
    """Run a grpc-proxy, and yield the cluster with it as the only listener.

    Args:
        cluster: that it connects to.
        etcd: the program.
        directory: for its files.
        flags: its own, with ``{pki}`` for the directory of the cluster's PKI.
        metrics: whether its --metrics-addr, with TLS, is the listener instead.
        down: whether no etcd answers it.
        listed: whether it lists itself instead of the members. Then it dials itself, and ends if that fails.
    """
    target, pki = cluster.target(), cluster.pki_directory
    claim = claim_ports(3, "127.0.0.1")
    port, other, closed = claim.ports
    own = [flag.format(pki=pki) for flag in flags]
    own += [f"--advertise-client-url={f'127.0.0.1:{port}' if listed else ''}"]
    own += [f"--metrics-addr=https://127.0.0.1:{other}"] if metrics else []
    command = [
        *(str(etcd), "grpc-proxy", "start", f"--data-dir={directory}", f"--listen-addr=127.0.0.1:{port}"),
        f"--endpoints={f'https://127.0.0.1:{closed}' if down else cluster.members[0].client_url}",
        *(f"--cacert={pki}/server-ca.crt", f"--cert={pki}/client.crt", f"--key={pki}/client.key"),
        *own,
    ]
    role = Role.METRICS if metrics else Role.CLIENT
    through = replace(
        listener_of(target, Role.CLIENT),
        role=role,
        label=f"{role}-m0",
        scheme="https" if flags else "http",
        connect_to=("127.0.0.1", other if metrics else port),
    )
    try:
        with running_etcd(command, directory / "log", child_environment()) as proxy:
            assert proxy.serves(said_by=re.compile("started gRPC proxy")), proxy.text
            yield replace(target, origin="live", declared={}, expected=(), listeners=(through,))
    finally:
        claim.release()


def _by_check(results: Sequence[CheckResult]) -> dict[str, CheckResult]:
    return {result.check: result for result in results}


@pytest.mark.kills("listener.is-etcd", "mtls.no-certificate")
@pytest.mark.parametrize("down", [False, True], ids=["etcd answers", "etcd is down"])
@pytest.mark.parametrize("with_client", [True, False], ids=["client", "no client"])
def test_an_open_proxy_lets_everybody_in(
    etcd_binary: Path, tmp_path: Path, *, down: bool, with_client: bool
) -> None:
    with (
        start_process(CONFIG, etcd_binary) as cluster,
        _proxy(cluster, etcd_binary, tmp_path, *TLS, down=down) as target,
    ):
        observer = Observer(target if with_client else replace(target, client=PortCredentials()))
        results = _by_check(run_checks(observer, select([*GATES, *FAMILIES, "api"])))
        said = [*access_in_words(made_report(), observer.recording, target.listeners[0])]
    assert said[0] == "is etcd's grpc-proxy"
    assert "accepts clients without a certificate, self-signed, foreign-ca" in said[1]
    gate, found = results["listener.is-etcd"], results["mtls.no-certificate"]
    assert gate.outcome is found.outcome is Outcome.VIOLATES
    assert gate.message.startswith("this is etcd's grpc-proxy, not etcd itself: it answers ")
    assert found.message == (
        "etcd's grpc-proxy: a client without a certificate is accepted, and reaches etcd as the proxy does"
    )
    assert "start the proxy with --trusted-ca-file" in found.remedies[0]
    assert "it has no --client-cert-auth" in found.remedies[-1]
    assert found.cause is gate.cause is None
    for check, result in results.items():
        family = check.partition(".")[0]
        assert result.outcome is not Outcome.INCONCLUSIVE, result
        if family == "api" or check in OF_ETCD:
            assert result.outcome is Outcome.NOT_VERIFIED, result
            assert result.reason.startswith("listener.is-etcd violates: this is etcd's grpc-proxy"), result
        elif family in FAMILIES and result.outcome is Outcome.VIOLATES and result is not found:
            assert result.cause is not None, result
            assert result.cause.check == "mtls.no-certificate", result
            assert result.message.startswith("etcd's grpc-proxy: "), result
        elif family in FAMILIES:
            assert "listener.is-etcd" not in result.reason, result


@pytest.mark.kills("listener.is-etcd", "mtls.plaintext-refused")
@pytest.mark.parametrize("down", [False, True], ids=["etcd answers", "etcd is down"])
def test_a_proxy_without_tls_lets_everybody_in(etcd_binary: Path, tmp_path: Path, *, down: bool) -> None:
    with (
        start_process(CONFIG, etcd_binary) as cluster,
        _proxy(cluster, etcd_binary, tmp_path, down=down) as target,
    ):
        observer = Observer(target)
        results = _by_check(run_checks(observer, select([*GATES, *FAMILIES])))
        said = [*access_in_words(made_report(), observer.recording, target.listeners[0])]
    assert said == ["is etcd's grpc-proxy", "answers plain HTTP: accepts every client"]
    assert results["listener.is-etcd"].message.startswith("this is etcd's grpc-proxy, not etcd itself")
    found = results["mtls.plaintext-refused"]
    assert found.outcome is Outcome.VIOLATES
    assert found.message == (
        "etcd's grpc-proxy: plain HTTP is answered; every client reaches etcd as the proxy does"
    )


@pytest.mark.parametrize("flags", [(), ("--namespace=a/",)], ids=["all keys", "namespace"])
def test_a_proxy_that_requires_certificates_conforms(
    etcd_binary: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    with (
        start_process(CONFIG, etcd_binary) as cluster,
        _proxy(cluster, etcd_binary, tmp_path, *CLOSED, *flags) as target,
    ):
        results = _by_check(judged(target, *GATES, *FAMILIES))
    assert results["listener.is-etcd"].outcome is Outcome.VIOLATES
    for check in ("mtls.no-certificate", "mtls.foreign-ca", "mtls.trusted-client", "cert.trusted"):
        assert results[check].outcome is Outcome.CONFORMS, results[check]
    assert results["mtls.no-certificate"].reason == "judged on etcd's grpc-proxy"
    assert [one.check for one in results.values() if one.outcome is Outcome.VIOLATES] == ["listener.is-etcd"]


@pytest.mark.kills("mtls.announced-ca-expected")
def test_what_a_proxy_accepts_follows_not_from_that_it_is_one(newest_etcd: Path, tmp_path: Path) -> None:
    """A waiver for the gate accepts the proxy, and nobody whom it lets in."""
    with start_process(CONFIG, newest_etcd) as cluster:
        both = tmp_path / "both.crt"
        names = ("client-ca.crt", "peer-ca.crt")
        both.write_bytes(b"".join((cluster.pki_directory / name).read_bytes() for name in names))
        with _proxy(cluster, newest_etcd, tmp_path, *TLS, f"--trusted-ca-file={both}") as target:
            results = _by_check(judged(target, *GATES, "mtls.announced-ca-expected"))
    assert [result.outcome for result in results.values()].count(Outcome.VIOLATES) == 2, results
    assert results["mtls.announced-ca-expected"].cause is None


@pytest.mark.parametrize("listed", [True, False])
def test_the_addresses_that_a_proxy_lists_are_no_members(
    etcd_binary: Path, tmp_path: Path, *, listed: bool
) -> None:
    with (
        start_process(CONFIG, etcd_binary) as cluster,
        _proxy(cluster, etcd_binary, tmp_path, listed=listed) as target,
    ):
        [proxy], etcd = target.listeners, listener_of(cluster.target(), Role.CLIENT)
        if listed:
            with pytest.raises(NotVerifiedError, match="returned the addresses of grpc-proxies"):
                Observer(target).get(MemberListing, None, proxy)
        else:
            listing = Observer(target).get(MemberListing, None, proxy)
            assert [member.name for member in listing.members] == ["m0"]
        both = replace(target, listeners=(replace(proxy, label="client-proxy"), etcd), discover=True)
        result = judge(both, "cluster.discovered")
    assert result.outcome is Outcome.CONFORMS, result


@pytest.mark.kills("listener.is-etcd", "mtls.no-certificate")
@pytest.mark.etcd_version("3.5", "3.6", "3.7")
@pytest.mark.parametrize(("flags", "outcome"), [(TLS, Outcome.VIOLATES), (CLOSED, Outcome.CONFORMS)])
def test_the_metrics_of_a_proxy_are_not_those_of_etcd(
    etcd_binary: Path, tmp_path: Path, flags: tuple[str, ...], outcome: Outcome
) -> None:
    with (
        start_process(CONFIG, etcd_binary) as cluster,
        _proxy(cluster, etcd_binary, tmp_path, *flags, metrics=True) as target,
    ):
        results = _by_check(judged(target, *GATES, "mtls.no-certificate", "api.metrics-scope"))
    gate = results["listener.is-etcd"]
    assert gate.message == "this is etcd's grpc-proxy, not etcd itself: it answers /proxy/health"
    assert "name a metrics port of etcd itself" in gate.remediation
    assert results["mtls.no-certificate"].outcome is outcome
    assert results["api.metrics-scope"].outcome is Outcome.NOT_VERIFIED


def test_what_is_behind_an_etcd_gateway_is_judged_as_etcd(etcd_binary: Path, tmp_path: Path) -> None:
    with start_process(CONFIG, etcd_binary) as cluster:
        target = cluster.target()
        client = listener_of(target, Role.CLIENT)
        claim = claim_ports(1, "127.0.0.1")
        [port] = claim.ports
        words = ("gateway", "start", f"--endpoints={client.url}", f"--listen-addr=127.0.0.1:{port}")
        through = replace(target, listeners=(replace(client, connect_to=("127.0.0.1", port)),))
        try:
            with running_etcd([str(etcd_binary), *words], tmp_path / "log", child_environment()) as gateway:
                assert gateway.serves(said_by=re.compile("ready to proxy client requests")), gateway.text
                for check in ("listener.is-etcd", "mtls.no-certificate", "api.grpc-range"):
                    assert judge(through, check, Role.CLIENT).outcome is Outcome.CONFORMS
        finally:
            claim.release()
