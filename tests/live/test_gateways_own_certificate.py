"""The gateway dials etcd with the pair of --client-cert-file: why that one is refused; every etcd is real."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from judged import judge
from live.target_kinds import live
from starting import start_process

from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_pair
from pytest_etcdtls.pki.profile import CLIENT, SERVER, PKIPlan, Profile
from pytest_etcdtls.role import Role

_GOOD = replace(CLIENT, common_name="gateway")
_EXPIRED = replace(_GOOD, valid_from=timedelta(days=-2), valid_for=timedelta(days=1))
_SERVERS = replace(_GOOD, extended_key_usage=("serverAuth",))
OWN = ClusterConfig(
    client_cert_file="gateway.crt",
    client_key_file="gateway.key",
    expects_health=False,
    extra_files=encode_pair(CertificateAuthority.create("first").issue(_GOOD, name="gateway"), "gateway"),
)


def _renew(cluster: Cluster, profile: Profile) -> None:
    """Start etcd with such a pair: up to 3.6 the gateway dials when etcd starts."""
    pair = cluster.pki.client_ca.issue(profile, name="gateway")
    cluster.members[0].replace_files(encode_pair(pair, "gateway"))
    cluster.restart()


@pytest.mark.etcd_version("3.5", "3.6", "3.7")
def test_the_pair_of_its_own_is_named(etcd_binary: Path) -> None:
    with start_process(OWN, etcd_binary) as cluster:
        _renew(cluster, _SERVERS)
        target = cluster.target()
        declared, unknown = (
            judge(known, "api.gateway-works", Role.CLIENT)
            for known in (target, replace(target, declared={}, dials_with_another=None))
        )
    assert declared.outcome is Outcome.WARNS
    message = declared.findings[0].message
    assert "the gateway dials etcd with the certificate of --client-cert-file, CN=gateway" in message
    assert "and is refused: its extendedKeyUsage (serverAuth) has no clientAuth" in message
    assert "renew the pair of --client-cert-file and --client-key-file" in declared.remediation
    undeclared = unknown.findings[0].message
    assert "--client-cert-file" in undeclared
    assert "cert.valid-now" not in undeclared


@pytest.mark.etcd_version("3.5.33", "3.6", "3.7")
def test_an_expired_pair_is_not_a_fault_of_the_served_certificate(etcd_binary: Path) -> None:
    """The served certificate has no clientAuth, and the gateway dials with another one, which has expired.

    In TLS 1.2 the alert ends the gateway's own handshake. In TLS 1.3 it comes after that, and gRPC may report
    that the connection was closed instead.
    """
    servers_only = PKIPlan(server=replace(SERVER, extended_key_usage=("serverAuth",)))
    config = replace(OWN, pki=servers_only, tls_max_version="TLS1.2")
    with start_process(config, etcd_binary) as cluster:
        _renew(cluster, _EXPIRED)
        target = replace(live(cluster, Role.CLIENT), declared={}, dials_with_another=None)
        works, usage = (
            judge(target, check, Role.CLIENT) for check in ("api.gateway-works", "cert.client-usage")
        )
    assert "with the certificate of --client-cert-file, which has expired" in works.findings[0].message
    assert usage.outcome is Outcome.CONFORMS
