"""Ports with one CA whose revocation lists separate clients and peers; every etcd is real."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from oracle.crls import signed
from starting import start_process
from zoo.model import explain, found

from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.profile import CLIENT, PEER, SERVER, CALayout, PKIPlan
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Target

_CA = CertificateAuthority.create("a CA")
"""Of a list etcd compares serial numbers and nothing else."""
_OF_CLIENT, _OF_PEER, _OF_SERVER = 1001, 1002, 1003
_PKI = PKIPlan(
    layout=CALayout.SHARED,
    client=replace(CLIENT, serial_number=_OF_CLIENT),
    peer=replace(PEER, serial_number=_OF_PEER),
    server=replace(SERVER, serial_number=_OF_SERVER),
)
ONE_CA = ClusterConfig(pki=_PKI, expects_health=False)
SEPARATED = replace(
    ONE_CA,
    client_crl_file="not-clients",
    peer_crl_file="not-peers",
    extra_files={"not-clients": signed(_CA, _OF_PEER), "not-peers": signed(_CA, _OF_CLIENT)},
)
BOTH = ("mtls.client-certificate-on-peer-port", "mtls.peer-certificate-on-client-port")


def _judged(config: ClusterConfig, binary: Path, *, declared: bool = True) -> list[CheckResult]:
    with start_process(config, binary) as cluster:
        target: Target = cluster.target()
        if not declared:
            target = replace(target, origin="live", declared={}, etcd_version=None)
        return run_checks(Observer(target), ["listener", "mtls", "config"])


def _outcomes(results: list[CheckResult], *checks: str) -> list[Outcome]:
    by_check = {result.check: result.outcome for result in results}
    return [by_check[check] for check in checks]


def test_a_listed_serial_number_makes_a_close_a_refusal(etcd_binary: Path) -> None:
    results = _judged(SEPARATED, etcd_binary)
    assert _outcomes(results, *BOTH) == [Outcome.CONFORMS] * 2
    seen = found(results)
    assert not seen["violates"] | seen["inconclusive"], explain(results)


def test_a_list_that_is_not_declared_or_of_others_separates_nothing(etcd_binary: Path) -> None:
    others = {"not-clients": signed(_CA, 2002), "not-peers": signed(_CA, 2001)}
    undeclared = _judged(SEPARATED, etcd_binary, declared=False)
    assert _outcomes(undeclared, *BOTH) == [Outcome.INCONCLUSIVE] * 2
    lists = _judged(replace(SEPARATED, extra_files=others), etcd_binary)
    assert _outcomes(lists, *BOTH) == [Outcome.WARNS] * 2


@pytest.mark.etcd_version("3.5", "3.6", "3.7")
def test_a_revoked_served_certificate_is_not_a_client_certificate(etcd_binary: Path) -> None:
    """The gateway has a certificate of its own."""
    config = replace(
        ONE_CA,
        client_crl_file="not-clients",
        client_cert_file="client.crt",
        client_key_file="client.key",
        extra_files={"not-clients": signed(_CA, _OF_SERVER)},
    )
    results = _judged(config, etcd_binary)
    assert _outcomes(results, "mtls.server-certificate-as-client") == [Outcome.CONFORMS], explain(results)
    assert not found(results)["violates"], explain(results)


@pytest.mark.etcd_version("3.5.33", "3.6", "3.7")
def test_a_grpc_only_port_refuses_a_listed_certificate_by_alert(etcd_binary: Path) -> None:
    results = _judged(replace(SEPARATED, client_http=True), etcd_binary)
    assert _outcomes(results, BOTH[1]) == [Outcome.CONFORMS], explain(results)


def test_san_rule_and_list_together_are_a_refusal_from_every_address(etcd_binary: Path) -> None:
    client = replace(CLIENT, serial_number=_OF_CLIENT, subject_alt_names=("192.0.2.1",))
    named = replace(SEPARATED, pki=replace(_PKI, client=client))
    for config, outcome in (
        (named, Outcome.CONFORMS),
        (replace(named, peer_crl_file=None), Outcome.NOT_VERIFIED),
    ):
        assert _outcomes(_judged(config, etcd_binary), BOTH[0]) == [outcome]
