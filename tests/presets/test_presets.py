"""Every preset conforms on every available etcd, with exactly the expected warnings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from accounting import AccountingObserver, beyond_the_plan
from connections import counted_connections
from presets.known import KNOWN
from starting import start_process, start_where_possible
from zoo.model import explain, found

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.etcd.presets import PRESETS, Preset
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.run.plan import planned
from pytest_etcdtls.target import Target

SLOW = "rsa-4096"
"""The preset that differs from another one in the key size alone, and whose keys take seconds."""

PROVED = {
    "peer-hostname": {"mtls.wrong-peer-hostname"},
    "peer-common-name": {"mtls.wrong-cn"},
    "crl-with-entries": {"mtls.revoked-http", "mtls.revoked-grpc"},
    "split-http-with-crl": {
        *("mtls.revoked-http", "mtls.revoked-grpc", "mtls.same-verdict-grpc-and-http"),
        "advisory.ghsa-3wh4-j44w-pg92-proved",
    },
}
"""The checks of a rule that a preset sets, which others have no occasion to judge."""

OTHERS = [preset for preset in PRESETS.values() if preset.name != SLOW]


def test_every_preset_has_expected_findings() -> None:
    assert list(KNOWN) == list(PRESETS)


@pytest.mark.whole
@pytest.mark.oldest_and_newest
def test_large_keys_are_clean(etcd_binary: Path) -> None:
    test_a_preset_conforms(PRESETS[SLOW], etcd_binary)


@pytest.mark.parametrize("preset", OTHERS, ids=lambda preset: preset.name)
def test_a_preset_conforms(preset: Preset, etcd_binary: Path) -> None:
    with start_where_possible(preset.config, etcd_binary) as cluster:
        target, checks = cluster.target(), select(["!lifecycle"])
        observer = AccountingObserver(target)
        with counted_connections() as made:
            results = run_checks(observer, checks)
    expected = KNOWN[preset.name].expected(preset.config, cluster.version)
    assert found(results) == expected, explain(results)
    judged = {result.check for result in results if result.outcome is Outcome.CONFORMS}
    judged.update(*expected[Outcome.VIOLATES].values())
    assert PROVED.get(preset.name, set()) <= judged
    assert set(observer.used) == {listener.label for listener in target.listeners}
    assert _refusing_unauthenticated(results) == _over_https(target)
    assert sorted(observer.beyond) == []
    assert sum(made.values()) == sum(observer.used.values())
    assert beyond_the_plan(made, planned(target, checks), target.listeners) == []


def _refusing_unauthenticated(results: list[CheckResult]) -> set[str]:
    """Return the listeners where a refusal was observed: no preset passes without being judged."""
    return {
        result.listener
        for result in results
        if result.check == "mtls.no-certificate" and result.outcome is Outcome.CONFORMS
    }


def _over_https(target: Target) -> set[str]:
    return {listener.label for listener in target.listeners if listener.scheme == "https"}


def test_authentication_without_a_user_is_not_verified(etcd_binary: Path) -> None:
    with start_process(PRESETS["authentication"].config, etcd_binary) as cluster:
        target = replace(cluster.target(), user=None)
        results = run_checks(Observer(target), select(["!lifecycle"]))
    known = KNOWN["authentication"].expected(PRESETS["authentication"].config, cluster.version)
    known[Outcome.NOT_VERIFIED]["client"] |= {"api.grpc-range"}
    assert found(results) == known, explain(results)
    reasons = {r.check: r.reason for r in results if r.outcome is Outcome.NOT_VERIFIED}
    assert all("--etcd-user" in reason for reason in reasons.values()), reasons


def test_authentication_with_a_user_conforms(etcd_binary: Path) -> None:
    with start_process(PRESETS["authentication"].config, etcd_binary) as cluster:
        [result] = run_checks(Observer(cluster.target()), select(["api.grpc-range"]))
    assert (result.outcome, result.reason) == (Outcome.CONFORMS, "requested as user root")
