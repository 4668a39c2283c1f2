"""Every etcd conforms when its files or flags change, and experiments leave nothing behind."""

from __future__ import annotations

from collections.abc import Iterable
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


def _by_outcome(results: Iterable[CheckResult]) -> dict[Outcome, set[str]]:
    found: dict[Outcome, set[str]] = {}
    for result in results:
        found.setdefault(result.outcome, set()).add(result.check)
    return found


def _assert_clean(results: list[CheckResult], version: str) -> None:
    lacking = LACKING.get(version, set())
    expected = {Outcome.CONFORMS: {check.id for check in select(["lifecycle"])} - lacking}
    if lacking:
        expected[Outcome.NOT_APPLICABLE] = lacking
    assert _by_outcome(results) == expected, [r for r in results if r.outcome is not Outcome.CONFORMS]


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
