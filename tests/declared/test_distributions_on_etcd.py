"""Declarations of distributions, and the options that docs/distributions.md has for each, on a real etcd.

The etcd is started from the declaration, on free ports, with files that are named as those of the
distribution. Then it is judged with the options of the page; ``--etcd-connect-to`` stands for its ports.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from kubeadm.judging import explain, judged, target
from replay.nodes import plan_of_file, replayed, source_of

from pytest_etcdtls.cluster.replay import ReplayedEtcd
from pytest_etcdtls.declared.declaration import Change
from pytest_etcdtls.declared.editing import edit
from pytest_etcdtls.declared.reading import read_declarations
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates, encode_key
from pytest_etcdtls.pki.profile import CLIENT, PEER, SERVER, Identity, Profile
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.role import Role
from pytest_etcdtls.settings.declarations import hosts_of

SHAPES = Path(__file__).parent / "shapes"
PAGE = (Path(__file__).parents[2] / "docs" / "distributions.md").read_text()
ALL = ("listener", "config", "cluster", "cert", "mtls")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The files of a distribution.

    Attributes:
        shape: the declaration.
        ca, peer_ca: the CA files for clients and for peers below the directory of ``--etcd-pki-dir``; one
            file if there is one CA.
        pairs: certificates below it without ``.crt``, each with ``client`` or ``peer`` and its usages.
        suffixes: of certificates and keys.
    """

    shape: str
    ca: str
    peer_ca: str
    pairs: Mapping[str, tuple[str, Profile]]
    suffixes: tuple[str, str] = (".crt", ".key")

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
            files[path + self.suffixes[0]] = encode_certificates(issued.chain)
            files[path + self.suffixes[1]] = encode_key(issued.key)
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
_OF_APISERVER = {
    "server": ("client", SERVER),
    "peer": ("peer", PEER),
    "../apiserver-etcd-client": ("client", CLIENT),
}
LAYOUTS = {
    "OpenShift": Layout(
        shape="openshift/etcd-pod.yaml",
        ca="configmaps/etcd-all-bundles/server-ca-bundle.crt",
        peer_ca="configmaps/etcd-all-bundles/server-ca-bundle.crt",
        pairs={
            "secrets/etcd-all-certs/etcd-serving-master-0": ("client", SERVER),
            "secrets/etcd-all-certs/etcd-peer-master-0": ("peer", PEER),
        },
    ),
    "RKE2": Layout(shape="rke2/etcd.yaml", ca="server-ca.crt", peer_ca="peer-ca.crt", pairs=_K3S),
    "k3s": Layout(shape="k3s/config", ca="server-ca.crt", peer_ca="peer-ca.crt", pairs=_K3S),
    "Bitnami": Layout(
        shape="bitnami/etcd.yaml",
        ca="client/ca.crt",
        peer_ca="peer/ca.crt",
        pairs={"client/": ("client", SERVER), "peer/": ("peer", PEER)},
        suffixes=("cert.pem", "key.pem"),
    ),
    "HyperShift": Layout(
        shape="hypershift/etcd.yaml",
        ca="etcd-ca/ca.crt",
        peer_ca="etcd-ca/ca.crt",
        pairs={
            "server/server": ("client", SERVER),
            "peer/peer": ("peer", PEER),
            "client/etcd-client": ("client", CLIENT),
        },
    ),
    "vcluster": Layout(
        shape="vcluster/etcd.yaml",
        ca="etcd-ca.crt",
        peer_ca="etcd-ca.crt",
        pairs={
            "etcd-server": ("client", SERVER),
            "etcd-peer": ("peer", PEER),
            "apiserver-etcd-client": ("client", CLIENT),
        },
    ),
    "Kamaji": Layout(
        shape="kamaji/etcd.yaml",
        ca="ca.crt",
        peer_ca="ca.crt",
        pairs={"server": ("client", SERVER), "peer": ("peer", PEER)},
        suffixes=(".pem", "-key.pem"),
    ),
    "k0s": Layout(
        shape="k0s/etcd.cmdline",
        ca="ca.crt",
        peer_ca="ca.crt",
        pairs=_OF_APISERVER,
    ),
    "Canonical Kubernetes": Layout(
        shape="canonical/etcd",
        ca="ca.crt",
        peer_ca="ca.crt",
        pairs=_OF_APISERVER,
    ),
    "Talos": Layout(
        shape="talos/controlplane.yaml",
        ca="ca.crt",
        peer_ca="ca.crt",
        pairs={"server": ("client", SERVER), "peer": ("peer", PEER), "admin": ("client", CLIENT)},
    ),
    "kOps": Layout(
        shape="kops/etcd-manager.yaml",
        ca="clients/ca.crt",
        peer_ca="peers/ca.crt",
        pairs={"clients/server": ("client", SERVER), "peers/me": ("peer", PEER)},
    ),
    "etcd-operator": Layout(
        shape="etcd-operator/etcdcluster.yaml",
        ca="server-tls/ca.crt",
        peer_ca="peer-tls/ca.crt",
        pairs={"server-tls/tls": ("client", SERVER), "peer-tls/tls": ("peer", PEER)},
    ),
    "etcd-operator, its pods": Layout(
        shape="etcd-operator/pods.yaml",
        ca="sample-server-tls/ca.crt",
        peer_ca="sample-peer-tls/ca.crt",
        pairs={"sample-server-tls/tls": ("client", SERVER), "sample-peer-tls/tls": ("peer", PEER)},
    ),
    "etcd-druid": Layout(
        shape="etcd-druid/etcd-main.yaml",
        ca="ca/bundle.crt",
        peer_ca="peer/ca/bundle.crt",
        pairs={"server/tls": ("client", SERVER), "peer/server/tls": ("peer", PEER)},
    ),
}


def _options(name: str, number: int) -> dict[str, str]:
    """Return the options of a command in the section of a distribution."""
    section = PAGE.split(f"\n## {name.partition(',')[0]}\n")[1].split("\n## ")[0]
    commands = re.findall(r"pytest --pyargs pytest_etcdtls(.*?)```", section, re.DOTALL)
    return dict(re.findall(r"--([\w-]+)=(\S+)", commands[number]))


def _judge(
    name: str,
    etcd: Path,
    directory: Path,
    *,
    running: str = "",
    number: int = 0,
    without_client_authentication: bool = False,
) -> list[CheckResult]:
    """Start an etcd from the declaration, and judge it with the options of the page.

    Args:
        name: of the distribution.
        etcd: to start.
        directory: of all files.
        running: its command line as ``/proc`` has it, if the declaration does not have all of it.
        number: of the command in the section.
        without_client_authentication: the declaration is changed to that before.
    """
    layout, options = LAYOUTS[name], _options(name, number)
    pki = directory / Path(options["etcd-pki-dir"]).name
    declaration = directory / "declared" / Path(options["etcd-config"]).name
    declaration.parent.mkdir(parents=True)
    text = (SHAPES / layout.shape).read_text()
    # Replicas of one cluster are started by the tests of lists. k0s serves clients on loopback, of its node.
    declaration.write_text(text.replace("replicas: 3", "replicas: 1").replace("10.0.0.31", "127.0.0.1"))
    started = declaration
    if running:
        started = declaration.with_name("etcd.cmdline")
        started.write_text(running)
    if name in ("RKE2", "k3s"):
        kubernetes = CertificateAuthority.create("k3s-client-ca").certificate
        (directory / "client-ca.crt").write_bytes(encode_certificates([kubernetes]))
    if name == "RKE2":
        (declaration.parent / "config").write_text((SHAPES / "rke2" / "config").read_text())
    [read] = read_declarations(started)
    if without_client_authentication and name == "Talos":
        indent = " " * 12
        more = f"extraArgs:\n{indent}client-cert-auth: 'false'\n{indent}trusted-ca-file: ''\n"
        declaration.write_text(declaration.read_text().replace("extraArgs:\n", more))
    elif without_client_authentication and not running:
        weaker = [Change(one, None) for one in ("client-cert-auth", "trusted-ca-file")]
        for file, (_, after) in edit(read, weaker).texts.items():
            Path(file).write_text(after)
    layout.write(pki, tuple(dict.fromkeys((*hosts_of(read), "127.0.0.1", "localhost"))))
    plan = plan_of_file(started, etcd_pki_dir=pki)
    assert plan.files.generated == "" or without_client_authentication
    source = source_of(etcd)
    given: dict[str, str | Path] = {
        key.replace("-", "_"): {"etcd-config": declaration, "etcd-pki-dir": pki}.get(key, value)
        for key, value in options.items()
    }
    etcd_itself = ReplayedEtcd(plan, source, directory=directory, seconds=60.0)
    try:
        # The port of the replay by that of the declaration, whatever host it is reached at.
        ports = {one.port: one.to_port for one in etcd_itself.target(plan.outline("etcd", source)).connect_to}
        connect = [
            f"{listener.host}:{listener.port}:127.0.0.1:{ports[listener.port]}"
            for listener in target(**given).listeners
        ]
        live = target(**given, etcd_connect_to=connect)
        assert live.client.server_ca or without_client_authentication
        assert live.peer.server_ca
        return judged(live, *ALL)
    finally:
        etcd_itself.stop()


def _conforms(name: str, results: list[CheckResult]) -> None:
    bad = [one for one in results if one.outcome in (Outcome.VIOLATES, Outcome.INCONCLUSIVE, Outcome.BROKEN)]
    assert not bad, explain(results)
    conforms = {(one.check, one.role) for one in results if one.outcome is Outcome.CONFORMS}
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


WITH_3_5 = ["OpenShift", "HyperShift", "RKE2", "k3s", "k0s"]
WITH_3_6 = [
    "Bitnami",
    "Talos",
    "etcd-operator",
    "etcd-operator, its pods",
    "etcd-druid",
    "vcluster",
    "Kamaji",
]
WITH_3_6 += ["Canonical Kubernetes"]


@pytest.mark.etcd_version("3.5.33")
@pytest.mark.parametrize("name", WITH_3_5)
def test_with_etcd_3_5(name: str, etcd_binary: Path, tmp_path: Path) -> None:
    _conforms(name, _judge(name, etcd_binary, tmp_path))


@pytest.mark.etcd_version("3.6")
@pytest.mark.parametrize("name", WITH_3_6)
def test_with_etcd_3_6(name: str, etcd_binary: Path, tmp_path: Path) -> None:
    _conforms(name, _judge(name, etcd_binary, tmp_path))


WRITTEN_ANEW = {
    "OpenShift": "OpenShift's etcd operator overwrites this manifest",
    "HyperShift": "the StatefulSet etcd owns this object",
    "RKE2": "RKE2 overwrites this file when it starts",
    "k3s": "k3s overwrites this file when it starts",
    "Talos": "cluster.etcd.extraArgs",
    "kOps": "etcdClusters[].manager.env",
    "k0s": "spec.storage.etcd.extraArgs",
    "Bitnami": "Helm writes this object (release etcd)",
    "etcd-operator": "the EtcdCluster sample owns this object",
    "etcd-operator, its pods": "the EtcdCluster sample owns this object",
    "etcd-druid": "the Etcd etcd-main owns this object",
    "vcluster": "Helm writes this object (release dev)",
    "Kamaji": "Helm writes this object (release kamaji)",
}
"""What a remedy says about who writes the declaration; nobody writes that of Canonical Kubernetes again."""


@pytest.mark.etcd_version("3.6")
@pytest.mark.parametrize("name", [*WITH_3_5, *WITH_3_6])
def test_a_fault_in_it_is_found(name: str, etcd_binary: Path, tmp_path: Path) -> None:
    _finds_the_fault(name, _judge(name, etcd_binary, tmp_path, without_client_authentication=True))


def _finds_the_fault(name: str, results: list[CheckResult]) -> None:
    violated = {(one.check, one.role) for one in results if one.outcome is Outcome.VIOLATES}
    assert ("mtls.no-certificate", Role.CLIENT) in violated, explain(results)
    assert ("mtls.no-certificate", Role.PEER) not in violated, explain(results)
    [fault] = [one for one in results if (one.check, one.role) == ("mtls.no-certificate", Role.CLIENT)]
    assert WRITTEN_ANEW.get(name, "") in f"{fault.diff}{fault.remediation}"


@pytest.mark.etcd_version("3.5.33")
def test_kops_and_the_running_etcd(etcd_binary: Path, tmp_path: Path) -> None:
    """/proc has what etcd-manager makes, the manifest needs the endpoints."""
    [manifest] = read_declarations(SHAPES / LAYOUTS["kOps"].shape)
    made = {
        "ETCD_NAME": "etcd-a",
        "ETCD_ADVERTISE_CLIENT_URLS": "https://a.etcd.internal.minimal.example.com:4001",
        "ETCD_INITIAL_ADVERTISE_PEER_URLS": "https://a.etcd.internal.minimal.example.com:2380",
        "ETCD_DATA_DIR": "/rootfs/mnt/master-vol-0/data/TOKEN",
    }
    variables = {one.spelled: one.value for one in manifest.settings.values()} | made
    text = "".join(f"{name}={value}\0" for name, value in variables.items()) + "/opt/etcd-v3.5.33/etcd\0"
    for number in (0, 1):
        results = _judge("kOps", etcd_binary, tmp_path / str(number), running=text, number=number)
        _conforms("kOps", results)
    weaker = text.replace("ETCD_CLIENT_CERT_AUTH=true", "ETCD_CLIENT_CERT_AUTH=false")
    weaker = re.sub(r"(?<=\0)ETCD_TRUSTED_CA_FILE=[^\0]*", "ETCD_TRUSTED_CA_FILE=", weaker)
    assert weaker.count("CA_FILE=\0") == 1
    directory = tmp_path / "weaker"
    results = _judge("kOps", etcd_binary, directory, running=weaker, without_client_authentication=True)
    _finds_the_fault("kOps", results)


@pytest.mark.etcd_version("3.6")
def test_the_first_pod_of_a_stateful_set_is_replayed(etcd_binary: Path, tmp_path: Path) -> None:
    plan = plan_of_file(SHAPES / "bitnami" / "etcd.yaml")
    assert plan.label == "etcd-0"
    assert "etcd-0 stands for all 3 pods, which have the same lines" in plan.notes
    with replayed(plan, etcd_binary, tmp_path, "config", "mtls.trusted-client") as run:
        assert run.outcomes("config.starts") == {Outcome.CONFORMS}
        assert run.violated == set()


def test_each_replica_is_contacted_at_its_own_name() -> None:
    live = target(etcd_config=SHAPES / "bitnami" / "etcd.yaml")
    for role in (Role.CLIENT, Role.PEER):
        assert [one.host for one in live.listeners if one.role is role] == [
            f"etcd-{number}.etcd-headless.db.svc.cluster.local" for number in range(3)
        ]


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "kOps"])
def test_two_options_are_enough(name: str) -> None:
    assert [*_options(name, 0)] == ["etcd-config", "etcd-pki-dir"]


def test_the_log_of_k0s_is_unwrapped() -> None:
    """logrus quotes a line of etcd, with fields behind it in the order of their names."""
    line = json.dumps(
        {"level": "warn", "msg": "rejected connection", "error": 'for "a", \\ b'}, separators=(",", ":")
    )
    others = 'time="2026-11-29 10:00:00" level=info msg="x" component=kubelet stream=stderr\n'
    wrapped = (
        f'{others}time="2026-11-29 10:00:00" level=info msg={json.dumps(line)} component=etcd stream=stderr\n'
    )
    [code] = re.findall(r"journalctl [^|]*\|(.*?) > etcd.log &", PAGE, re.DOTALL)
    ran = subprocess.run(["sh", "-ec", code], input=wrapped, capture_output=True, text=True, check=True)
    assert ran.stdout == f"{line}\n"
