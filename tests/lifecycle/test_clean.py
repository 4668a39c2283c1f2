"""Every etcd conforms when its files or flags change, but for one of another version than it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from judged import judged

from lifecycle.targets import of_binary, of_etcd
from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.checks.results import CheckResult, Outcome

NO_VERSION_RANGE = {"lifecycle.version-floor", "lifecycle.version-ceiling"}
LACKING = {
    "3.4.23": NO_VERSION_RANGE | {"lifecycle.separate-client-certificate"},
    "3.5.1": NO_VERSION_RANGE,
}
"""Checks whose flags these versions do not have."""


def _assert_clean(results: list[CheckResult], version: str) -> None:
    outcomes = {check.id: Outcome.CONFORMS for check in select(["lifecycle"])}
    outcomes |= dict.fromkeys(LACKING.get(version, ()), Outcome.NOT_APPLICABLE)
    assert {result.check: result.outcome for result in results} == outcomes, results


def test_processes(etcd_binary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    target = of_binary(etcd_binary)
    results = judged(target, "lifecycle")
    _assert_clean(results, str(target.etcd_version))
    assert list(tmp_path.glob("pytest-etcdtls-*/pki")) == []


@pytest.mark.container
@pytest.mark.oldest_and_newest
def test_containers(etcd_image: str) -> None:
    version = etcd_image.rpartition(":")[2]
    results = judged(of_etcd(etcd_image, version, "container"), "lifecycle")
    _assert_clean(results, version)
    (load,) = [r for r in results if r.check == "lifecycle.rotation-loses-no-request"]
    assert "not atomic in a container" in load.reason


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
