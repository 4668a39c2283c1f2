"""Runs of pytest with other subjects than one live cluster: owned, replayed, discovered, listed."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from kubeadm.nodes import running
from starting import write_manifest

from pytest_etcdtls import PRESETS, Cluster, ClusterConfig, start_cluster
from verdicts.clusters import credentials, ports
from verdicts.files import Values
from verdicts.judging import Etcd, through_pytest
from verdicts.volatile import Volatile


def judge_owned(name: str, etcd: Etcd, directory: Path) -> Values:
    """Judge an etcd that the run starts, with all experiments."""
    return {"owned": _owned()(etcd, directory)}


def _owned(*options: str) -> Callable[[Etcd, Path], Values]:
    """Return a run that starts its etcd."""

    def judge(etcd: Etcd, directory: Path) -> Values:
        words = ["--etcd-conformance", f"--etcd-binary={etcd.binary}", *options]
        return through_pytest(words, Volatile({}), directory)

    return judge


def judge_run(name: str, etcd: Etcd, directory: Path) -> Values:
    """Judge by the run of that name."""
    return {"run": RUNS[name](etcd, directory)}


def _replayed(etcd: Etcd, directory: Path) -> Values:
    """Replay the declaration of a node of kubeadm's."""
    with running(directory / "nodes", etcd.binary, ["127.0.0.11"]) as nodes:
        (node,) = nodes.nodes
        options = [f"--etcd-config={node.manifest}", f"--etcd-pki-dir={node.root}"]
        volatile = Volatile({node.client: "client", node.peer: "peer", node.metrics: "metrics"})
        return through_pytest([*options, f"--etcd-binary={etcd.binary}"], volatile, _place(directory))


def _discovered(etcd: Etcd, directory: Path) -> Values:
    with start_cluster(PRESETS["three-members"].config, binary=str(etcd.binary)) as cluster:
        options = [f"--etcd-endpoint={cluster.members[0].client_url}", "--etcd-discover", "-v"]
        return through_pytest([*options, *credentials(cluster)], ports(cluster), _place(directory))


def _with(*options: str) -> Callable[[Etcd, Path], Values]:
    """Return a run on the default cluster that knows its declaration and its log."""

    def judge(etcd: Etcd, directory: Path) -> Values:
        with start_cluster(binary=str(etcd.binary)) as cluster:
            (member,) = cluster.members
            place = _place(directory)
            write_manifest(member, place / "etcd.yaml")
            known = [f"--etcd-config={place / 'etcd.yaml'}", *credentials(cluster)]
            words = [option.format(log=cluster.directory / member.name / "etcd.log") for option in options]
            return through_pytest([*known, *words], ports(cluster), place, ("md",))

    return judge


def _listed(etcd: Etcd, directory: Path) -> Values:
    """Judge a list: a good cluster, one that is open to everybody, one that does not answer."""
    open_ = ClusterConfig(client_cert_auth=False, trusted_ca_file=None)
    with (
        start_cluster(binary=str(etcd.binary)) as good,
        start_cluster(open_, binary=str(etcd.binary)) as bad,
        socket.create_server(("127.0.0.1", 0)) as silent,
    ):
        port = silent.getsockname()[1]
        text = f'[[cluster]]\nlabel = "silent"\ntimeout = 1.0\nendpoints = "https://127.0.0.1:{port}"\n'
        place = _place(directory)
        (place / "clusters.toml").write_text(
            text + _table("good", good) + _table("open", bad), encoding="utf-8"
        )
        of_all = {
            listener.address[1]: f"{name}-{listener.role}"
            for name, cluster in (("good", good), ("open", bad))
            for listener in cluster.target().listeners
        }
        options = ["--etcd-clusters=clusters.toml"]
        return through_pytest(options, Volatile({**of_all, port: "silent"}), place, ("html",))


def _table(label: str, cluster: Cluster) -> str:
    (member,) = cluster.members
    urls = {"endpoints": [member.client_url], "peer-endpoints": [member.peer_url]}
    options = (word.removeprefix("--etcd-").split("=", 1) for word in credentials(cluster))
    lines = [f"{name} = {value!r}" for name, value in (*urls.items(), *options)]
    return "\n".join([f'[[cluster]]\nlabel = "{label}"', *lines, ""])


def _place(directory: Path) -> Path:
    (directory / "run").mkdir()
    return directory / "run"


RUNS: Mapping[str, Callable[[Etcd, Path], Values]] = {
    "three members": _owned("--etcd-size=3", "--etcd-check=listener,mtls,cluster,config"),
    "RSA keys": _owned("--etcd-key-type=rsa-2048", "--etcd-check=!lifecycle"),
    "replayed": _replayed,
    "discovered": _discovered,
    "listed": _listed,
    "with its log": _with("--etcd-log={log}"),
    "strict": _with("--etcd-strict", "-v"),
    "gentle": _with("--etcd-gentle"),
    "profiles": _with("--etcd-profile=nist-800-52r2", "--etcd-profile=cis-kubernetes"),
    "verbose": _with("-vv"),
    "nothing selected": _with("--etcd-check=mtls.nothing"),
    "one check": _with("--etcd-check=mtls.no-certificate"),
    "two processes": _with("-n2"),
}
"""Each a run on the newest etcd."""
