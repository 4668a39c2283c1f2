"""Every misconfigured cluster is found, by exactly the checks that should find it, on every etcd at hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from starting import start_process
from zoo.matrix import PROPERTY
from zoo.members import ZOO
from zoo.model import Misconfigured, explain, found

from pytest_etcdtls.catalog import select
from pytest_etcdtls.cluster.binary import binary_version
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.observer import Observer
from pytest_etcdtls.runner import run_checks


@pytest.mark.parametrize("member", [pytest.param(member, id=member.name) for member in ZOO])
def test_exactly_the_right_checks_find_it(
    member: Misconfigured, etcd_binary: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    if not member.is_of(version := binary_version(etcd_binary)):
        pytest.skip(f"not to be expressed in this version: {version}")
    binary = member.etcd(etcd_binary, tmp_path) if member.etcd else etcd_binary
    try:
        cluster = start_process(member.config, binary)
    except UsageError as error:
        pytest.skip(f"not to be expressed in this version: {error}")
    with cluster:
        if member.after_start is not None:
            member.after_start(cluster)
        results = run_checks(Observer(cluster.target()), select(member.checks))
    seen = found(results)
    assert seen == member.expected(cluster.version), explain(results)
    record_property(PROPERTY, f"{member.name} {cluster.version}")
