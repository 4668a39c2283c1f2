"""The kubeadm layout equals kubeadm's own: files, subjects, usages, names, validity, encodings."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.certificate import (
    key_usages,
    load_certificates,
    load_identity,
    load_key,
    purposes,
)
from pytest_etcdtls.pki.go_parser import details
from pytest_etcdtls.pki.go_verify import subject_alt_names
from pytest_etcdtls.pki.profile import CALayout, KeyType, MemberNames, PKIPlan

NODE = MemberNames("node-1", ("10.0.0.11",))
BOTH = ("serverAuth", "clientAuth")
NODE_NAMES = ("DNS:localhost", "DNS:node-1", "IP:10.0.0.11", "IP:127.0.0.1", "IP:::1")
LEAVES: Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "etcd/server": ("CN=node-1", BOTH, NODE_NAMES),
    "etcd/peer": ("CN=node-1", BOTH, NODE_NAMES),
    "etcd/healthcheck-client": ("CN=kube-etcd-healthcheck-client", ("clientAuth",), ()),
    "apiserver-etcd-client": ("CN=kube-apiserver-etcd-client", ("clientAuth",), ()),
}
_LIFETIME = timedelta(days=365, minutes=5)
ECDSA = PKIPlan(layout=CALayout.KUBEADM, key_type=KeyType.ECDSA_P256)


def critical(certificate: x509.Certificate) -> set[type]:
    return {type(found.value) for found in certificate.extensions if found.critical}


def test_files_are_kubeadms(tmp_path: Path) -> None:
    pki = ClusterPKI.generate(PKIPlan(layout=CALayout.KUBEADM), [NODE])
    pki.write(tmp_path)
    directory = tmp_path / "node-1"
    written = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    assert written == {
        *("etcd/ca.crt", "etcd/ca.key"),
        *(f"{name}.{suffix}" for name in LEAVES for suffix in ("crt", "key")),
    }
    (ca,) = load_certificates(directory / "etcd" / "ca.crt")
    assert ca.subject.rfc4514_string() == ca.issuer.rfc4514_string() == "CN=etcd-ca"
    assert details(ca).is_ca
    assert critical(ca) == {x509.BasicConstraints, x509.KeyUsage}
    assert key_usages(ca) == frozenset({"digitalSignature", "keyEncipherment", "keyCertSign"})
    # client-go's NewSelfSignedCACert puts the common name in as a DNS name.
    assert subject_alt_names(ca) == ("DNS:etcd-ca",)
    assert not details(ca).authority_key
    assert ca.not_valid_after_utc - ca.not_valid_before_utc == timedelta(days=3650, minutes=5)
    assert load_key(directory / "etcd" / "ca.key").public_key() == ca.public_key()
    for name, expected in LEAVES.items():
        identity = load_identity(directory / f"{name}.crt", directory / f"{name}.key", name)
        (leaf,) = identity.chain
        leaf.verify_directly_issued_by(ca)
        assert (leaf.subject.rfc4514_string(), purposes(leaf), subject_alt_names(leaf)) == expected
        assert key_usages(leaf) == frozenset({"digitalSignature", "keyEncipherment"})
        assert critical(leaf) == {x509.BasicConstraints, x509.KeyUsage}
        assert details(leaf).authority_key
        assert not details(leaf).subject_key
        assert leaf.not_valid_before_utc == ca.not_valid_before_utc
        assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == _LIFETIME
        key = leaf.public_key()
        assert isinstance(key, rsa.RSAPublicKey)
        assert key.key_size == 2048
        assert (directory / f"{name}.key").read_text("ascii").startswith("-----BEGIN RSA PRIVATE KEY-----\n")


def test_every_node_has_its_own_certificates() -> None:
    """Keys of ECDSA, as kubeadm makes from Kubernetes 1.31 on, have the older encoding too."""
    pki = ClusterPKI.generate(ECDSA, [NODE, MemberNames("node-2", ("10.0.0.12",))])
    assert pki.leaves["node-2"].server.chain[0].subject.rfc4514_string() == "CN=node-2"
    files = pki.files()
    paths = (pki.paths("node-1"), pki.paths("node-2"))
    assert files[paths[0]["client-ca.key"]] == files[paths[1]["client-ca.key"]]
    assert files[paths[0]["client.crt"]] != files[paths[1]["client.crt"]]
    assert files[paths[0]["client.key"]].startswith(b"-----BEGIN EC PRIVATE KEY-----\n")
