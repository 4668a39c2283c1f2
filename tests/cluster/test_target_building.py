"""The target that an owned cluster is: its listeners, credentials and expected certificates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.conftest import Start
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.certificate import load_identity, load_trust
from pytest_etcdtls.pki.profile import CALayout, Identity, PKIPlan
from pytest_etcdtls.role import Role

GOOD = ClusterConfig()


@pytest.mark.etcd_version("3.5.33", "3.6", "3.7")
def test_listeners_have_labels_without_ports(start: Start, etcd_binary: Path) -> None:
    config = replace(GOOD, size=3, metrics="https", client_http=True, plain_client_listener=True)
    cluster = start(config, etcd_binary)
    target = cluster.target()
    kinds = ["client", "client-plain", "client-http", "metrics", "peer"]
    assert [listener.label for listener in target.listeners] == [
        f"{kind}-m{index}" for index in range(3) for kind in kinds
    ]
    assert {listener.member for listener in target.listeners} == {"m0", "m1", "m2"}
    assert len({listener.url for listener in target.listeners}) == 15
    plain = next(listener for listener in target.listeners if listener.label == "client-plain-m1")
    assert (plain.role, plain.scheme) == (Role.CLIENT, "http")
    served = {leaf.port: leaf.certificate for leaf in target.expected if leaf.role is Role.CLIENT}
    assert served == {member.port: cluster.pki.servers[member.name].chain[0] for member in cluster.members}
    assert target.label == f"etcd-{cluster.version}"
    other = cluster.target("other")
    assert (other.label, other.origin, other.etcd_version) == ("other", "process", cluster.version)


def _same_as_files(identity: Identity) -> bool:
    assert identity.certificate_file is not None
    assert identity.key_file is not None
    loaded = load_identity(Path(identity.certificate_file), Path(identity.key_file), identity.name)
    assert loaded.key is not None
    assert identity.key is not None
    return loaded.chain == identity.chain and loaded.key.public_key() == identity.key.public_key()


@pytest.mark.parametrize("layout", CALayout)
def test_credentials_are_what_was_generated(start: Start, newest_etcd: Path, layout: CALayout) -> None:
    config = replace(
        GOOD,
        pki=PKIPlan(layout=layout),
        client_crl_file="crl.der",
        peer_cert_allowed_cn="a",
        expects_health=False,
    )
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
    assert target.client.revoked is not None
    if layout is CALayout.KUBEADM:  # which has no file of it
        assert (target.client.revoked.certificate_file, target.client.revoked.key_file) == (None, None)
    else:
        assert _same_as_files(target.client.revoked)
    assert (target.peer.revoked, target.peer.allowed_cn) == (None, ("a",))
    assert target.dials_with_another == frozenset()
