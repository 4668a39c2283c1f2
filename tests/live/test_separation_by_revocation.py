"""Ports with one CA whose revocation lists separate clients and peers; every etcd is real."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from oracle.crls import signed
from starting import start_process
from zoo.model import explain, found

from pytest_etcdtls.checks.registry import select
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
ON_PEER_PORT = "mtls.client-certificate-on-peer-port"
ON_CLIENT_PORT = "mtls.peer-certificate-on-client-port"
AS_CLIENT = "mtls.server-certificate-as-client"


def _judged(config: ClusterConfig, binary: Path, *, declared: bool = True) -> list[CheckResult]:
    with start_process(config, binary) as cluster:
        target: Target = cluster.target()
        if not declared:
            target = replace(target, origin="live", declared={}, etcd_version=None)
        return run_checks(Observer(target), select(["listener", "mtls", "config"]))


def _outcomes(results: list[CheckResult]) -> Mapping[str, Outcome]:
    return {
        result.check: result.outcome
        for result in results
        if result.check in (ON_PEER_PORT, ON_CLIENT_PORT, AS_CLIENT)
    }


def test_a_listed_serial_number_makes_a_close_a_refusal(etcd_binary: Path) -> None:
    results = _judged(SEPARATED, etcd_binary)
    outcomes = _outcomes(results)
    assert (outcomes[ON_PEER_PORT], outcomes[ON_CLIENT_PORT]) == (Outcome.CONFORMS, Outcome.CONFORMS)
    seen = found(results)
    assert not seen["violates"], explain(results)
    assert not seen["inconclusive"], explain(results)


def test_without_a_declared_list_a_close_is_no_refusal(etcd_binary: Path) -> None:
    outcomes = _outcomes(_judged(SEPARATED, etcd_binary, declared=False))
    assert (outcomes[ON_PEER_PORT], outcomes[ON_CLIENT_PORT]) == (Outcome.INCONCLUSIVE, Outcome.INCONCLUSIVE)


def test_lists_of_others_separate_nothing(etcd_binary: Path) -> None:
    others = {"not-clients": signed(_CA, 2002), "not-peers": signed(_CA, 2001)}
    outcomes = _outcomes(_judged(replace(SEPARATED, extra_files=others), etcd_binary))
    assert (outcomes[ON_PEER_PORT], outcomes[ON_CLIENT_PORT]) == (Outcome.WARNS, Outcome.WARNS)


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
    assert _outcomes(results)[AS_CLIENT] is Outcome.CONFORMS, explain(results)
    assert not found(results)["violates"], explain(results)


@pytest.mark.etcd_version("3.5.33", "3.6", "3.7")
def test_a_grpc_only_port_refuses_a_listed_certificate_by_alert(etcd_binary: Path) -> None:
    results = _judged(replace(SEPARATED, client_http=True), etcd_binary)
    assert _outcomes(results)[ON_CLIENT_PORT] is Outcome.CONFORMS, explain(results)


def test_san_rule_and_list_together_are_a_refusal_from_every_address(etcd_binary: Path) -> None:
    client = replace(CLIENT, serial_number=_OF_CLIENT, subject_alt_names=("192.0.2.1",))
    named = replace(SEPARATED, pki=replace(_PKI, client=client))
    assert _outcomes(_judged(named, etcd_binary))[ON_PEER_PORT] is Outcome.CONFORMS
    by_rule_alone = replace(named, peer_crl_file=None)
    assert _outcomes(_judged(by_rule_alone, etcd_binary))[ON_PEER_PORT] is Outcome.NOT_VERIFIED
