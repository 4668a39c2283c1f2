"""Time to judge an etcd, compared with single commands by hand."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from timing import Timed, alternate, command

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.etcd.cluster import Cluster, start_cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.sources import EtcdSource
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer

ROOT = Path(__file__).parents[1]


def measure(source: EtcdSource, repeat: int, peers: Path | None = None) -> list[Timed]:
    """Time one curl, as many handshakes of openssl as the catalogue makes connections, and the catalogue.

    The cluster has one member. It is judged as a live one with client credentials, peer credentials and no
    CA key. With a directory for peers, the catalogue is also run in an environment that holds this package
    alone, since the plugins of a development environment are imported by each run, and sslyze scans the
    client port.
    """
    alone = _installed(peers / "alone", str(ROOT)) if peers else None
    sslyze = _installed(peers / "sslyze", "sslyze").with_name("sslyze") if peers else None
    with start_cluster(ClusterConfig(), source) as cluster, tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        member = cluster.members[0]
        judge = judging_command(cluster, (member.client_url, member.peer_url))
        connections = connections_of_judging(cluster, directory)
        handshake, request = _openssl(cluster), _curl(cluster)

        def by_hand() -> None:
            for _ in range(connections):
                # The client ends the connection, so that etcd is not waited for.
                subprocess.run(handshake, input=b"Q\n", capture_output=True, check=True)

        scan = [str(sslyze), f"--certinfo_ca_file={member.file('server-ca.crt')}"]
        scan += [f"--cert={member.file('client.crt')}", f"--key={member.file('client.key')}"]
        scan.append(member.client_url.removeprefix("https://"))
        compared = {
            "the same in an environment of its own": lambda: command([str(alone), *judge[1:]], directory),
            "sslyze, one port": lambda: command(scan, directory, may_fail=True),
        }
        return alternate(
            {
                "one curl": lambda: command(request, directory),
                f"{connections} times openssl s_client, one by one": by_hand,
                "the default catalogue, whole run of pytest": lambda: command(judge, directory),
                "the default catalogue, judging alone": lambda: _judge_here(cluster),
                **(compared if peers else {}),
            },
            repeat,
        )


def _installed(directory: Path, what: str) -> Path:
    """Return the Python of an environment that holds a package as it is now, and what it requires."""
    python = directory.absolute() / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", directory], check=True)
    again = ["--force-reinstall", "--no-deps"] if what == str(ROOT) else []
    for options in ([], again):
        subprocess.run([python, "-m", "pip", "--quiet", "install", *options, what], check=True)
    return python


def judging_command(cluster: Cluster, urls: tuple[str, str]) -> list[str]:
    """Return the command that judges a cluster as a live one, at URLs of its client and its peer port."""
    member = cluster.members[0]
    options = {
        "endpoint": urls[0],
        "cacert": member.file("server-ca.crt"),
        "cert": member.file("client.crt"),
        "key": member.file("client.key"),
        "peer-endpoint": urls[1],
        "peer-cacert": member.file("peer-ca.crt"),
        "peer-cert": member.file("peer.crt"),
        "peer-key": member.file("peer.key"),
    }
    return [
        *(sys.executable, "-m", "pytest", "--pyargs", "pytest_etcdtls", "-q", "-p", "no:cacheprovider"),
        *(f"--etcd-{name}={value}" for name, value in options.items()),
    ]


def connections_of_judging(cluster: Cluster, directory: Path, *options: str) -> int:
    """Return how many connections the default catalogue makes to a cluster, judged as a live one.

    Args:
        cluster: the cluster.
        directory: where the run is made.
        options: further ones, as ``--etcd-gentle``.
    """
    report, member = directory / "report.json", cluster.members[0]
    judge = judging_command(cluster, (member.client_url, member.peer_url))
    command([*judge, f"--etcd-report={report}", *options], directory)
    return int(json.loads(report.read_text(encoding="utf-8"))["summary"]["connections"])


def _judge_here(cluster: Cluster) -> None:
    """Judge a cluster as a live one."""
    owned = cluster.target()
    client, peer = (
        replace(credentials, signing_key=None, served=(), revoked=None)
        for credentials in (owned.client, owned.peer)
    )
    live = replace(owned, origin="live", client=client, peer=peer, expected=(), dials_with_another=None)
    run_checks(Observer(live), select())


def _openssl(cluster: Cluster) -> list[str]:
    member = cluster.members[0]
    address = member.client_url.removeprefix("https://")
    return [
        *("openssl", "s_client", "-connect", address, "-CAfile", str(member.file("server-ca.crt"))),
        *("-cert", str(member.file("client.crt")), "-key", str(member.file("client.key"))),
    ]


def _curl(cluster: Cluster) -> list[str]:
    member = cluster.members[0]
    return [
        *("curl", "--silent", "--fail", "--cacert", str(member.file("server-ca.crt"))),
        *("--cert", str(member.file("client.crt")), "--key", str(member.file("client.key"))),
        f"{member.client_url}/version",
    ]
