"""A node whose etcd runs in a root directory, and perhaps a network, of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from process.containers import OF_ITS_OWN, Container, container
from pytest_etcdtls.declared.running import Process


@pytest.fixture(scope="module", params=[(), OF_ITS_OWN], ids=["root", "root-and-network"])
def node(
    request: pytest.FixtureRequest, newest_etcd: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Container]:
    """A node of kubeadm in a root directory of its own, and perhaps a network."""
    with container(
        tmp_path_factory.mktemp("node"), newest_etcd, request.module.ADDRESS, request.param
    ) as made:
        yield made


@pytest.fixture(scope="module")
def process(node: Container) -> Process:
    """Its etcd, which runs with what the manifest declares."""
    return node.start()
