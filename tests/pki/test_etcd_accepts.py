"""What is generated is what etcd's Go accepts or refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_etcdtls.pki.bundle import CALayout, ClusterPKI, MemberNames, PKIPlan
from pytest_etcdtls.pki.profile import KeyType

from .conftest import EtcdStarter, Files


def _written(directory: Path, plan: PKIPlan) -> ClusterPKI:
    pki = ClusterPKI.generate(plan, [MemberNames("m0")])
    pki.write(directory)
    return pki


def _client(pki: ClusterPKI, directory: Path, name: str = "client") -> Files:
    paths = pki.paths("m0")
    return Files(directory / paths[f"{name}.crt"], directory / paths[f"{name}.key"])


def test_every_etcd_serves_the_client(etcd_binary: Path, tmp_path: Path, start_etcd: EtcdStarter) -> None:
    pki = _written(tmp_path / "pki", PKIPlan())
    paths = pki.paths("m0")
    etcd = start_etcd(etcd_binary, tmp_path / "pki", paths)
    assert etcd.version(tmp_path / "pki" / paths["server-ca.crt"], _client(pki, tmp_path / "pki")) == "200"
    assert etcd.version(tmp_path / "pki" / paths["server-ca.crt"], None) != "200"
    peer = etcd.version(
        tmp_path / "pki" / paths["peer-ca.crt"],
        _client(pki, tmp_path / "pki", "peer-client"),
        port=etcd.peer_port,
    )
    assert peer == "200"


@pytest.mark.etcd_version("3.6")
@pytest.mark.parametrize("key_type", [k for k in KeyType if k is not KeyType.RSA_4096])
@pytest.mark.parametrize("layout", list(CALayout))
def test_every_layout_and_key_type(
    etcd_binary: Path, tmp_path: Path, start_etcd: EtcdStarter, layout: CALayout, key_type: KeyType
) -> None:
    pki = _written(tmp_path / "pki", PKIPlan(layout=layout, key_type=key_type))
    paths = pki.paths("m0")
    etcd = start_etcd(etcd_binary, tmp_path / "pki", paths)
    assert etcd.version(tmp_path / "pki" / paths["server-ca.crt"], _client(pki, tmp_path / "pki")) == "200"
