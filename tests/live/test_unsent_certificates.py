"""A client whose key fits no signature scheme sends no certificate: the key is the reason, on every etcd."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from plugin.runs import Runner, run
from starting import start_process

from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.bundle import encode_certificates, encode_key

__all__ = ["run"]

KEYS = {
    "ECDSA secp224r1": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp224r1"),
    "RSASSA-PSS": ("-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"),
    "": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
}


@pytest.fixture(scope="module")
def cluster(etcd_binary: Path) -> Iterator[Cluster]:
    with start_process(ClusterConfig(), etcd_binary) as started:
        yield started


def _issue(cluster: Cluster, directory: Path, key: tuple[str, ...]) -> None:
    authority = cluster.pki.authorities.client_issuer
    assert authority.key is not None
    (directory / "ca.crt").write_bytes(encode_certificates([authority.certificate]))
    (directory / "ca.key").write_bytes(encode_key(authority.key))
    (directory / "usage").write_text("extendedKeyUsage=clientAuth\n", encoding="utf-8")
    for command in (
        ("genpkey", *key, "-out", "client.key"),
        ("req", "-new", "-key", "client.key", "-subj", "/CN=client", "-out", "client.csr"),
        (
            *("x509", "-req", "-in", "client.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-days", "90", "-extfile", "usage", "-out", "client.crt"),
        ),
    ):
        subprocess.run(["openssl", *command], cwd=directory, check=True, capture_output=True)


@pytest.mark.program("openssl")
@pytest.mark.parametrize("kind", KEYS)
def test_the_key_is_why(run: Runner, cluster: Cluster, tmp_path: Path, kind: str) -> None:
    _issue(cluster, tmp_path, KEYS[kind])
    ran = run(
        f"--etcd-endpoint={cluster.members[0].client_url}",
        f"--etcd-cert={tmp_path / 'client.crt'}",
        f"--etcd-key={tmp_path / 'client.key'}",
        "--etcd-check=mtls.trusted-client",
    )
    result = ran.result_of("mtls.trusted-client")
    in_tls13 = any(
        connection["identity"] == "client" and connection["tls"] == "TLSv1.3"
        for connection in ran.report["connections"]
    )
    if not kind or (kind.startswith("ECDSA") and not in_tls13):  # TLS 1.2 signs with any curve
        assert result["outcome"] == "conforms"
        return
    assert result["outcome"] == "violates"
    why = f"its key ({kind}) fits no signature scheme that etcd's Go offers, so its certificate is not sent"
    assert result["findings"][0]["message"].endswith(why)
    assert result["remediation"].startswith("issue this certificate again with an RSA key (rsaEncryption)")
