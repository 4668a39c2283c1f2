"""Members of the zoo, presets, and nodes as kubeadm sets them up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from kubeadm.drifts import DRIFTS, Drift
from kubeadm.nodes import Cluster as Nodes
from kubeadm.nodes import Node, running
from starting import write_manifest
from zoo.judging import start_member
from zoo.members import ZOO

from pytest_etcdtls import PRESETS, Cluster, start_cluster
from verdicts.files import Values
from verdicts.judging import Etcd, through_api, through_pytest
from verdicts.volatile import Volatile

_MEMBERS = {member.name: member for member in ZOO}


def members_of(version: str) -> Sequence[str]:
    """Return the members of the zoo that a version of etcd can have."""
    return [member.name for member in ZOO if member.is_of(version)]


def judge_member(name: str, etcd: Etcd, directory: Path) -> Values:
    """Judge a member of the zoo; on the newest etcd also as a user who has its declaration."""
    member = _MEMBERS[name]
    with start_member(member, etcd.binary, directory) as cluster:
        found = {"api": through_api(cluster.target(), member.checks)}
        if etcd.newest:
            found["declared"] = _declared(cluster, directory)
    return found


def judge_preset(name: str, etcd: Etcd, directory: Path) -> Values:
    """Judge a preset, then as a user who names its endpoints, on the newest etcd also by its declaration."""
    with start_cluster(PRESETS[name].config, binary=str(etcd.binary)) as cluster:
        found = {
            "api": through_api(cluster.target(), ["!lifecycle"]),
            "live": _live(cluster, directory, ("md", "sarif", "html") if etcd.newest else ()),
        }
        if etcd.newest:
            found["declared"] = _declared(cluster, directory)
    return found


def _live(cluster: Cluster, directory: Path, formats: Sequence[str] = ()) -> Values:
    """Judge by a run of pytest with the endpoints and the credentials of each port."""
    urls: dict[str, list[str | None]] = {
        "--etcd-endpoint": [member.client_url for member in cluster.members],
        "--etcd-peer-endpoint": [member.peer_url for member in cluster.members],
        "--etcd-metrics-endpoint": [member.metrics_url for member in cluster.members],
        "--etcd-client-http-endpoint": [member.client_http_url for member in cluster.members],
    }
    options = [f"{option}={url}" for option, found in urls.items() for url in found if url]
    bundles = {"--etcd-trusted-ca": "client-ca.crt", "--etcd-peer-trusted-ca": "peer-ca.crt"}
    options += _files(cluster, bundles)
    return by_pytest(cluster, options, directory / "live", formats)


def _declared(cluster: Cluster, directory: Path) -> Values:
    """Judge by a run of pytest with the declaration of each member."""
    (directory / "declared").mkdir()
    options = []
    for member in cluster.members:
        path = directory / "declared" / f"{member.name}.yaml"
        write_manifest(member, path)
        options.append(f"--etcd-config={path}")
    return by_pytest(cluster, options, directory / "declared")


_CREDENTIALS = {
    "--etcd-cacert": "server-ca.crt",
    "--etcd-cert": "client.crt",
    "--etcd-key": "client.key",
    "--etcd-peer-cacert": "peer-ca.crt",
    "--etcd-peer-cert": "peer-client.crt",
    "--etcd-peer-key": "peer-client.key",
}


def _files(cluster: Cluster, wanted: Mapping[str, str]) -> list[str]:
    """Return the options that name files, of those that the cluster has."""
    files = {option: cluster.members[0].file(name) for option, name in wanted.items()}
    return [f"{option}={path}" for option, path in files.items() if path.exists()]


def credentials(cluster: Cluster) -> list[str]:
    """Return the options that say who we are and whom we trust."""
    return _files(cluster, _CREDENTIALS)


def by_pytest(
    cluster: Cluster, options: Sequence[str], directory: Path, formats: Sequence[str] = ()
) -> Values:
    """Judge a cluster by a run of pytest, with the cluster's credentials."""
    directory.mkdir(exist_ok=True)
    options = [*options, *credentials(cluster)]
    if cluster.user is not None:
        name, password = cluster.user
        (directory / "password").write_text(password, encoding="utf-8")
        options += [f"--etcd-user={name}", f"--etcd-password-file={directory / 'password'}"]
    return through_pytest(options, ports(cluster), directory, formats)


def ports(cluster: Cluster) -> Volatile:
    """Return what replaces the ports of a cluster."""
    return Volatile({listener.address[1]: listener.label for listener in cluster.target().listeners})


_ADDRESS = "127.0.0.11"


def judge_kubeadm(name: str, etcd: Etcd, directory: Path) -> Values:
    """Judge a node by its manifest and its files."""
    return _judge_node(etcd, directory, {name: Drift()})[name]


_PARTS = 4


def drifts(version: str) -> Sequence[str]:
    """Return the parts of the drifts: those of a part are judged on one node."""
    return [str(part) for part in range(_PARTS)]


def judge_drifts(name: str, etcd: Etcd, directory: Path) -> dict[str, Values]:
    """Judge a node by manifests and files that have drifted from what runs."""
    return _judge_node(etcd, directory, dict(list(DRIFTS.items())[int(name) :: _PARTS]))


def _judge_node(etcd: Etcd, directory: Path, drifts: Mapping[str, Drift]) -> dict[str, Values]:
    found: dict[str, Values] = {}
    with running(directory / "nodes", etcd.binary, [_ADDRESS]) as nodes:
        for number, (name, drift) in enumerate(drifts.items()):
            place = directory / str(number)
            place.mkdir()
            found[name] = {"declared": _look_at(drift, nodes, nodes.nodes[0], place)}
    return found


def _look_at(drift: Drift, nodes: Nodes, node: Node, directory: Path) -> Values:
    options = drift.declare(nodes, node, directory)
    volatile = Volatile({node.client: "client", node.peer: "peer", node.metrics: "metrics"})
    return through_pytest(words_of(options), volatile, directory)


def words_of(options: Mapping[str, object]) -> list[str]:
    """Return options by name as words of a command line."""
    found = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            found.append(flag)
        elif value is not False and value is not None:
            found += [f"{flag}={one}" for one in (value if isinstance(value, list | tuple) else [value])]
    return found
