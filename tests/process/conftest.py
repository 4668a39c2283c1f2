"""A node whose etcd runs in a root directory, and perhaps a network, of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from process.containers import Container, container
from pytest_etcdtls.declared import running
from pytest_etcdtls.declared.running import PROC, Process
from pytest_etcdtls.untrusted.process_root import names_in


@pytest.fixture(scope="module")
def prefix() -> tuple[str, ...]:
    """The words before etcd: it runs in the network of the machine."""
    return ()


@pytest.fixture(scope="module")
def node(
    request: pytest.FixtureRequest,
    prefix: tuple[str, ...],
    newest_etcd: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Container]:
    """A node of kubeadm in a root directory of its own."""
    with container(tmp_path_factory.mktemp("node"), newest_etcd, request.module.ADDRESS, prefix) as made:
        yield made


@pytest.fixture(scope="module")
def process(node: Container) -> Process:
    """Its etcd, which runs with what the manifest declares."""
    return node.start()


@pytest.fixture
def pids(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The processes of the machine as a run finds them: without those of other tests."""
    found: list[int] = []
    names = {PROC: found}
    monkeypatch.setattr(
        running,
        "names_in",
        lambda path: list(map(str, names[path])) if found and path in names else names_in(path),
    )
    return found
