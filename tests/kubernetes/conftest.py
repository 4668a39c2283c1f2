"""A cluster that kubeadm makes, for tests that are collected by ``make test WITH=kubernetes`` only."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import gettempdir

import pytest

from kubernetes.cluster import KubeadmCluster, running
from kubernetes.images import write_image, write_python_image

VERSION = os.environ.get("KUBERNETES_VERSION")

collect_ignore_glob = [] if VERSION else ["test_*.py"]


@pytest.fixture(scope="session")
def cluster(etcd_binaries: dict[str, Path]) -> Iterator[KubeadmCluster]:
    """A cluster with the newest etcd 3.6, which kubeadm 1.34 expects."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pytest-etcdtls"
    programs = cache / "kubernetes" / str(VERSION) / "bin"
    *_, etcd = (path for version, path in etcd_binaries.items() if version.startswith("3.6."))
    # Not in pytest's directory, whose name is too long for the sockets of containerd.
    directory = Path(gettempdir()) / f"etcdtls-{secrets.token_hex(4)}"
    with running(directory, programs, etcd) as started:
        yield started


@pytest.fixture(scope="session")
def runner(cluster: KubeadmCluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image that ``docker/build-runner.sh`` builds, known to the nodes; it needs a Docker engine."""
    scratch = tmp_path_factory.mktemp("runner")
    base, image = "pytest-etcdtls/python:of-the-tests", "pytest-etcdtls/runner"
    write_python_image(scratch / "python.tar", base)
    docker = ("docker", "load", "--quiet", "--input", scratch / "python.tar")
    subprocess.run(docker, check=True, capture_output=True)
    try:
        subprocess.run(
            [Path(__file__).parents[2] / "docker" / "build-runner.sh", base],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHON": sys.executable},
        )
        subprocess.run(["docker", "save", "--output", scratch / "runner.tar", image], check=True)
    finally:
        subprocess.run(["docker", "image", "rm", base], check=False, capture_output=True)
    cluster.load(scratch / "runner.tar")
    return image


@pytest.fixture(scope="session")
def busybox(cluster: KubeadmCluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image of busybox that the page names, with Debian's busybox."""
    archive = tmp_path_factory.mktemp("busybox") / "busybox.tar"
    image = "docker.io/library/busybox:1.37"
    applets = ("sh", "cat", "nc", "sleep")
    write_image(archive, image, {f"/bin/{applet}": Path("/usr/bin/busybox") for applet in applets})
    cluster.load(archive)
    return image
