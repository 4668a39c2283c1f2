"""What each etcd accepts of TLS as it comes; it depends on the Go that it was built with, and so moves."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from starting import start_process

from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.facts.protocol import GroupSupport, SuiteSupport
from pytest_etcdtls.pki.profile import KeyType, PKIPlan
from pytest_etcdtls.role import TLSVersion
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
