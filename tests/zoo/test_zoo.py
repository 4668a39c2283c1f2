"""Every misconfigured cluster is found, by exactly the expected checks, on every available etcd."""

from __future__ import annotations

from pathlib import Path

import pytest
from zoo.judging import judge_member
from zoo.members import FILES, ZOO
from zoo.model import Misconfigured, differences, explain, found, found_faults

from pytest_etcdtls.errors import UsageError


@pytest.mark.parametrize("member", [pytest.param(member, id=member.name) for member in ZOO])
def test_the_expected_checks_find_the_fault(member: Misconfigured, etcd_binary: Path, tmp_path: Path) -> None:
    try:
        version, results = judge_member(member, etcd_binary, tmp_path)
    except UsageError as error:
        pytest.skip(f"not to be expressed in this version: {error}")
    where = f"{member.name} on etcd {version}: correct it in {FILES[member.name]}, or the check"
    assert found(results) == member.expected(version), (
        f"{where}\n{differences(member, version, results)}\n{explain(results)}"
    )
    assert found_faults(member, version, results) == member.named_faults(version), (
        f"{where}: faults= has the checks that follow from no other one\n{explain(results)}"
    )
