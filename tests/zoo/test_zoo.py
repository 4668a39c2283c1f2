"""Every misconfigured cluster is found, by exactly the checks that should find it, on every etcd at hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_etcdtls.cluster.backend import start_cluster
from pytest_etcdtls.cluster.binary import binary_version
from pytest_etcdtls.cluster.source import EtcdSource
from zoo.members import ZOO
from zoo.model import Misconfigured, explain, found

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.observer import Observer
from pytest_etcdtls.runner import run_checks


@pytest.mark.parametrize("member", [pytest.param(member, id=member.name) for member in ZOO])
def test_exactly_the_right_checks_find_it(member: Misconfigured, etcd_binary: Path) -> None:
    version = binary_version(etcd_binary)
    source = EtcdSource(kind="process", location=str(etcd_binary), version=version, why="a test asks for it")
    try:
        cluster = start_cluster(member.config, source)
    except UsageError as error:
        pytest.skip(f"not to be expressed in this version: {error}")
    with cluster:
        if member.after_start is not None:
            member.after_start(cluster)
        results = run_checks(Observer(cluster.target()))
    assert found(results) == member.expected(cluster.version), explain(results)
