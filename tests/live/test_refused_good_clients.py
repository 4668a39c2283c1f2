"""A good client that is refused: the finding says why, and the remedy is for that; every etcd is real."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from starting import start_process

from pytest_etcdtls.catalog import catalogue
from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.observer import Observer
from pytest_etcdtls.pki.bundle import PKIPlan
from pytest_etcdtls.pki.profile import CLIENT, Profile
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.runner import Judge
from pytest_etcdtls.target import Role, Target

GOOD = ClusterConfig()
_EXPIRED = replace(CLIENT, valid_from=timedelta(days=-2), valid_for=timedelta(days=1, hours=21))
_LATER = replace(CLIENT, valid_from=timedelta(days=1))


def _judge(target: Target, check: str = "mtls.trusted-client") -> CheckResult:
    """Judge it on the client port as the first identity that is known, and no other."""
    listener = next(listener for listener in target.listeners if listener.role is Role.CLIENT)
    alone = replace(target.client, identities=target.client.identities[:1], signing_key=None)
    return Judge(Observer(replace(target, client=alone))).result(catalogue()[check], listener)


@pytest.mark.parametrize(
    ("client", "why", "remedy"),
    [
        (_EXPIRED, "its certificate expired 3 hours ago", "renew this certificate"),
        (_LATER, "its certificate is not valid before", "from then on"),
        (
            replace(CLIENT, extended_key_usage=("serverAuth",)),
            "its extendedKeyUsage (serverAuth) has no clientAuth",
            "issue this certificate with extendedKeyUsage clientAuth",
        ),
        (
            replace(CLIENT, self_signed=True),
            "is not trusted (trusted: ",
            "put this CA into --trusted-ca-file",
        ),
    ],
    ids=["expired", "not yet valid", "for servers only", "another CA"],
)
def test_the_certificate_tells_why(client: Profile, why: str, remedy: str, etcd_binary: Path) -> None:
    with start_process(replace(GOOD, pki=PKIPlan(client=client)), etcd_binary) as cluster:
        result = _judge(cluster.target())
    assert result.outcome is Outcome.VIOLATES
    assert why in result.findings[0].message
    assert remedy in result.remediation
    assert "crl" not in result.remediation


def test_a_close_after_the_handshake_is_about_revocation(newest_etcd: Path) -> None:
    with start_process(replace(GOOD, client_crl_file="gone.der"), newest_etcd) as cluster:
        result = _judge(cluster.target())
    assert "accepted by TLS and closed by etcd" in result.findings[0].message
    assert "--client-crl-file" in result.remediation


def test_where_nobody_is_asked_no_terminator_is_blamed(newest_etcd: Path) -> None:
    with start_process(replace(GOOD, client_cert_auth=False, trusted_ca_file=None), newest_etcd) as cluster:
        result = _judge(cluster.target(), "mtls.lookalike-ca")
    assert result.outcome is Outcome.VIOLATES
    assert result.remediation.startswith("this port asks nobody for a certificate")
    assert "terminates" not in result.remediation
