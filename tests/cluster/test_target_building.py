from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from cluster.conftest import Start
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.certificate import load_identity, load_trust
from pytest_etcdtls.pki.profile import CALayout, Identity, PKIPlan
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Target

GOOD = ClusterConfig()


def _labels(target: Target) -> list[str]:
    return [listener.label for listener in target.listeners]


@pytest.mark.etcd_version("3.5.33", "3.6", "3.7")
def test_listeners_have_labels_without_ports(start: Start, etcd_binary: Path) -> None:
    config = replace(GOOD, size=3, metrics="https", client_http=True, plain_client_listener=True)
    target = start(config, etcd_binary).target()
    kinds = ["client", "client-plain", "client-http", "metrics", "peer"]
    assert _labels(target) == [f"{kind}-m{index}" for index in range(3) for kind in kinds]
    assert {listener.member for listener in target.listeners} == {"m0", "m1", "m2"}
    assert len({listener.url for listener in target.listeners}) == 15
    plain = next(listener for listener in target.listeners if listener.label == "client-plain-m1")
    assert (plain.role, plain.scheme) == (Role.CLIENT, "http")


def test_the_label_can_be_chosen(start: Start, newest_etcd: Path) -> None:
    cluster = start(GOOD, newest_etcd)
    assert cluster.target().label == f"etcd-{cluster.version}"
    target = cluster.target("other")
    assert (target.label, target.origin) == ("other", "process")
    assert (target.etcd_version, target.source) == (cluster.version, str(newest_etcd))


def _same_as_files(identity: Identity) -> bool:
    assert identity.certificate_file is not None
    assert identity.key_file is not None
    loaded = load_identity(Path(identity.certificate_file), Path(identity.key_file), identity.name)
    assert loaded.key is not None
    assert identity.key is not None
    return loaded.chain == identity.chain and loaded.key.public_key() == identity.key.public_key()


@pytest.mark.parametrize("layout", CALayout)
def test_credentials_are_what_was_generated(start: Start, newest_etcd: Path, layout: CALayout) -> None:
    config = replace(GOOD, pki=PKIPlan(layout=layout), expects_health=layout is not CALayout.PER_ROLE)
    cluster = start(config, newest_etcd)
    target, pki = cluster.target(), cluster.pki
    assert [identity.name for identity in target.client.identities] == ["client"]
    assert [identity.name for identity in target.peer.identities] == ["peer-client", "peer"]
    assert all(map(_same_as_files, (*target.client.identities, *target.peer.identities)))
    for bundle, authority in (
        (target.client.server_ca, pki.server_ca),
        (target.client.client_trust, pki.client_ca),
        (target.peer.server_ca, pki.peer_ca),
        (target.peer.client_trust, pki.peer_ca),
    ):
        assert bundle is not None
        assert bundle.certificates == (authority.certificate,)
        assert tuple(load_trust(Path(bundle.source))) == bundle.certificates
    assert target.client.signing_key is not None
    assert target.client.signing_key.certificate == pki.client_ca.certificate
    assert [identity.chain for identity in target.client.served] == [pki.servers["m0"].chain]
    assert [identity.chain for identity in target.peer.served] == [pki.peers["m0"].chain]


def test_generated_certificates_are_expected_with_any_served_certificate(
    start: Start, newest_etcd: Path
) -> None:
    swapped = replace(GOOD, cert_file="peer.crt", key_file="peer.key", expects_health=False, metrics="https")
    cluster = start(swapped, newest_etcd)
    target = cluster.target()
    leaves = {leaf.role: leaf.certificate for leaf in target.expected}
    assert leaves == {
        Role.CLIENT: cluster.pki.servers["m0"].chain[0],
        Role.METRICS: cluster.pki.servers["m0"].chain[0],
        Role.PEER: cluster.pki.peers["m0"].chain[0],
    }
    assert [identity.name for identity in target.client.served] == ["peer"]


def test_each_member_has_its_own_expected_certificates(start: Start, newest_etcd: Path) -> None:
    cluster = start(replace(GOOD, size=3), newest_etcd)
    by_port = {leaf.port: leaf.certificate for leaf in cluster.target().expected if leaf.role is Role.CLIENT}
    ports = [int(member.client_url.rpartition(":")[2]) for member in cluster.members]
    assert by_port == {port: cluster.pki.servers[f"m{index}"].chain[0] for index, port in enumerate(ports)}


def test_the_target_has_the_allowed_names_in_force(start: Start, newest_etcd: Path) -> None:
    config = replace(
        GOOD,
        client_crl_file="crl.der",
        client_cert_allowed_hostname="client.example,other.example",
        peer_cert_allowed_cn="etcd-peer",
        expects_health=False,
    )
    target = start(config, newest_etcd).target()
    assert target.client.revoked is not None
    assert _same_as_files(target.client.revoked)
    assert target.client.allowed_hostname == ("client.example", "other.example")
    assert target.peer.allowed_cn == ("etcd-peer",)
    assert target.peer.revoked is None


def test_an_empty_crl_revokes_no_client(start: Start, newest_etcd: Path) -> None:
    assert start(replace(GOOD, client_crl_file="empty-crl.der"), newest_etcd).target().client.revoked is None


def test_the_target_has_the_ports_that_are_dialled_with_another_certificate(
    start: Start, newest_etcd: Path
) -> None:
    config = replace(
        GOOD,
        client_cert_file="client.crt",
        client_key_file="client.key",
        peer_client_cert_file="peer-client.crt",
        peer_client_key_file="peer-client.key",
    )
    assert start(GOOD, newest_etcd).target().dials_with_another == frozenset()
    target = start(config, newest_etcd).target()
    assert target.dials_with_another == frozenset({Role.CLIENT, Role.CLIENT_HTTP, Role.PEER})


def test_an_identity_without_files_is_given_without_paths(start: Start, newest_etcd: Path) -> None:
    """kubeadm's layout writes no revoked client."""
    kubeadm = replace(
        GOOD, pki=PKIPlan(layout=CALayout.KUBEADM), client_crl_file="crl.der", expects_health=False
    )
    revoked = start(kubeadm, newest_etcd).target().client.revoked
    assert revoked is not None
    assert (revoked.certificate_file, revoked.key_file) == (None, None)


def test_a_ca_key_is_on_disk_only_where_the_cluster_is_kept(start: Start, newest_etcd: Path) -> None:
    assert _key_file(start(GOOD, newest_etcd).target()) is None
    kept = start(GOOD, newest_etcd, keep=True)
    try:
        key_file = _key_file(kept.target())
        assert key_file is not None
        key = load_pem_private_key(Path(key_file).read_bytes(), None)
        assert key.public_key() == kept.pki.client_ca.certificate.public_key()
    finally:
        kept._home.keep = False


def _key_file(target: Target) -> str | None:
    assert target.client.signing_key is not None
    return target.client.signing_key.key_file
