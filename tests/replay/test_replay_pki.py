"""Generated keys and certificates have the shape of the declared ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path, PurePosixPath

import pytest
from cryptography import x509
from msgspec.structs import replace

from pytest_etcdtls.etcd.replay_files import ReplayFiles
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates
from pytest_etcdtls.pki.certificate import describe_key, load_certificates, public_key, purposes
from pytest_etcdtls.pki.go_verify import find_path, subject_alt_names
from pytest_etcdtls.pki.profile import SERVER, KeyType
from replay.nodes import node, plan_of, plan_of_file

PKI = "etc/kubernetes/pki/etcd"


def certificate(files: ReplayFiles, path: str) -> x509.Certificate:
    return x509.load_pem_x509_certificates(files.contents[PurePosixPath(path)])[0]


def without_keys(kubernetes: Path) -> Path:
    for key in (kubernetes / "pki").rglob("*.key"):
        key.unlink()
    return kubernetes


def test_the_declared_files_are_used_if_all_are_here(tmp_path: Path) -> None:
    kubernetes = node(tmp_path)
    files = plan_of(kubernetes).files
    assert not files.generated
    assert {str(path): content for path, content in files.contents.items()} == {
        f"{PKI}/{name}": (kubernetes / "pki" / "etcd" / name).read_bytes()
        for name in ("ca.crt", "server.crt", "server.key", "peer.crt", "peer.key")
    }
    assert "healthcheck-client" in [identity.name for identity in files.client.identities]
    assert b"PRIVATE" not in repr(files).encode()


def test_one_ca_and_the_certificates_of_kubeadm(tmp_path: Path) -> None:
    kubernetes = without_keys(node(tmp_path))
    plan = plan_of(kubernetes)
    files = plan.files
    assert "server.key" in files.generated
    assert "etcd.yaml" in files.generated
    for name in ("server", "peer"):
        made, like = (
            certificate(files, f"{PKI}/{name}.crt"),
            load_certificates(kubernetes / "pki" / "etcd" / f"{name}.crt")[0],
        )
        assert made != like
        assert made.subject == like.subject
        assert set(subject_alt_names(made)) == set(subject_alt_names(like))
        assert purposes(made) == purposes(like)
        assert describe_key(public_key(made)) == describe_key(public_key(like))
        ca = certificate(files, f"{PKI}/ca.crt")
        assert find_path(made, [], [ca], made.not_valid_before_utc)
    assert files.client.client_trust == files.peer.client_trust
    assert files.client.signing_key is not None
    assert files.client.revoked is None


def test_files_are_generated_from_the_declaration_only(tmp_path: Path) -> None:
    declaration = tmp_path / "etcd.env"
    declaration.write_text(
        "ETCD_NAME=a\nETCD_LISTEN_CLIENT_URLS=https://10.1.1.1:2379\n"
        "ETCD_ADVERTISE_CLIENT_URLS=https://10.1.1.1:2379\nETCD_LISTEN_PEER_URLS=https://10.1.1.1:2380\n"
        "ETCD_CERT_FILE=/p/one.pem\nETCD_KEY_FILE=/p/one-key.pem\nETCD_TRUSTED_CA_FILE=/p/ca.pem\n"
        "ETCD_PEER_CERT_FILE=/p/one.pem\nETCD_PEER_KEY_FILE=/p/one-key.pem\n"
        "ETCD_PEER_TRUSTED_CA_FILE=/p/peer-ca.pem\nETCD_PEER_CRL_FILE=/p/crl.pem\n"
        "ETCD_CLIENT_CRL_FILE=/p/crl.der\n",
        encoding="utf-8",
    )
    plan = replace(plan_of_file(declaration), key_type=KeyType.ED25519)
    files = plan.files
    assert [str(path) for path in files.contents if path.parts[0] == "p"] == [
        "p/one.pem",
        "p/one-key.pem",
        "p/ca.pem",
        "p/crl.der",
        "p/peer-ca.pem",
        "p/crl.pem",
    ]
    one = certificate(files, "p/one.pem")
    assert {"IP:10.1.1.1", "IP:127.0.0.1", "DNS:localhost"} <= set(subject_alt_names(one))
    assert describe_key(public_key(one)) == "Ed25519"
    assert certificate(files, "p/ca.pem") != certificate(files, "p/peer-ca.pem"), "two paths, two CAs"
    for name in ("crl.pem", "crl.der"):  # whatever the name, every etcd reads it
        x509.load_der_x509_crl(files.contents[PurePosixPath(f"p/{name}")])
    assert files.client.revoked is not None


@pytest.mark.parametrize("of_its_own", [False, True])
def test_a_server_certificate_of_the_peers_ca_or_of_its_own(of_its_own: bool, tmp_path: Path) -> None:
    kubernetes = without_keys(node(tmp_path))
    served = CertificateAuthority.create("a CA of servers")
    intermediate = served.intermediate("an intermediate CA")
    made = intermediate.issue(
        dataclasses.replace(SERVER, extended_key_usage=("serverAuth",)), name="s", hosts=("a.example",)
    )
    etcd = kubernetes / "pki" / "etcd"
    (etcd / "server.crt").write_bytes(encode_certificates(made.chain))
    if not of_its_own:
        (etcd / "ca.crt").write_bytes(
            encode_certificates([*load_certificates(etcd / "ca.crt"), served.certificate])
        )
    files = plan_of(kubernetes).files
    chain = x509.load_pem_x509_certificates(files.contents[PurePosixPath(f"{PKI}/server.crt")])
    ca = certificate(files, f"{PKI}/ca.crt")
    trusted = find_path(chain[0], chain[1:], [ca], chain[0].not_valid_before_utc) is not None
    assert (trusted, len(chain)) == ((False, 1) if of_its_own else (True, 2))
    assert purposes(chain[0]) == ("serverAuth",)
    assert set(subject_alt_names(chain[0])) == {"DNS:a.example", "DNS:localhost", "IP:127.0.0.1", "IP:::1"}
    assert files.client.server_ca is not None


def test_a_file_without_a_certificate_is_replaced(tmp_path: Path) -> None:
    kubernetes = without_keys(node(tmp_path))
    (kubernetes / "pki" / "etcd" / "server.crt").write_bytes(b"\x00\xff nothing")
    files = plan_of(kubernetes).files
    assert certificate(files, f"{PKI}/server.crt").subject.rfc4514_string() == "CN=cp1"


@pytest.mark.parametrize("ending", ["empty", "with a key"])
def test_a_file_of_trusted_cas_that_etcd_cannot_use_is_kept(ending: str, tmp_path: Path) -> None:
    kubernetes = node(tmp_path)
    key = (kubernetes / "pki" / "etcd" / "server.key").read_bytes()
    without_keys(kubernetes)
    bundle = kubernetes / "pki" / "etcd" / "ca.crt"
    bundle.write_bytes(b"" if ending == "empty" else bundle.read_bytes() + key)
    files = plan_of(kubernetes).files
    assert "server.key" in files.generated
    assert files.contents[PurePosixPath(f"{PKI}/ca.crt")] == bundle.read_bytes()
