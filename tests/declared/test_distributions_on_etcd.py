"""Declarations of distributions with files of their names, judged with two options on a real etcd.

The etcd is started from the declaration, on free ports. ``--etcd-connect-to`` leads to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from kubeadm.judging import explain, judged, target
from replay.nodes import plan_of_file, source_of

from declared.declaring import read_declaration
from pytest_etcdtls.etcd.replay import ReplayedEtcd
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates, encode_key
from pytest_etcdtls.pki.profile import CLIENT, PEER, SERVER, Identity, Profile
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.role import Role
from pytest_etcdtls.settings.declarations import hosts_of

SHAPES = Path(__file__).parent / "shapes"
ALL = ("listener", "config", "cluster", "cert", "mtls")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The files of a distribution.

    Attributes:
        shape: the declaration.
        ca, peer_ca: the CA files for clients and for peers in the directory of ``--etcd-pki-dir``; one
            file if there is one CA.
        pairs: certificates below it without ``.crt``, each with ``client`` or ``peer`` and its usages.
    """

    shape: str
    ca: str
    peer_ca: str
    pairs: Mapping[str, tuple[str, Profile]]

    def write(self, directory: Path, hosts: tuple[str, ...]) -> None:
        """Issue the certificates and write them."""
        one = CertificateAuthority.create("etcd-ca")
        authorities = {"client": one, "peer": one}
        if self.ca != self.peer_ca:
            authorities["peer"] = CertificateAuthority.create("etcd-peers-ca")
        files = {self.ca: encode_certificates([authorities["client"].certificate])}
        files[self.peer_ca] = encode_certificates([authorities["peer"].certificate])
        for path, (side, profile) in self.pairs.items():
            issued: Identity = authorities[side].issue(profile, name=path, hosts=hosts)
            assert issued.key is not None
            files[f"{path}.crt"] = encode_certificates(issued.chain)
            files[f"{path}.key"] = encode_key(issued.key)
        for name, content in files.items():
            file = directory / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            file.chmod(0o600)


_K3S = {
    "server-client": ("client", SERVER),
    "peer-server-client": ("peer", PEER),
    "client": ("client", CLIENT),
}
LAYOUTS = {
    "RKE2": Layout(shape="rke2/etcd.yaml", ca="server-ca.crt", peer_ca="peer-ca.crt", pairs=_K3S),
    "k3s": Layout(shape="k3s/config", ca="server-ca.crt", peer_ca="peer-ca.crt", pairs=_K3S),
    "k0s": Layout(
        shape="k0s/etcd.cmdline",
        ca="ca.crt",
        peer_ca="ca.crt",
        pairs={
            "server": ("client", SERVER),
            "peer": ("peer", PEER),
            "../apiserver-etcd-client": ("client", CLIENT),
        },
    ),
}


def _judge(name: str, etcd: Path, directory: Path, *, weaker: bool = False) -> list[CheckResult]:
    """Start an etcd from a declaration, and judge it.

    Args:
        name: of the distribution.
        etcd: to start.
        directory: of all files.
        weaker: the declaration does not require certificates of clients.
    """
    layout, pki = LAYOUTS[name], directory / "etcd"
    files = {Path(layout.shape).name: (SHAPES / layout.shape).read_text(encoding="utf-8")}
    if name == "RKE2":
        files["config"] = (SHAPES / "rke2" / "config").read_text(encoding="utf-8")
    if name in ("RKE2", "k3s"):
        kubernetes = CertificateAuthority.create("k3s-client-ca").certificate
        (directory / "client-ca.crt").write_bytes(encode_certificates([kubernetes]))
    (directory / "declared").mkdir()
    for file, text in files.items():
        # k0s serves clients on loopback, of its node.
        text = text.replace("10.0.0.31", "127.0.0.1")
        (directory / "declared" / file).write_text(_weaker(text) if weaker else text, encoding="utf-8")
    declaration = directory / "declared" / Path(layout.shape).name
    read = read_declaration(declaration)
    layout.write(pki, tuple(dict.fromkeys((*hosts_of(read), "127.0.0.1", "localhost"))))
    plan = plan_of_file(declaration, etcd_pki_dir=pki)
    assert plan.files.generated == "" or weaker
    source = source_of(etcd)
    etcd_itself = ReplayedEtcd(plan, source, directory=directory, seconds=60.0)
    try:
        # The port of the replay by that of the declaration, whatever host it is reached at.
        ports = {one.port: one.to_port for one in etcd_itself.target("etcd").connect_to}
        connect = [
            f"{listener.host}:{listener.port}:127.0.0.1:{ports[listener.port]}"
            for listener in target(etcd_config=declaration, etcd_pki_dir=pki).listeners
        ]
        live = target(etcd_config=declaration, etcd_pki_dir=pki, etcd_connect_to=connect)
        assert live.client.server_ca or weaker
        assert live.peer.server_ca
        return judged(live, *ALL)
    finally:
        etcd_itself.stop()


_OF_CLIENTS = (
    "  client-cert-auth: true\n",
    "  trusted-ca-file: /var/lib/rancher/k3s/server/tls/etcd/server-ca.crt\n",
    "  trusted-ca-file: /var/lib/rancher/rke2/server/tls/etcd/server-ca.crt\n",
    "--client-cert-auth=true\0",
    "--trusted-ca-file=/var/lib/k0s/pki/etcd/ca.crt\0",
)


def _weaker(text: str) -> str:
    """Return a declaration without client authentication; that of peers, which comes later, stays."""
    for setting in _OF_CLIENTS:
        text = text.replace(setting, "", 1)
    return text


def _conforms(name: str, results: list[CheckResult]) -> None:
    bad = [
        result
        for result in results
        if result.outcome in (Outcome.VIOLATES, Outcome.INCONCLUSIVE, Outcome.BROKEN)
    ]
    assert not bad, explain(results)
    conforms = {(result.check, result.role) for result in results if result.outcome is Outcome.CONFORMS}
    assert {
        ("mtls.trusted-client", Role.CLIENT),
        ("mtls.trusted-client", Role.PEER),
        ("mtls.no-certificate", Role.CLIENT),
        ("mtls.no-certificate", Role.PEER),
        ("config.served-file", Role.CLIENT),
        ("config.peer-served-file", Role.PEER),
    } <= conforms, explain(results)
    apart = ("cert.ca-not-shared-with-kubernetes", Role.CLIENT) in conforms
    assert apart is (name in ("RKE2", "k3s")), explain(results)


@pytest.mark.etcd_version("3.5.33")
@pytest.mark.parametrize("name", LAYOUTS)
def test_with_etcd_3_5(name: str, etcd_binary: Path, tmp_path: Path) -> None:
    _conforms(name, _judge(name, etcd_binary, tmp_path))


WRITTEN_ANEW = {
    "RKE2": "RKE2 overwrites this file when it starts",
    "k3s": "k3s overwrites this file when it starts",
    "k0s": "spec.storage.etcd.extraArgs",
}
"""What a remedy says about who writes the declaration."""


@pytest.mark.etcd_version("3.6")
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_fault_in_it_is_found(name: str, etcd_binary: Path, tmp_path: Path) -> None:
    results = _judge(name, etcd_binary, tmp_path, weaker=True)
    violated = {(result.check, result.role) for result in results if result.outcome is Outcome.VIOLATES}
    assert ("mtls.no-certificate", Role.CLIENT) in violated, explain(results)
    assert ("mtls.no-certificate", Role.PEER) not in violated, explain(results)
    [fault] = [
        result for result in results if (result.check, result.role) == ("mtls.no-certificate", Role.CLIENT)
    ]
    assert WRITTEN_ANEW[name] in fault.remediation
