"""The PKIs of clusters: who signs what, what is written, and who may read it."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from cryptography import x509

from pytest_etcdtls.pki.bundle import ClusterPKI, write_files
from pytest_etcdtls.pki.certificate import load_certificates, load_identity, load_key
from pytest_etcdtls.pki.profile import (
    SERVER,
    CALayout,
    KeyType,
    MemberNames,
    PKIPlan,
    SentChain,
)

from .conftest import OpenSSL

MEMBERS = (MemberNames("m0"), MemberNames("m1", ("etcd-1.example", "10.0.0.2")))
SIGNED_BY = {"server": "server-ca", "peer": "peer-ca", "client": "client-ca", "peer-client": "peer-ca"}


@pytest.mark.parametrize("layout", list(CALayout))
def test_written_chains_verify(tmp_path: Path, openssl: OpenSSL, layout: CALayout) -> None:
    strict = () if layout is CALayout.KUBEADM else ("-x509_strict",)
    pki = ClusterPKI.generate(PKIPlan(layout=layout), MEMBERS)
    pki.write(tmp_path)
    for member in MEMBERS:
        paths = pki.paths(member.name)
        for leaf, ca in SIGNED_BY.items():
            purpose = "sslclient" if leaf.endswith("client") else "sslserver"
            crt, anchor = tmp_path / paths[f"{leaf}.crt"], tmp_path / paths[f"{ca}.crt"]
            openssl("verify", *strict, "-purpose", purpose, "-CAfile", anchor, "-untrusted", crt, crt)
            identity = load_identity(crt, tmp_path / paths[f"{leaf}.key"], leaf)
            assert identity.chain == getattr(pki.leaves[member.name], leaf.replace("-", "_")).chain


def test_members_and_clients_by_default() -> None:
    pki = ClusterPKI.generate(PKIPlan(), MEMBERS)
    leaves = [identity.chain[0] for identity in (*pki.servers.values(), *pki.peers.values())]
    keys = [leaf.public_key() for leaf in leaves]
    assert all(key not in keys[:place] for place, key in enumerate(keys))
    names = pki.servers["m1"].chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["etcd-1.example", "10.0.0.2"]
    for identity in (pki.client, pki.peer_client, pki.revoked):
        kinds = {type(extension.value) for extension in identity.chain[0].extensions}
        assert x509.SubjectAlternativeName not in kinds
    # It is accepted with that name in --peer-cert-allowed-cn.
    assert pki.peer_client.chain[0].subject == pki.peers["m0"].chain[0].subject


def test_members_that_are_not_alike() -> None:
    exception = replace(SERVER, common_name="other", subject_alt_names=("other.example",))
    for layout, first in ((CALayout.PER_PORT, "CN=etcd-server"), (CALayout.KUBEADM, "CN=m0")):
        plan = PKIPlan(layout=layout, key_type=KeyType.ECDSA_P256, server_exceptions={"m1": exception})
        servers = ClusterPKI.generate(plan, MEMBERS).servers
        subjects = {name: identity.chain[0].subject.rfc4514_string() for name, identity in servers.items()}
        assert subjects == {"m0": first, "m1": "CN=other"}


@pytest.mark.parametrize(
    ("sent", "length"),
    [(SentChain.COMPLETE, 2), (SentChain.LEAF_ONLY, 1), (SentChain.WITH_ROOT, 3)],
)
def test_intermediates_are_sent_and_not_trusted(sent: SentChain, length: int) -> None:
    pki = ClusterPKI.generate(PKIPlan(layout=CALayout.INTERMEDIATE, sent_chain=sent), MEMBERS[:1])
    server, peer, client = pki.servers["m0"].chain, pki.peers["m0"].chain, pki.client.chain
    assert (len(server), len(peer)) == (length, length)
    assert len(client) == len(pki.peer_client.chain) == len(pki.revoked.chain) == 2
    assert client[1].issuer != client[1].subject
    assert (server[-1] == pki.server_ca.certificate) is (sent is SentChain.WITH_ROOT)
    assert (peer[-1] == pki.peer_ca.certificate) is (sent is SentChain.WITH_ROOT)
    assert pki.client_ca.chain == ()
    if sent is not SentChain.LEAF_ONLY:
        assert client[1] == server[1] != peer[1]


def test_the_key_of_a_profile_goes_before_that_of_the_plan_and_one_key_may_serve_all() -> None:
    server = replace(SERVER, key_type=KeyType.ECDSA_P384)
    pki = ClusterPKI.generate(PKIPlan(key_type=KeyType.ED25519, server=server), MEMBERS[:1])
    kinds = [type(identity.key).__name__ for identity in (pki.servers["m0"], pki.peers["m0"], pki.client)]
    assert kinds == ["ECPrivateKey", "Ed25519PrivateKey", "Ed25519PrivateKey"]
    pki = ClusterPKI.generate(PKIPlan(one_key=True), MEMBERS)
    keys = [identity.key for identity in (*pki.servers.values(), *pki.peers.values())]
    assert all(key is keys[0] for key in keys)
    assert pki.client.key is not keys[0]


def test_files(tmp_path: Path) -> None:
    """Keys of CAs are written on request alone."""
    pki = ClusterPKI.generate(PKIPlan(layout=CALayout.PER_ROLE), MEMBERS)
    pki.write(tmp_path / "pki")
    written = {
        str(path.relative_to(tmp_path / "pki")) for path in (tmp_path / "pki").rglob("*") if path.is_file()
    }
    of_member = {"server.crt", "server.key", "peer.crt", "peer.key"}
    assert written == {
        *(f"{member}/{name}" for member in ("m0", "m1") for name in of_member),
        *("client-ca.crt", "server-ca.crt", "peer-ca.crt"),
        *("client.crt", "client.key", "peer-client.crt", "peer-client.key"),
        *("revoked.crt", "revoked.key", "crl.der", "crl.pem", "empty-crl.der"),
    }
    assert {str(path) for member in ("m0", "m1") for path in pki.paths(member).values()} == written
    pki.write(tmp_path, with_ca_keys=True)
    paths = pki.paths("m0", with_ca_keys=True)
    anchors = (("client-ca", pki.client_ca), ("server-ca", pki.server_ca), ("peer-ca", pki.peer_ca))
    for name, authority in anchors:
        assert load_key(tmp_path / paths[f"{name}.key"]).public_key() == authority.key.public_key()
    der = x509.load_der_x509_crl((tmp_path / paths["crl.der"]).read_bytes())
    assert der == x509.load_pem_x509_crl((tmp_path / paths["crl.pem"]).read_bytes())
    (revoked,) = load_certificates(tmp_path / paths["revoked.crt"])
    assert [entry.serial_number for entry in der] == [revoked.serial_number]
    assert der.is_signature_valid(pki.client_ca.key.public_key())
    assert len(x509.load_der_x509_crl((tmp_path / paths["empty-crl.der"]).read_bytes())) == 0


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    pki = ClusterPKI.generate(PKIPlan(layout=CALayout.KUBEADM, key_type=KeyType.ECDSA_P256), MEMBERS)
    before = os.umask(umask)
    try:
        pki.write(tmp_path / "deep" / "pki", with_ca_keys=True)
    finally:
        os.umask(before)
    modes = {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in (tmp_path / "deep").rglob("*")}
    assert modes == {(True, 0o700), (False, 0o600)}
    assert stat.S_IMODE((tmp_path / "deep").stat().st_mode) == 0o700


def test_existing_file_is_replaced_not_written_into(tmp_path: Path) -> None:
    """A key is never written into a file that others may read or have open."""
    path = tmp_path / "server.key"
    path.write_text("old", encoding="utf-8")
    path.chmod(0o644)
    with path.open(encoding="utf-8") as held:
        write_files(tmp_path, {PurePosixPath("server.key"): b"new"})
        assert held.read() == "old"
    assert path.read_text(encoding="utf-8") == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["server.key"]
