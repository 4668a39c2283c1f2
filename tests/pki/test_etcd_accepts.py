"""etcd accepts and refuses generated certificates as expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_etcdtls.pki import identities
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.profile import CALayout, KeyType, MemberNames, PKIPlan

from .conftest import EtcdStarter, Files, store

REFUSED = {
    "sslv3 alert bad certificate",
    "sslv3 alert handshake failure",
    "sslv3 alert certificate expired",
    "tlsv1 alert unknown ca",
    "tlsv13 alert certificate required",
}
"""Alerts about a certificate, as OpenSSL names them."""


def _written(directory: Path, plan: PKIPlan) -> ClusterPKI:
    pki = ClusterPKI.generate(plan, [MemberNames("m0")])
    pki.write(directory)
    return pki


def _client(pki: ClusterPKI, directory: Path, name: str = "client") -> Files:
    paths = pki.paths("m0")
    return Files(directory / paths[f"{name}.crt"], directory / paths[f"{name}.key"])


@pytest.mark.parametrize("key_type", [KeyType.ECDSA_P256, KeyType.ED25519])
def test_every_etcd(etcd_binary: Path, tmp_path: Path, start_etcd: EtcdStarter, key_type: KeyType) -> None:
    pki = _written(tmp_path / "pki", PKIPlan(key_type=key_type))
    paths = pki.paths("m0")
    etcd = start_etcd(etcd_binary, tmp_path / "pki", paths)
    server_ca, peer_ca = (tmp_path / "pki" / paths[name] for name in ("server-ca.crt", "peer-ca.crt"))
    client, peer_client = (_client(pki, tmp_path / "pki", name) for name in ("client", "peer-client"))
    assert etcd.version(server_ca, client) == "200"
    assert etcd.gateway(server_ca, client) == "200"
    assert etcd.version(peer_ca, peer_client, port=etcd.peer_port) == "200"
    assert etcd.version(server_ca, peer_client) in REFUSED
    assert etcd.version(peer_ca, client, port=etcd.peer_port) in REFUSED
    assert etcd.version(server_ca, None) in REFUSED


@pytest.mark.etcd_version("3.6")
@pytest.mark.parametrize("key_type", [k for k in KeyType if k is not KeyType.RSA_4096])
@pytest.mark.parametrize("layout", list(CALayout))
def test_every_layout_and_key_type(
    etcd_binary: Path, tmp_path: Path, start_etcd: EtcdStarter, layout: CALayout, key_type: KeyType
) -> None:
    pki = _written(tmp_path / "pki", PKIPlan(layout=layout, key_type=key_type))
    paths = pki.paths("m0")
    etcd = start_etcd(etcd_binary, tmp_path / "pki", paths)
    server_ca, client = tmp_path / "pki" / paths["server-ca.crt"], _client(pki, tmp_path / "pki")
    assert etcd.version(server_ca, client) == "200"
    # The gateway dials etcd itself with server.crt, which in the layout per role is no client of client-ca.
    assert etcd.gateway(server_ca, client) == ("503" if layout is CALayout.PER_ROLE else "200")


@pytest.mark.etcd_version("3.6")
def test_etcd_dials_with_a_client_certificate_in_the_layout_per_role(
    etcd_binary: Path, tmp_path: Path, start_etcd: EtcdStarter
) -> None:
    pki = _written(tmp_path / "pki", PKIPlan(layout=CALayout.PER_ROLE))
    paths, client = pki.paths("m0"), _client(pki, tmp_path / "pki")
    own = (f"--client-cert-file={client.certificate}", f"--client-key-file={client.key}")
    etcd = start_etcd(etcd_binary, tmp_path / "pki", paths, *own)
    assert etcd.gateway(tmp_path / "pki" / paths["server-ca.crt"], client) == "200"


MADE = {
    "issued": "200",
    "intermediate-sent": "200",
    "wrong-cn": "200",
    "wrong-hostname": "200",
    "wrong-san": "200",
    "expired": "sslv3 alert certificate expired",
    "not-yet-valid": "sslv3 alert certificate expired",
    "server-auth-only": "sslv3 alert bad certificate",
    "intermediate-missing": "tlsv1 alert unknown ca",
    "self-signed": "tlsv1 alert unknown ca",
    "foreign-ca": "tlsv1 alert unknown ca",
    "lookalike-ca": "tlsv1 alert unknown ca",
    "revoked": "closed",
}
"""The answer of the client port of an etcd with a CRL to each."""


@pytest.mark.etcd_version("3.6")
@pytest.mark.parametrize("layout", [CALayout.PER_PORT, CALayout.INTERMEDIATE])
def test_made_identities(
    etcd_binary: Path, tmp_path: Path, start_etcd: EtcdStarter, layout: CALayout
) -> None:
    pki = _written(tmp_path / "pki", PKIPlan(layout=layout))
    paths = pki.paths("m0")
    etcd = start_etcd(
        etcd_binary, tmp_path / "pki", paths, f"--client-crl-file={tmp_path / 'pki' / paths['crl.der']}"
    )
    trusted = pki.client_ca.certificate
    made = [
        *identities.issue_identities(pki.client_ca).values(),
        *(identities.self_signed(), identities.foreign_ca()),
        *(identities.lookalike_ca([trusted.subject], [trusted]), pki.revoked),
    ]
    server_ca = tmp_path / "pki" / paths["server-ca.crt"]
    assert {identity.name: etcd.version(server_ca, store(identity, tmp_path)) for identity in made} == MADE


@pytest.mark.etcd_version("3.6")
def test_wrong_san_on_the_peer_port(etcd_binary: Path, tmp_path: Path, start_etcd: EtcdStarter) -> None:
    pki = _written(tmp_path / "pki", PKIPlan())
    paths = pki.paths("m0")
    etcd = start_etcd(etcd_binary, tmp_path / "pki", paths, "--peer-cert-allowed-cn=etcd-peer")
    issued = identities.issue_identities(pki.peer_ca, common_name="etcd-peer")
    answers = {
        name: etcd.version(
            tmp_path / "pki" / paths["peer-ca.crt"], store(issued[name], tmp_path), port=etcd.peer_port
        )
        for name in ("issued", "wrong-san", "wrong-cn")
    }
    assert answers == {"issued": "200", "wrong-san": "closed", "wrong-cn": "sslv3 alert bad certificate"}
