"""What each etcd accepts of TLS as it comes; it depends on the Go that it was built with, and so moves."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from starting import start_process

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.facts.protocol import GroupSupport, SuiteSupport
from pytest_etcdtls.facts.sessions import Resumption, SessionTickets
from pytest_etcdtls.pki.profile import KeyType, PKIPlan
from pytest_etcdtls.results import Outcome
from pytest_etcdtls.role import TLSVersion
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Listener

OLD = ("3.4.23", "3.5.1")
MEASURED = pytest.mark.etcd_version("3.4.23", "3.5.1", "3.5.33", "3.6.16", "3.7.3")

_ECDHE = (
    "AES_128_GCM_SHA256",
    "AES_256_GCM_SHA384",
    "CHACHA20_POLY1305_SHA256",
    "AES_128_CBC_SHA",
    "AES_256_CBC_SHA",
)
_OF_OLD_GO = {
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
}
_CURVES = ["x25519", "secp256r1", "secp384r1", "secp521r1"]
_GROUPS = {
    "3.4.23": _CURVES,
    "3.5.1": _CURVES,
    "3.5.33": ["X25519MLKEM768", *_CURVES],
    "3.6.16": ["X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024", *_CURVES],
    "3.7.3": ["X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024", *_CURVES],
}


def _names(suites: Iterable[str], kind: str) -> set[str]:
    return {f"TLS_ECDHE_{kind}_WITH_{suite}" for suite in suites}


@MEASURED
@pytest.mark.parametrize("key_type", [KeyType.ECDSA_P256, KeyType.RSA_2048])
def test_suites_and_groups(etcd_binary: Path, key_type: KeyType) -> None:
    with start_process(ClusterConfig(pki=PKIPlan(key_type=key_type)), etcd_binary) as cluster:
        observer = Observer(cluster.target())
        seen = [_seen(observer, listener) for listener in observer.target.listeners]
    rsa = key_type is KeyType.RSA_2048
    suites = _names(_ECDHE, "RSA" if rsa else "ECDSA")
    if rsa and cluster.version in OLD:
        suites |= _OF_OLD_GO
    version = TLSVersion.TLS1_2 if cluster.version == "3.5.1" else TLSVersion.TLS1_3
    assert seen == [(suites, version, _GROUPS[cluster.version])] * 2


def _seen(observer: Observer, listener: Listener) -> tuple[set[str], TLSVersion, list[str]]:
    suites = observer.get(SuiteSupport, None, listener)
    groups = observer.get(GroupSupport, None, listener)
    assert suites.complete
    assert groups.weak is None
    return (
        {suite.name for suite in suites.accepted},
        groups.version,
        [group.name for group in groups.accepted],
    )


@MEASURED
def test_sessions(etcd_binary: Path) -> None:
    """They are given out and resumed, in every version, and never invite early data."""
    with start_process(ClusterConfig(), etcd_binary) as cluster:
        observer = Observer(cluster.target())
        for listener in observer.target.listeners:
            resumption = observer.get(Resumption, None, listener)
            assert [made.again is not None and made.again.resumed for made in resumption.good] == [
                True
            ] * len(resumption.good)
            if cluster.version != "3.5.1":
                assert len(resumption.good) == 2
                (ticket,) = observer.get(SessionTickets, None, listener).tickets
                assert (ticket.lifetime, ticket.max_early_data) == (7 * 24 * 3600, 0)


def test_a_resumed_session_of_a_revoked_client_is_closed(etcd_binary: Path) -> None:
    """3.4 and 3.5 read a PEM revocation list too, 3.6 and newer only DER."""
    with start_process(ClusterConfig(client_crl_file="crl.der"), etcd_binary) as cluster:
        target = cluster.target()
        observer = Observer(target)
        results = run_checks(observer, select(["mtls.resumption-keeps-verdict"]))
        resumption = observer.get(Resumption, None, target.listeners[0])
    assert {result.outcome for result in results} == {Outcome.CONFORMS}, results
    assert resumption.revoked
    assert all(made.again is not None and made.again.resumed for made in resumption.revoked)


@pytest.mark.etcd_version("3.5.33", "3.6.16", "3.7.3")
def test_a_cluster_with_modern_suites_alone_has_no_warning_about_tls(etcd_binary: Path) -> None:
    suites = ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256")
    with start_process(ClusterConfig(cipher_suites=suites), etcd_binary) as cluster:
        results = run_checks(Observer(cluster.target()), select(["tls"]))
    assert {result.outcome for result in results} <= {Outcome.CONFORMS, Outcome.NOT_APPLICABLE}, results
