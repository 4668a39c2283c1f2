"""Every fault of a fake server is found, by exactly the expected checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from zoo.fake_server import FakeEtcd
from zoo.members import FAKES, FILES

from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.checks.results import CheckResult


@pytest.mark.parametrize("fake", [pytest.param(fake, id=fake.name) for fake in FAKES])
def test_the_expected_checks_find_the_fault(fake: FakeEtcd, tmp_path: Path) -> None:
    good = fake.judged(tmp_path / "good", good=True)
    bad = fake.judged(tmp_path / "bad")
    noisy = {check for check, result in good.items() if result.findings}
    where = f"{fake.name} of {FILES[fake.name]}"
    assert not noisy & fake.proves(), f"without its fault {where} is found as well: {_explained(good, noisy)}"
    found = {check for check, result in bad.items() if result.findings} - noisy
    missed, surprising = fake.proves() - found, found - fake.proves()
    assert not missed, f"{where} is not found by: {_explained(bad, missed)}"
    assert not surprising, f"{where} is also found by checks that violated= does not name: " + _explained(
        bad, surprising
    )


def _explained(results: Mapping[str, CheckResult], checks: Iterable[str]) -> str:
    return "; ".join(_outcome(results.get(check), check) for check in sorted(checks))


def _outcome(result: CheckResult | None, check: str) -> str:
    if result is None:
        judged = ", ".join(sorted(catalogue()[check].roles)) or "the whole target"
        return f"{check}, which judges {judged}: set role="
    said = result.reason or ", ".join(finding.message for finding in result.findings)
    return f"{check} {result.outcome} ({said})"
