"""Every misconfigured cluster is found, by exactly the expected checks, on every available etcd.

On the newest etcd the outcome of a check depends neither on the order nor on which others are selected.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from orders import assert_order_does_not_matter
from zoo.members import FILES, ZOO
from zoo.model import ALL_BUT_LIFECYCLE, Misconfigured, explain, found, found_faults, start_or_skip

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer


@pytest.mark.parametrize("member", [pytest.param(member, id=member.name) for member in ZOO])
def test_the_expected_checks_find_the_fault(
    member: Misconfigured, etcd_binary: Path, newest_etcd: Path, tmp_path: Path
) -> None:
    with start_or_skip(member, etcd_binary, tmp_path) as cluster:
        version, target, checks = cluster.version, cluster.target(), select(member.checks)
        results = run_checks(Observer(target), checks)
        where = f"{member.name} on etcd {version}: correct it in {FILES[member.name]}, or the check"
        assert found(results) == member.expected(version), f"{where}\n{explain(results)}"
        assert found_faults(member, version, results) == member.named_faults(version), (
            f"{where}: faults= has the checks that follow from no other one\n{explain(results)}"
        )
        if etcd_binary == newest_etcd and member.checks == ALL_BUT_LIFECYCLE:
            assert_order_does_not_matter(target, checks, results=results)
