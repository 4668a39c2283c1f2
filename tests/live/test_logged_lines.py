"""One run leaves the lines in etcd's log that docs/limits.md lists."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from live.logged_lines import LOGGED, VERSIONS, count
from starting import start_process

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Target

TOLERANCE = 1
"""Lines of one kind: an attempt whose end is unclear is repeated."""


def _as_operators_have_it(cluster: Cluster) -> Target:
    """Return a live target with certificates for both ports, without a CA key or a declaration."""
    owned = cluster.target()
    client, peer = (
        replace(credentials, signing_key=None, served=(), revoked=None)
        for credentials in (owned.client, owned.peer)
    )
    return replace(owned, origin="live", client=client, peer=peer, expected=(), dials_with_another=None)


@pytest.mark.etcd_version(*VERSIONS)
def test_lines_of_one_run(etcd_binary: Path) -> None:
    with start_process(ClusterConfig(), etcd_binary) as cluster:
        log = cluster.directory / "m0" / "etcd.log"
        before = log.stat().st_size
        run_checks(Observer(_as_operators_have_it(cluster)), select())
        deadline = time.monotonic() + 30
        while True:
            written = log.read_bytes()[before:]
            found = count(written[: written.rfind(b"\n") + 1].decode().splitlines())
            if sum(map(sum, found.values())) >= sum(map(sum, LOGGED.values())) or time.monotonic() > deadline:
                break
    assert set(found) == set(LOGGED)
    differs = {
        error: (found[error], LOGGED[error])
        for error in LOGGED
        if any(abs(one - other) > TOLERANCE for one, other in zip(found[error], LOGGED[error], strict=True))
    }
    assert differs == {}, "count again, in tests/live/logged_lines.py, and run make docs"
