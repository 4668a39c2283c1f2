"""Control plane nodes with the layout of kubeadm, each in a directory that stands for its root.

The manifest has the paths of a node, and the running etcd has the real paths: ``--etcd-pki-dir`` names such
a copy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from pytest_etcdtls.declared.flags import flag_known
from pytest_etcdtls.etcd.home import Start, stop_all
from pytest_etcdtls.etcd.launch import Launch, Served
from pytest_etcdtls.etcd.ports import claim_ports
from pytest_etcdtls.etcd.process import EtcdProcess
from pytest_etcdtls.etcd.sources import binary_version
from pytest_etcdtls.etcd.watchdog import Watchdog
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import ClusterPKI, encode_certificates
from pytest_etcdtls.pki.profile import CALayout, MemberNames, PKIPlan

SHAPES = Path(__file__).parents[1] / "declared" / "shapes" / "kubeadm"
DEADLINE = 60.0
PKI = "/etc/kubernetes/pki"


@dataclass(frozen=True)
class Node:
    """One control plane node: a directory that stands for its ``/``, ports, and the text of its manifest."""

    name: str
    address: str
    root: Path
    client: int
    peer: int
    metrics: int
    text: str = field(repr=False)

    @property
    def pki(self) -> Path:
        """Directory of the certificates, ``/etc/kubernetes/pki`` on the node."""
        return self.root / PKI.lstrip("/")

    @property
    def manifest(self) -> Path:
        """The manifest."""
        return self.root / "etc" / "kubernetes" / "manifests" / "etcd.yaml"

    def command(self, changes: Mapping[str, str | None] | None = None) -> list[str]:
        """Return the arguments of etcd with the real paths, without the program.

        Args:
            changes: flags by name to be given otherwise, ``None`` to leave one out; ``{metrics}`` in one
                stands for the port.
        """
        filled = {
            name: value and value.format(metrics=self.metrics) for name, value in (changes or {}).items()
        }
        document = yaml.safe_load(changed(self.text, filled))
        container = document["spec"]["containers"][0]
        words = [*container["command"][1:], *container.get("args", [])]
        return [re.sub(r"(?<=[=,])/(?=etc/kubernetes|var/lib)", f"{self.root}/", word) for word in words]


def changed(text: str, changes: Mapping[str, str | None]) -> str:
    """Return a manifest with other values of flags; a missing flag is added."""
    for name, value in changes.items():
        line = re.compile(rf"^    - --{name}=.*\n", re.MULTILINE)
        new = "" if value is None else f"    - --{name}={value}\n"
        if at := line.search(text):
            text = text[: at.start()] + new + text[at.end() :]
        else:
            text = text.replace("    - etcd\n", f"    - etcd\n{new}", 1)
    return text


def manifest(shape: str, version: str, changes: Mapping[str, str]) -> str:
    """Return kubeadm's manifest for an etcd of that version: flags that are unknown to it are left out."""
    text = (SHAPES / f"{shape}.yaml").read_text(encoding="utf-8")
    unknown = [
        name for name in re.findall(r"^    - --([a-z-]+)=", text, re.M) if not flag_known(name, version)
    ]
    text = changed(text, {**changes, **dict.fromkeys(unknown)})
    return re.sub(r"(image: registry.k8s.io/etcd:)\S+", rf"\g<1>{version}-0", text)


@dataclass
class Cluster:
    """Nodes whose etcds can be run."""

    binary: Path
    version: str
    nodes: tuple[Node, ...]
    pki: ClusterPKI
    _watchdog: Watchdog
    _prefix: tuple[str, ...] = ()
    _processes: dict[str, EtcdProcess] = field(default_factory=dict)

    def start(self, *nodes: Node, changes: Mapping[str, str | None] | None = None) -> None:
        """Start etcd on nodes, and wait until each logs that it serves its clients."""
        started = []
        for node in nodes or self.nodes:
            words = (*self._prefix, str(self.binary), *node.command(changes))
            [urls] = [word.partition("=")[2] for word in words if word.startswith("--listen-client-urls=")]
            serves = Served.from_urls(urls.split(","))
            launch = Launch(name=node.name, label=node.name, arguments=words[1:], serves=serves)
            process = EtcdProcess(words[0], launch, node.root / "etcd.log", self._watchdog)
            self._processes[node.name] = process
            started.append(process)
        Start(f"etcd {self.version}", DEADLINE).run(started)

    def stop(self, *nodes: Node) -> None:
        """Stop etcd on nodes."""
        stop_all([self._processes.pop(node.name) for node in nodes or self.nodes])


@contextmanager
def running(
    directory: Path,
    binary: Path,
    addresses: Sequence[str],
    changes: Mapping[str, str | None] | None = None,
    *,
    ports: Sequence[int] = (),
    prefix: tuple[str, ...] = (),
) -> Iterator[Cluster]:
    """Make nodes at these addresses and run their etcds.

    Args:
        directory: of all that is written.
        binary: of etcd.
        addresses: of the nodes; the first is ``cp1``.
        changes: flags with which etcd is started otherwise than the manifest says.
        ports: of the nodes, three each; by default free ones.
        prefix: words before the program, which run it elsewhere.
    """
    claim = None if ports else claim_ports(3 * len(addresses), "127.0.0.1")
    watchdog = Watchdog()
    try:
        cluster = _made(directory, binary, addresses, claim.ports if claim else ports, watchdog)
        cluster._prefix = prefix
        try:
            cluster.start(changes=changes)
            yield cluster
        finally:
            stop_all(cluster._processes.values())
    finally:
        watchdog.dismiss()
        if claim is not None:
            claim.release()


def _made(
    directory: Path, binary: Path, addresses: Sequence[str], ports: Sequence[int], watchdog: Watchdog
) -> Cluster:
    version = binary_version(binary)
    named = [(f"cp{n + 1}", address, ports[3 * n : 3 * n + 3]) for n, address in enumerate(addresses)]
    members = [MemberNames(name, (address,)) for name, address, _ in named]
    pki = ClusterPKI.generate(PKIPlan(layout=CALayout.KUBEADM), members)
    kubernetes = encode_certificates([CertificateAuthority.create("kubernetes").certificate])
    peers = ",".join(f"{name}=https://{address}:{place[1]}" for name, address, place in named)
    nodes = []
    for name, address, (client, peer, metrics) in named:
        urls = {
            "advertise-client-urls": f"https://{address}:{client}",
            "initial-advertise-peer-urls": f"https://{address}:{peer}",
            "initial-cluster": peers,
            "listen-client-urls": f"https://127.0.0.1:{client},https://{address}:{client}",
            "listen-metrics-urls": f"http://127.0.0.1:{metrics}",
            "listen-peer-urls": f"https://{address}:{peer}",
            "name": name,
        }
        shape = "v1.34" if flag_known("feature-gates", version) else "v1.28"
        text = manifest(shape, version, urls)
        node = Node(name, address, directory / name, client, peer, metrics, text)
        node.manifest.parent.mkdir(parents=True)
        node.manifest.write_text(node.text, encoding="utf-8")
        (node.root / "var" / "lib").mkdir(parents=True)
        nodes.append(node)
    pki.write(directory / "pki")
    for node in nodes:
        (directory / "pki" / node.name).rename(node.pki)
        (node.pki / "ca.crt").write_bytes(kubernetes)
        for certificate in node.pki.rglob("*.crt"):
            certificate.chmod(0o644)
    return Cluster(binary, version, tuple(nodes), pki, watchdog)
