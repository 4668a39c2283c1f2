"""A good client that is refused: the finding has the reason and its remedy; every etcd is real."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from starting import start_process

from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.observer import Observer
from pytest_etcdtls.pki.profile import CLIENT, Identity
from pytest_etcdtls.registry import catalogue
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.role import Role
from pytest_etcdtls.runner import Judge
from pytest_etcdtls.target import Target

GOOD = ClusterConfig()
BROKEN = ClusterConfig(expects_health=False)
_EXPIRED = replace(CLIENT, valid_from=timedelta(days=-2), valid_for=timedelta(days=1, hours=21))
_LATER = replace(CLIENT, valid_from=timedelta(days=1))
_FOR_SERVERS = replace(CLIENT, extended_key_usage=("serverAuth",))
_TELLING = [
    (_EXPIRED, "its certificate expired 3 hours ago", "renew this certificate"),
    (_LATER, "its certificate is not valid before", "from then on"),
    (_FOR_SERVERS, "its extendedKeyUsage (serverAuth) has no clientAuth", "with extendedKeyUsage clientAuth"),
    (replace(CLIENT, self_signed=True), "is not trusted (trusted: ", "put this CA into --trusted-ca-file"),
]


def _judge(
    target: Target, identity: Identity | None = None, check: str = "mtls.trusted-client"
) -> CheckResult:
    """Judge it on the client port with one good identity, by default the first that is known."""
    listener = next(listener for listener in target.listeners if listener.role is Role.CLIENT)
    alone = replace(
        target.client, identities=(identity or target.client.identities[0],), signing_key=None, served=()
    )
    return Judge(Observer(replace(target, client=alone))).result(catalogue()[check], listener)


def test_the_certificate_gives_the_reason_of_a_refusal(etcd_binary: Path) -> None:
    """Up to Go 1.19 the alert is 42 for every reason."""
    with start_process(GOOD, etcd_binary) as cluster:
        authority = cluster.pki.client_ca
        results = [_judge(cluster.target(), authority.issue(made, name="client")) for made, _, _ in _TELLING]
    for result, (_, why, remedy) in zip(results, _TELLING, strict=True):
        assert result.outcome is Outcome.VIOLATES
        assert why in result.findings[0].message
        assert remedy in result.remediation
        assert "crl" not in result.remediation


def test_a_close_after_the_handshake_is_attributed_to_revocation(newest_etcd: Path) -> None:
    with start_process(replace(BROKEN, client_crl_file="gone.der"), newest_etcd) as cluster:
        result = _judge(cluster.target())
    assert "accepted by TLS and closed by etcd" in result.findings[0].message
    assert "--client-crl-file" in result.remediation


def test_without_a_certificate_request_no_proxy_is_suspected(newest_etcd: Path) -> None:
    with start_process(replace(GOOD, client_cert_auth=False, trusted_ca_file=None), newest_etcd) as cluster:
        result = _judge(cluster.target(), check="mtls.lookalike-ca")
    assert result.outcome is Outcome.VIOLATES
    assert result.remediation.startswith("this port requests no certificate")
    assert "terminates" not in result.remediation
