"""The kubeadm layout equals kubeadm's own: files, subjects, usages, names, validity, encodings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.certificate import load_certificates, load_identity, load_key
from pytest_etcdtls.pki.profile import AUTHORITY, SERVER, CALayout, KeyType, MemberNames, PKIPlan

NODE = MemberNames("node-1", ("10.0.0.11",))
BOTH = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
CLIENT_AUTH = [ExtendedKeyUsageOID.CLIENT_AUTH]
NODE_NAMES = ["localhost", "node-1", "10.0.0.11", "127.0.0.1", "::1"]
LEAVES: Mapping[str, tuple[str, list[x509.ObjectIdentifier], list[str] | None]] = {
    "etcd/server": ("CN=node-1", BOTH, NODE_NAMES),
    "etcd/peer": ("CN=node-1", BOTH, NODE_NAMES),
    "etcd/healthcheck-client": ("CN=kube-etcd-healthcheck-client", CLIENT_AUTH, None),
    "apiserver-etcd-client": ("CN=kube-apiserver-etcd-client", CLIENT_AUTH, None),
}


@pytest.fixture(scope="module")
def pki() -> ClusterPKI:
    return ClusterPKI.generate(PKIPlan(layout=CALayout.KUBEADM), [NODE])


@pytest.fixture(scope="module")
def directory(pki: ClusterPKI, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The equivalent of ``/etc/kubernetes/pki`` on the node."""
    root = tmp_path_factory.mktemp("kubeadm")
    pki.write(root)
    return root / "node-1"


def key_usages(certificate: x509.Certificate) -> set[str]:
    extension = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert extension.critical
    names = ("digital_signature", "key_encipherment", "key_cert_sign", "crl_sign", "content_commitment")
    return {name for name in names if getattr(extension.value, name)}


def subject_alt_names(certificate: x509.Certificate) -> list[str] | None:
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            return [str(name.value) for name in extension.value]
    return None


def test_files_are_kubeadms(directory: Path) -> None:
    written = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    assert written == {
        *("etcd/ca.crt", "etcd/ca.key"),
        *(f"{name}.{suffix}" for name in LEAVES for suffix in ("crt", "key")),
    }


def test_ca(directory: Path) -> None:
    (ca,) = load_certificates(directory / "etcd" / "ca.crt")
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert ca.subject.rfc4514_string() == ca.issuer.rfc4514_string() == "CN=etcd-ca"
    assert (constraints.critical, constraints.value.ca) == (True, True)
    assert key_usages(ca) == {"digital_signature", "key_encipherment", "key_cert_sign"}
    # client-go's NewSelfSignedCACert puts the common name in as a DNS name.
    assert subject_alt_names(ca) == ["etcd-ca"]
    lifetime = ca.not_valid_after_utc - ca.not_valid_before_utc
    assert lifetime == timedelta(days=3650, minutes=5)
    assert load_key(directory / "etcd" / "ca.key").public_key() == ca.public_key()


@pytest.mark.parametrize("name", LEAVES)
def test_leaf(directory: Path, name: str) -> None:
    subject, usages, names = LEAVES[name]
    identity = load_identity(directory / f"{name}.crt", directory / f"{name}.key", name)
    (ca,) = load_certificates(directory / "etcd" / "ca.crt")
    (leaf,) = identity.chain
    constraints = leaf.extensions.get_extension_for_class(x509.BasicConstraints)
    leaf.verify_directly_issued_by(ca)
    assert leaf.subject.rfc4514_string() == subject
    assert list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == usages
    assert subject_alt_names(leaf) == names
    assert key_usages(leaf) == {"digital_signature", "key_encipherment"}
    assert (constraints.critical, constraints.value.ca) == (True, False)
    assert leaf.not_valid_before_utc == ca.not_valid_before_utc
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == timedelta(days=365, minutes=5)
    key = leaf.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    assert key.key_size == 2048


@pytest.mark.parametrize("name", LEAVES)
def test_key_identifiers_are_those_that_go_puts_in(directory: Path, name: str) -> None:
    (leaf,) = load_certificates(directory / f"{name}.crt")
    (ca,) = load_certificates(directory / "etcd" / "ca.crt")
    oids = {extension.oid for extension in leaf.extensions}
    assert ExtensionOID.AUTHORITY_KEY_IDENTIFIER in oids
    assert ExtensionOID.SUBJECT_KEY_IDENTIFIER not in oids
    assert ExtensionOID.AUTHORITY_KEY_IDENTIFIER not in {extension.oid for extension in ca.extensions}


def test_keys_have_the_older_encoding(directory: Path) -> None:
    for path in directory.rglob("*.key"):
        assert path.read_text(encoding="utf-8").startswith("-----BEGIN RSA PRIVATE KEY-----\n")


def test_ecdsa_as_from_kubernetes_1_31(tmp_path: Path) -> None:
    plan = PKIPlan(layout=CALayout.KUBEADM, key_type=KeyType.ECDSA_P256)
    ClusterPKI.generate(plan, [NODE]).write(tmp_path)
    for path in tmp_path.rglob("*.key"):
        assert path.read_text(encoding="utf-8").startswith("-----BEGIN EC PRIVATE KEY-----\n")


def test_logical_names(pki: ClusterPKI) -> None:
    paths = {name: str(path) for name, path in pki.paths("node-1").items()}
    assert paths["client-ca.crt"] == paths["server-ca.crt"] == paths["peer-ca.crt"] == "node-1/etcd/ca.crt"
    assert paths["client.crt"] == "node-1/apiserver-etcd-client.crt"
    assert paths["peer-client.crt"] == "node-1/etcd/healthcheck-client.crt"
    assert pki.client.chain[0].subject.rfc4514_string() == "CN=kube-apiserver-etcd-client"
    assert pki.peer_client.chain[0].subject.rfc4514_string() == "CN=kube-etcd-healthcheck-client"


def test_every_node_has_its_own_certificates() -> None:
    plan = PKIPlan(layout=CALayout.KUBEADM, key_type=KeyType.ECDSA_P256)
    pki = ClusterPKI.generate(plan, [NODE, MemberNames("node-2", ("10.0.0.12",))])
    first, second = pki.leaves["node-1"], pki.leaves["node-2"]
    assert first.client.chain[0] != second.client.chain[0]
    assert second.server.chain[0].subject.rfc4514_string() == "CN=node-2"
    files = pki.files()
    paths = (pki.paths("node-1"), pki.paths("node-2"))
    assert files[paths[0]["client-ca.key"]] == files[paths[1]["client-ca.key"]]
    assert files[paths[0]["client.crt"]] != files[paths[1]["client.crt"]]


def test_changed_ca_does_not_shift_its_leaves() -> None:
    expired = replace(AUTHORITY, valid_from=timedelta(days=-400), valid_for=timedelta(days=30))
    plan = PKIPlan(layout=CALayout.KUBEADM, key_type=KeyType.ECDSA_P256, client_authority=expired)
    pki = ClusterPKI.generate(plan, [NODE])
    now = datetime.now(UTC)
    assert pki.client_ca.certificate.not_valid_after_utc < now
    assert pki.client_ca.certificate.subject.rfc4514_string() == "CN=etcd-ca"
    leaf = pki.servers["node-1"].chain[0]
    assert leaf.not_valid_before_utc < now < leaf.not_valid_after_utc


def test_changed_profile_replaces_the_one_of_kubeadm() -> None:
    expired = replace(
        SERVER, common_name=None, valid_from=timedelta(days=-400), valid_for=timedelta(days=365)
    )
    plan = PKIPlan(layout=CALayout.KUBEADM, key_type=KeyType.ECDSA_P256, server=expired)
    pki = ClusterPKI.generate(plan, [NODE])
    server, peer = pki.servers["node-1"].chain[0], pki.peers["node-1"].chain[0]
    assert server.subject.rfc4514_string() == "CN=node-1"
    assert subject_alt_names(server) == NODE_NAMES
    assert server.not_valid_after_utc < peer.not_valid_before_utc
