"""A live etcd for the suite to judge, and a runner of pytest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from plugin.live_etcd import Live, start_live
from plugin.runs import Runner


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A conforming etcd, by the options that a user gives for a live one."""
    with start_live(tmp_path_factory.mktemp("live")) as found:
        yield found


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """Runs pytest as a user does; nothing of the environment decides what comes of it."""
    for name in (
        "PYTEST_ADDOPTS",
        "PYTEST_PLUGINS",
        "ETCDCTL_CACERT",
        "ETCDCTL_CERT",
        "ETCDCTL_KEY",
        "ETCDCTL_USER",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    return Runner(pytester, monkeypatch)
