"""Clusters of containers where the engine is podman, with storage and networks of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pytest_etcdtls import ClusterConfig, EtcdTLSContainer, start_cluster
from pytest_etcdtls.etcd.sources import binary_version

pytestmark = [
    pytest.mark.whole,
    pytest.mark.program("bash", "ip6tables", "iptables", "podman", "runc", "tar"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: podman publishes ports of its networks"),
]

SETTINGS = """
[containers]
default_ulimits = []
[engine]
runtime = "runc"
"""
"""Of containers.conf: podman 4.3.1 sets limits that a container in a container may not have."""

# podman's descriptor 3 is the socket (sd_listen_fds(3)), which listens before podman runs: nobody waits.
SERVE = 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$@" 3<&{}'

Podman = Callable[..., str]


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Return a new directory. podman refuses a ``--runroot`` of more than 50 characters."""
    with TemporaryDirectory(dir="/tmp") as name:  # TMPDIR may be longer
        yield Path(name)


@pytest.fixture
def podman(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Podman]:
    """Serve podman's API, and return a function that runs podman on the same storage."""
    configuration, address = short_path / "containers.conf", short_path / "sock"
    configuration.write_text(SETTINGS, encoding="utf-8")
    monkeypatch.setenv("CONTAINERS_CONF", str(configuration))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{address}")
    places = {"root": "storage", "runroot": "run", "network-config-dir": "networks"}
    command = ["podman", *(f"--{option}={short_path / name}" for option, name in places.items())]
    command += ["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=none"]

    def run(*arguments: str, **options: object) -> str:
        return subprocess.check_output([*command, *arguments], encoding="utf-8", **options)  # type: ignore[call-overload,no-any-return]

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(address))
        listening.listen()
        number = listening.fileno()
        service = subprocess.Popen(
            ["bash", "-c", SERVE.format(number), "podman", *command, "system", "service", "--time=0"],
            pass_fds=[number],
            stderr=subprocess.DEVNULL,
        )
    try:
        yield run
    finally:
        run("rm", "--all", "--force")
        service.terminate()
        service.wait()


def test_clusters_and_containers_of_podman(podman: Podman, newest_etcd: Path) -> None:
    version = binary_version(newest_etcd)
    image = f"localhost/pytest-etcdtls/etcd:{version}"
    with subprocess.Popen(
        ["tar", "-C", str(newest_etcd.parent), "--transform=s,^,usr/local/bin/,", "-c", newest_etcd.name],
        stdout=subprocess.PIPE,
    ) as archive:
        podman("import", "--quiet", "-", image, stdin=archive.stdout)
    networks = podman("network", "ls", "--quiet")
    with start_cluster(ClusterConfig(size=3), image=image) as cluster:
        assert len(podman("ps", "--quiet").split()) == 3
        with cluster.client() as client:
            assert client.get("/version").json()["etcdserver"] == version
            listed = client.post("/v3/cluster/member/list", json={}).json()["members"]
        assert {member["name"] for member in listed} == {"m0", "m1", "m2"}
    with EtcdTLSContainer(image) as etcd, etcd.client() as client:
        assert client.get("/health").json()["health"] == "true"
    assert json.loads(podman("ps", "--all", "--format=json")) == []
    assert podman("network", "ls", "--quiet") == networks
