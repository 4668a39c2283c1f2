"""A cluster that kubeadm makes, for tests that are collected by ``make kubernetes`` only."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from tempfile import gettempdir

import pytest

from kubernetes.cluster import KubeadmCluster, running

VERSION = os.environ.get("KUBERNETES_VERSION")

collect_ignore_glob = [] if VERSION else ["test_*.py"]


@pytest.fixture(scope="session")
def cluster(etcd_binaries: dict[str, Path]) -> Iterator[KubeadmCluster]:
    """A cluster of one node with the newest etcd 3.6, which kubeadm 1.34 expects."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pytest-etcdtls"
    programs = cache / "kubernetes" / str(VERSION) / "bin"
    *_, etcd = (path for version, path in etcd_binaries.items() if version.startswith("3.6."))
    # Not in pytest's directory, whose name is too long for the sockets of containerd.
    directory = Path(gettempdir()) / f"etcdtls-{secrets.token_hex(4)}"
    with running(directory, programs, etcd) as started:
        yield started
