"""A proxy chooses an etcd by the server name of the ClientHello; every etcd is real."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from certificates.choosing_server import server_name
from judged import listener_of
from live.passing_proxy import passing, routing
from servers import Server
from starting import start_process
from tls.hello_server import ClientHello
from zoo.model import explain

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.checks.results import CheckResult, Level, Outcome
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.facts.alternatives import UNKNOWN_NAME, ServerNames
from pytest_etcdtls.pki.bundle import encode_certificates, encode_key
from pytest_etcdtls.pki.profile import SERVER, PKIPlan
from pytest_etcdtls.report.model import faults
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.run.plan import planned
from pytest_etcdtls.target import Target

_CHECK = "mtls.same-for-every-name"
_NAMES = ("localhost", "127.0.0.1", "etcd.example", "*.pods.example")
STRICT = ClusterConfig(pki=PKIPlan(server=replace(SERVER, subject_alt_names=_NAMES)))


def _same_pair(strict: Cluster) -> ClusterConfig:
    """Return the configuration of an etcd that serves the same certificate and accepts every client."""
    pair = strict.pki.servers["m0"]
    assert pair.key is not None
    files = {"same.crt": encode_certificates(pair.chain), "same.key": encode_key(pair.key)}
    return ClusterConfig(
        client_cert_auth=False,
        trusted_ca_file=None,
        cert_file="same.crt",
        key_file="same.key",
        extra_files=files,
        expects_health=False,
    )


def _plain(_: Cluster) -> ClusterConfig:
    return ClusterConfig(client_scheme="http", expects_health=False)


@contextmanager
def _strict_and(
    binary: Path, second: Callable[[Cluster], ClusterConfig] = _same_pair
) -> Iterator[tuple[Cluster, Cluster]]:
    with start_process(STRICT, binary) as strict, start_process(second(strict), binary) as other:
        yield strict, other


def _port(cluster: Cluster) -> int:
    return listener_of(cluster.target(), Role.CLIENT).port


def _through(target: Target, port: int) -> Target:
    """Return the target with its client listener behind the proxy, as the user sees it."""
    client = replace(listener_of(target, Role.CLIENT), port=port)
    return replace(target, origin="live", listeners=(client,), declared={}, expected=(), logs={})


def _judge(target: Target) -> list[CheckResult]:
    return run_checks(Observer(target), ["mtls", "cert"])


def _violated(results: list[CheckResult]) -> set[str]:
    return {result.check for result in results if result.outcome is Outcome.VIOLATES}


def _has_alpn(begins: ClientHello | bytes, *alpn: str) -> bool:
    return isinstance(begins, ClientHello) and begins.alpn == alpn


def _has_name(begins: ClientHello | bytes, name: str) -> bool:
    return isinstance(begins, ClientHello) and server_name(begins) == name


_LET_IN = "a client without a certificate is accepted with"
_NAMED = ("localhost", UNKNOWN_NAME, "etcd.example", "etcdtls.pods.example")


@pytest.mark.kills("mtls.same-for-every-name")
@pytest.mark.parametrize(
    ("leads", "check", "message"),
    [
        *((partial(_has_name, name=name), _CHECK, f"{_LET_IN} SNI {name}") for name in _NAMED),
        (lambda begins: _has_alpn(begins, "http/1.1"), _CHECK, f"{_LET_IN} ALPN http/1.1"),
        (lambda begins: _has_alpn(begins, "h2", "http/1.1"), _CHECK, f"{_LET_IN} ALPN h2,http/1.1"),
        (lambda begins: begins == b"PRI ", "mtls.plaintext-refused", "gRPC is served in plaintext"),
    ],
    ids=[*_NAMED, "ALPN", "two protocols", "HTTP/2 without TLS"],
)
def test_some_connections_lead_to_an_open_etcd(
    leads: Callable[[ClientHello | bytes], bool], check: str, message: str, etcd_binary: Path
) -> None:
    with (
        _strict_and(etcd_binary, _same_pair if check == _CHECK else _plain) as (strict, other),
        Server(routing(lambda begins: _port(other if leads(begins) else strict))) as proxy,
    ):
        results = _judge(_through(strict.target(), proxy.port))
    assert _violated(results) == {check}, explain(results)
    [finding] = next(result.findings for result in results if result.check == check)
    assert finding.message == message


def test_only_the_urls_name_leads_to_a_strict_etcd(newest_etcd: Path) -> None:
    """The URL has a name, and no name leads elsewhere; with a URL without a name, that is the fault."""
    with (
        _strict_and(newest_etcd) as (strict, other),
        Server(passing(lambda found: _port(strict if found else other))) as proxy,
    ):
        target = _through(strict.target(), proxy.port)
        [listener] = target.listeners
        results = _judge(replace(target, listeners=(replace(listener, host="localhost"),)))
        at_the_address = _judge(target)
    assert _violated(results) == {_CHECK}, explain(results)
    [finding] = next(result.findings for result in results if result.check == _CHECK)
    assert "accepted with no SNI" in finding.message
    [fault] = faults(at_the_address)
    assert (fault.first.check, _CHECK in _violated(at_the_address)) == ("mtls.no-certificate", True)


def test_another_trusted_ca_for_a_name_is_a_warning(newest_etcd: Path) -> None:
    """Clients of the other CA are accepted under that name."""

    def other_ca(strict: Cluster) -> ClusterConfig:
        return replace(_same_pair(strict), client_cert_auth=True, trusted_ca_file="peer-ca.crt")

    with (
        _strict_and(newest_etcd, other_ca) as (strict, other),
        Server(passing(lambda found: _port(other if found == "localhost" else strict))) as proxy,
    ):
        results = _judge(_through(strict.target(), proxy.port))
    assert _violated(results) == set(), explain(results)
    [result] = [one for one in results if one.check == _CHECK]
    assert (result.outcome, result.level) == (Outcome.WARNS, Level.SHOULD)
    assert "CN=etcd peer CA" in result.findings[0].observed


@pytest.mark.parametrize("refused", [None, UNKNOWN_NAME])
def test_a_proxy_that_passes_every_name_on_is_no_fault(refused: str | None, etcd_binary: Path) -> None:
    """Or that knows some names only, and closes the connection for others."""

    def port_for(found: str | None) -> int:
        if found is not None and found == refused:
            raise ValueError(found)
        return _port(strict)

    with start_process(STRICT, etcd_binary) as strict, Server(passing(port_for)) as proxy:
        target = _through(strict.target(), proxy.port)
        observer = Observer(target)
        [result] = run_checks(observer, [_CHECK])
    made = sum(one.purpose.startswith("another server name") for one in observer.connections)
    assert result.outcome is Outcome.CONFORMS, result
    assert observer.get(ServerNames, listener=target.listeners[0]).steady
    # Four names; the one without an answer is tried three times.
    assert made == (4 if refused is None else 6)
    label = target.listeners[0].label
    assert refused or observer.used[label] <= planned(target, select([_CHECK]))[label]
