"""An etcd that treats a PEM revocation list differently than its version does."""

from __future__ import annotations

from pathlib import Path

import pytest
from judged import judged

from lifecycle.targets import of_etcd
from pytest_etcdtls.checks.results import CheckResult, Outcome


def _result(binary: Path, version: str) -> CheckResult:
    (result,) = judged(of_etcd(str(binary), version), "lifecycle.crl-encoding")
    return result


@pytest.mark.etcd_version("3.4", "3.5")
def test_a_pem_list_that_is_read_by_3_6_is_a_finding(etcd_binary: Path) -> None:
    result = _result(etcd_binary, "3.6.0")
    assert result.outcome is Outcome.VIOLATES
    assert [finding.expected for finding in result.findings] == ["every client refused"]


@pytest.mark.etcd_version("3.6", "3.7")
def test_a_pem_list_that_is_not_read_by_3_5_is_a_finding(etcd_binary: Path) -> None:
    result = _result(etcd_binary, "3.5.33")
    assert result.outcome is Outcome.VIOLATES
    assert [finding.expected for finding in result.findings] == ["good clients accepted, the list read"]


def test_an_unknown_version_is_not_judged(newest_etcd: Path) -> None:
    assert _result(newest_etcd, "unknown").outcome is Outcome.NOT_VERIFIED
