"""The outcome of a check depends neither on the order of the checks nor on which others are selected."""

from __future__ import annotations

from pathlib import Path

import pytest
from orders import assert_order_does_not_matter
from starting import start_process
from zoo.members import ZOO
from zoo.model import ALL_BUT_LIFECYCLE, Misconfigured

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd.sources import binary_version

_OF_MAKE_TEST = {
    "client-no-auth",
    "client-wrong-ca",
    "peer-pair-gone",
    "rsa-key-with-suites-for-ecdsa",
    "one-certificate-forgotten",
}
MEMBERS = [
    pytest.param(member, id=member.name, marks=[] if member.name in _OF_MAKE_TEST else pytest.mark.whole)
    for member in ZOO
    if member.checks == ALL_BUT_LIFECYCLE
]


@pytest.mark.parametrize("member", MEMBERS)
def test_every_check_has_one_outcome(member: Misconfigured, newest_etcd: Path, tmp_path: Path) -> None:
    if not member.is_of(version := binary_version(newest_etcd)):
        pytest.skip(f"not of etcd {version}")
    etcd = member.etcd(newest_etcd, tmp_path) if member.etcd else newest_etcd
    try:
        cluster = start_process(member.config, etcd)
    except UsageError as error:
        pytest.skip(f"not to be expressed in this version: {error}")
    with cluster:
        if member.after_start is not None:
            member.after_start(cluster)
        assert_order_does_not_matter(cluster.target(), select(member.checks))
