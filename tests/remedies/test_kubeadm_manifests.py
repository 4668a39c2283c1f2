"""What a cure writes into kubeadm's manifest, and what it says, with copies of the node's files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from declared.declaring import flags
from kubeadm.judging import target
from msgspec.structs import replace
from replay.nodes import SHAPES, node

from pytest_etcdtls.checks.results import Finding
from pytest_etcdtls.declared.cures import (
    PLACEHOLDER,
    Cure,
    client_certificates,
    https_of,
    reissued,
    renewed,
    restarted,
)
from pytest_etcdtls.declared.declaration import Change
from pytest_etcdtls.declared.effective import SIDES
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates
from pytest_etcdtls.pki.profile import KeyType
from pytest_etcdtls.role import Side
from pytest_etcdtls.run.remedies import Remedy, changed, lines, remedy, situations_of

MANIFEST = SHAPES / "kubeadm" / "v1.34.yaml"
ETCD = "/etc/kubernetes/pki/etcd"


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    """What is ``/etc/kubernetes/pki``."""
    return node(tmp_path) / "pki"


def cured(
    cure: Cure,
    pki: Path,
    side: Side = "client",
    *,
    without: str = "",
    text: str = "",
    trusted: Path | None = None,
) -> Remedy:
    """Return the remedy for the manifest without the lines that match a pattern."""
    text = text or MANIFEST.read_text(encoding="utf-8")
    if without:
        text = "".join(line for line in text.splitlines(keepends=True) if not re.search(without, line))
    file = pki.parent / "etcd.yaml"
    file.write_text(text, encoding="utf-8")
    live = target(etcd_config=file, etcd_pki_dir=pki, **({"etcd_trusted_ca": trusted} if trusted else {}))
    here, _ = situations_of(Recording(live), None, [Finding("", "", "")])
    return remedy(cure, [replace(here, version="3.6.4", side=side)], live)


def added(remedy: Remedy) -> list[str]:
    return [line.partition("  # ")[0][4:] for line in remedy.settings if line.startswith("+ --")]


def test_a_pair_is_made_by_kubeadm(pki: Path) -> None:
    text = MANIFEST.read_text(encoding="utf-8").replace("https://10.0.0.11:2380", "http://10.0.0.11:2380")
    done = cured(https_of("peer"), pki, "peer", without="--peer-(cert|key)", text=text)
    assert sorted(added(done)) == [
        "initial-advertise-peer-urls=https://10.0.0.11:2380",
        "initial-cluster=cp1=https://10.0.0.11:2380",
        "listen-peer-urls=https://10.0.0.11:2380",
        f"peer-cert-file={ETCD}/peer.crt",
        f"peer-key-file={ETCD}/peer.key",
    ]
    assert any("etcdctl member update ID --peer-urls=https://" in remark for remark in done.remarks)
    assert any("etcd.local.extraArgs" in remark for remark in done.remarks)
    assert any(
        remark.endswith("does not exist yet: kubeadm init phase certs etcd-peer") for remark in done.remarks
    )


def test_a_variable_beside_a_flag_is_removed_with_it() -> None:
    declaration = flags("--client-cert-auth=false", environment={"ETCD_CLIENT_CERT_AUTH": "true"})
    after = changed(declaration, [Change("client-cert-auth", "true")])
    assert [line.partition("  # ")[0] for line in lines(declaration, after)] == [
        *("- --client-cert-auth=false", "- ETCD_CLIENT_CERT_AUTH=true", "+ --client-cert-auth=true")
    ]


def test_what_only_the_operator_knows_is_a_placeholder(pki: Path) -> None:
    text = MANIFEST.read_text(encoding="utf-8").replace("/pki/etcd/", "/tls/etcd/")
    done = cured(client_certificates, pki, without="--(trusted-ca-file|client-cert-auth)", text=text)
    assert f"trusted-ca-file={PLACEHOLDER}/ca.crt" in added(done)
    assert any(
        remark.startswith(f"replace {PLACEHOLDER}/ca.crt with the file of the CA") for remark in done.remarks
    )
    known = pki / "etcd" / "ca.crt"
    done = cured(
        client_certificates, pki, without="--(trusted-ca-file|client-cert-auth)", text=text, trusted=known
    )
    assert f"trusted-ca-file={known}" in added(done)
    assert not [remark for remark in done.remarks if PLACEHOLDER in remark]


def test_clients_locked_out_by_a_restart_are_named_before_it(pki: Path) -> None:
    other = CertificateAuthority.create("the next CA", KeyType.ECDSA_P256)
    (pki / "etcd" / "ca.crt").write_bytes(encode_certificates([other.certificate]))
    done = cured(restarted, pki)
    assert done.settings == ()
    [refused] = done.warnings
    assert "refuses healthcheck-client (" in refused
    assert "apiserver-etcd-client (" in refused
    assert "Before the restart" in refused


def test_who_is_accepted_after_a_restart(pki: Path) -> None:
    how, accepted = cured(restarted, pki).remarks
    manifests = "/etc/kubernetes/manifests"
    away, back = f"{manifests}/etcd.yaml /etc/kubernetes", f"/etc/kubernetes/etcd.yaml {manifests}"
    assert how == f"restart it with: mv {away} && sleep 20 && mv {back}"
    assert accepted.startswith("after the restart the client port accepts healthcheck-client (")
    assert "apiserver-etcd-client (" in accepted


def test_kubeadms_own_command_renews(pki: Path) -> None:
    """It keeps the names, so another one issues a certificate with other names, and no key is overwritten."""
    for side, name in zip(SIDES, ("server", "peer"), strict=True):
        [renews] = cured(renewed, pki, side).instead
        assert renews.startswith(f"kubeadm made it: kubeadm certs renew etcd-{name}, which keeps its names; ")
        [issues] = cured(reissued, pki, side).remarks
        assert (
            f" && mv {ETCD}/{name}.key {ETCD}/{name}.key.old && kubeadm init phase certs etcd-{name} ("
            in (issues)
        )
        assert f"etcd.local.{name}CertSANs" in issues
