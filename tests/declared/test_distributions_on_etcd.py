"""The declaration of RKE2 with files of its names, judged with two options on a real etcd.

The etcd is started from the declaration, on free ports. ``--etcd-connect-to`` leads to them.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from kubeadm.judging import explain, judged, target
from replay.nodes import plan_of_file
from starting import source_of

from declared.declaring import read_declaration
from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.declared.declaration import hosts_of
from pytest_etcdtls.etcd.replay import ReplayedEtcd
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates, encode_key
from pytest_etcdtls.pki.profile import CLIENT, PEER, SERVER
from pytest_etcdtls.role import Role

SHAPE = Path(__file__).parent / "shapes" / "rke2"
PAIRS = {
    "server-client": ("server", SERVER),
    "peer-server-client": ("peer", PEER),
    "client": ("server", CLIENT),
}
OF_CLIENTS = (
    "  client-cert-auth: true\n",
    "  trusted-ca-file: /var/lib/rancher/rke2/server/tls/etcd/server-ca.crt\n",
)


def _write(pki: Path, hosts: tuple[str, ...]) -> None:
    pki.mkdir()
    authorities = {side: CertificateAuthority.create(f"etcd-{side}-ca") for side in ("server", "peer")}
    for side, authority in authorities.items():
        (pki / f"{side}-ca.crt").write_bytes(encode_certificates([authority.certificate]))
    for name, (side, profile) in PAIRS.items():
        issued = authorities[side].issue(profile, name=name, hosts=hosts)
        assert issued.key is not None
        (pki / f"{name}.crt").write_bytes(encode_certificates(issued.chain))
        (pki / f"{name}.key").touch(0o600)
        (pki / f"{name}.key").write_bytes(encode_key(issued.key))
    kubernetes = CertificateAuthority.create("rke2-client-ca").certificate
    (pki.parent / "client-ca.crt").write_bytes(encode_certificates([kubernetes]))


def _judged(etcd: Path, directory: Path, *, weaker: bool) -> list[CheckResult]:
    """Start an etcd from the declaration, which may not require certificates of clients, and judge it."""
    declaration, pki = directory / "etcd.yaml", directory / "etcd"
    for file in ("etcd.yaml", "config"):
        text = (SHAPE / file).read_text(encoding="utf-8")
        for setting in OF_CLIENTS if weaker else ():
            text = text.replace(setting, "", 1)  # that of peers comes later
        (directory / file).write_text(text, encoding="utf-8")
    _write(pki, tuple({*hosts_of(read_declaration(declaration)), "127.0.0.1", "localhost"}))
    plan = plan_of_file(declaration, etcd_pki_dir=pki)
    replayed = ReplayedEtcd(plan, source_of(etcd), directory=directory, seconds=60.0)
    try:
        # The port of the replay by that of the declaration, whatever host it is reached at.
        ports = {one.port: one.to_port for one in replayed.target("etcd").connect_to}
        connect = [
            f"{listener.host}:{listener.port}:127.0.0.1:{ports[listener.port]}"
            for listener in target(etcd_config=declaration, etcd_pki_dir=pki).listeners
        ]
        live = target(etcd_config=declaration, etcd_pki_dir=pki, etcd_connect_to=connect)
        return judged(live, "listener", "config", "cluster", "cert", "mtls")
    finally:
        replayed.stop()


@pytest.mark.etcd_version("3.5.33")
@pytest.mark.parametrize("weaker", [False, True])
def test_rke2(weaker: bool, etcd_binary: Path, tmp_path: Path) -> None:
    results = _judged(etcd_binary, tmp_path, weaker=weaker)
    by_outcome = {
        outcome: {(one.check, one.role) for one in results if one.outcome is outcome} for outcome in Outcome
    }
    assert not by_outcome[Outcome.INCONCLUSIVE] | by_outcome[Outcome.BROKEN], explain(results)
    conforming = {
        ("mtls.trusted-client", Role.PEER),
        ("mtls.no-certificate", Role.PEER),
        ("config.served-file", Role.CLIENT),
        ("config.peer-served-file", Role.PEER),
    }
    if weaker:
        assert ("mtls.no-certificate", Role.CLIENT) in by_outcome[Outcome.VIOLATES], explain(results)
        [fault] = [one for one in results if (one.check, one.role) == ("mtls.no-certificate", Role.CLIENT)]
        assert "RKE2 overwrites this declaration: give the same in etcd-arg" in fault.remediation
    else:
        assert not by_outcome[Outcome.VIOLATES], explain(results)
        conforming |= {
            ("mtls.trusted-client", Role.CLIENT),
            ("mtls.no-certificate", Role.CLIENT),
            ("cert.ca-not-shared-with-kubernetes", Role.CLIENT),
        }
    assert conforming <= by_outcome[Outcome.CONFORMS], explain(results)
