"""Real proxies in front of a real etcd: what they answer themselves does not show whom etcd accepts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from impostors.proxies import haproxy, nginx
from judged import judged
from starting import start_process, start_where_possible
from zoo.client_access import BAD_IDENTITIES, UNAUTHENTICATED_ANSWERED
from zoo.model import explain

from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.run.judge import Judge
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import PortCredentials, Target

pytestmark = pytest.mark.program("nginx", "haproxy")

BAD = (*BAD_IDENTITIES, "mtls.peer-certificate-on-client-port")

_UNVERIFIED = "if ($ssl_client_verify != SUCCESS)"
Proxy = Callable[..., AbstractContextManager[Target]]


@pytest.fixture(scope="module")
def etcd(newest_etcd: Path) -> Iterator[Cluster]:
    """A conforming etcd."""
    with start_process(ClusterConfig(), newest_etcd) as cluster:
        yield cluster


def _judged(target: Target) -> dict[str, CheckResult]:
    results = judged(target, "listener", "mtls", "api", "!*.plaintext-*")
    return {result.check: result for result in results}


def _of(results: dict[str, CheckResult], outcome: Outcome) -> set[str]:
    return {check for check, result in results.items() if result.outcome is outcome}


BEHIND: Mapping[str, tuple[Proxy, dict[str, Any], tuple[str, ...]]] = {
    "nginx 400": (nginx, {"rules": "ssl_verify_client on;"}, BAD),
    "nginx 302": (
        nginx,
        {
            "rules": "ssl_verify_client optional;",
            "each": f"{_UNVERIFIED} {{ return 302 https://login.example/; }}",
        },
        (*BAD, *UNAUTHENTICATED_ANSWERED),
    ),
    "nginx 200": (
        nginx,
        {"rules": "ssl_verify_client optional;", "each": f'{_UNVERIFIED} {{ return 200 "log in"; }}'},
        (*BAD, *UNAUTHENTICATED_ANSWERED),
    ),
    "haproxy 403": (
        haproxy,
        {
            "rules": "ca-file {pki}/client-ca.crt verify optional crt-ignore-err all ca-ignore-err all",
            "each": "http-request deny if !{ ssl_c_used } or !{ ssl_c_verify 0 }",
        },
        BAD,
    ),
    "haproxy alert": (haproxy, {"rules": "ca-file {pki}/client-ca.crt verify required"}, ()),
}
"""A proxy, its rules for a client without a good certificate, and what is inconclusive behind it."""


@pytest.mark.parametrize(("proxy", "rules", "inconclusive"), BEHIND.values(), ids=list(BEHIND))
def test_an_answer_of_a_proxy_is_no_answer_of_etcd(
    etcd: Cluster, tmp_path: Path, proxy: Proxy, rules: dict[str, Any], inconclusive: tuple[str, ...]
) -> None:
    with proxy(etcd, tmp_path, **rules) as target:
        results = _judged(target)
    assert _of(results, Outcome.VIOLATES) == set(), explain(results.values())
    assert _of(results, Outcome.INCONCLUSIVE) == set(inconclusive), explain(results.values())
    assert results["mtls.trusted-client"].outcome is Outcome.CONFORMS
    for check in BAD if inconclusive else ():
        assert "name the listener of etcd itself" in results[check].reason


@pytest.mark.parametrize("proxy", [nginx, haproxy])
def test_a_proxy_that_passes_everybody_on_to_etcd_violates(
    etcd: Cluster, tmp_path: Path, proxy: Proxy
) -> None:
    with proxy(etcd, tmp_path, rules="ssl_verify_client off;" if proxy is nginx else "") as target:
        results = _judged(target)
    assert _of(results, Outcome.VIOLATES) >= {*BAD[:-1], *UNAUTHENTICATED_ANSWERED}, explain(results.values())


@pytest.mark.parametrize(
    ("rules", "check"),
    [
        ("alpn http/1.1", "mtls.no-certificate"),
        ("ca-verify-file {pki}/client-ca.crt verify required", "mtls.announced-ca-present"),
    ],
)
def test_what_a_proxy_leaves_out_is_mended_in_the_proxy(
    etcd: Cluster, tmp_path: Path, rules: str, check: str
) -> None:
    with haproxy(etcd, tmp_path, rules=rules) as target:
        (listener,) = target.listeners
        result = Judge(Observer(target)).result(catalogue()[check], listener)
    assert result.outcome is Outcome.VIOLATES
    assert "pass TCP through to etcd" in result.remediation


@pytest.mark.parametrize(
    ("rules", "outcome"),
    [
        ("", Outcome.CONFORMS),
        ("error_page 497 =301 https://$host$request_uri;", Outcome.CONFORMS),
        ("error_page 497 =403 /denied; location = /denied { internal; return 403; }", Outcome.INCONCLUSIVE),
    ],
)
def test_a_page_in_plain_http_is_no_plain_etcd(
    etcd: Cluster, tmp_path: Path, rules: str, outcome: Outcome
) -> None:
    """nginx answers plain HTTP at a TLS port with status 400, or as it is configured."""
    with nginx(etcd, tmp_path, rules=f"ssl_verify_client on; {rules}") as target:
        (listener,) = target.listeners
        judge = Judge(Observer(target))
        assert judge.result(catalogue()["mtls.plaintext-refused"], listener).outcome is outcome
        plain = replace(listener, scheme="http")
        judge = Judge(Observer(replace(target, listeners=(plain,))))
        answers = judge.result(catalogue()["listener.answers"], plain)
    if outcome is Outcome.CONFORMS:
        assert answers.outcome is Outcome.INCONCLUSIVE
        assert "answers TLS and no plain HTTP: use https" in answers.reason


def test_without_a_certificate_of_ours_a_denial_does_not_show_another_server(
    etcd: Cluster, tmp_path: Path
) -> None:
    with nginx(etcd, tmp_path, rules="ssl_verify_client on;") as target:
        results = _judged(replace(target, client=PortCredentials()))
    assert results["listener.is-etcd"].outcome is Outcome.NOT_VERIFIED
    assert _of(results, Outcome.VIOLATES) == set(), explain(results.values())
    assert _of(results, Outcome.INCONCLUSIVE) <= {*BAD}, explain(results.values())
    assert "HTTP 400" in results["mtls.no-certificate"].reason


def test_the_first_client_that_etcd_answers_is_the_control(etcd: Cluster, tmp_path: Path) -> None:
    """The proxy denies the first good identity, and passes the second one on."""
    with nginx(etcd, tmp_path, rules="ssl_verify_client on;") as target:
        (good,) = target.client.identities
        (stranger, *_) = target.peer.identities
        clients = (replace(stranger, name="stranger"), good)
        results = _judged(replace(target, client=replace(target.client, identities=clients)))
    assert results["listener.is-etcd"].outcome is Outcome.CONFORMS
    assert _of(results, Outcome.VIOLATES) == set(), explain(results.values())


@pytest.mark.parametrize("split", [False, True], ids=["one port", "HTTP split off"])
def test_errors_of_etcds_own_authorisation_are_answers_of_etcd(etcd_binary: Path, split: bool) -> None:
    """TLS accepts every client, and etcd's users are refused: etcd has answered."""
    config = ClusterConfig(
        client_cert_auth=False, trusted_ca_file=None, authentication=True, expects_health=False
    )
    with start_where_possible(replace(config, client_http=split), etcd_binary) as cluster:
        results = _judged(replace(cluster.target(), listeners=cluster.target().listeners[:1]))
    assert {"mtls.no-certificate", "mtls.foreign-ca"} <= _of(results, Outcome.VIOLATES), explain(
        results.values()
    )
    assert _of(results, Outcome.INCONCLUSIVE) == set(), explain(results.values())
