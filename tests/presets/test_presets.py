"""Every preset conforms on every available etcd, with exactly the expected warnings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from accounting import AccountingObserver, beyond_the_plan, counted_connections
from judged import judged
from starting import start_process, start_where_possible
from zoo.model import Misconfigured, explain, found

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.etcd.presets import PRESETS, Preset
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.plan import planned
from pytest_etcdtls.target import Target

SLOW = "rsa-4096"
"""The preset that differs from another one in the key size alone, and whose keys take seconds."""

PROVED = {
    "authentication": {"api.grpc-range"},
    "peer-hostname": {"mtls.wrong-peer-hostname"},
    "peer-common-name": {"mtls.wrong-cn"},
    "crl-with-entries": {"mtls.revoked-http", "mtls.revoked-grpc"},
    "split-http-with-crl": {
        *("mtls.revoked-http", "mtls.revoked-grpc", "mtls.same-verdict-grpc-and-http"),
        "advisory.ghsa-3wh4-j44w-pg92-proved",
    },
}
"""The checks of a rule that a preset sets, which others have no occasion to judge."""

_ONE_CA = {
    "warned": {
        "client": ["mtls.peer-certificate-on-client-port"],
        "peer": ["mtls.client-certificate-on-peer-port"],
    }
}
_DIALS_WITH_ANOTHER = ("mtls.server-certificate-as-client",)
_NO_CBC = ("tls.cbc-suites",)
_NO_SHA1 = ("tls.sha1-signature",)
"""Ed25519 has no signature scheme with SHA-1."""
_ON_BOTH = ("client", "peer")
# server/embed/serve.go of 3.8.0-alpha.0 lacks the fix of 3.7.0, which calls ConfigureCRLVerification.
_NO_CRL_ON_GRPC = "3.8.0-alpha.0"
# grpc-go leaves out the suites that RFC 9113 forbids.
_SPLIT = {"not_warned": {"client": _NO_CBC}}

EXPECTED: Mapping[str, Mapping[str, Any]] = {
    **dict.fromkeys(("kubeadm", "kubeadm-three-nodes", "one-ca"), _ONE_CA),
    "ca-per-role": {"not_warned": {"client": _DIALS_WITH_ANOTHER}},
    "separate-client-certificates": {"not_warned": {"client": _DIALS_WITH_ANOTHER}},
    "ed25519": {"not_warned": dict.fromkeys(_ON_BOTH, _NO_SHA1)},
    "split-http": {
        **_SPLIT,
        "by_version": {_NO_CRL_ON_GRPC: {"warns": {"cluster": ["advisory.ghsa-3wh4-j44w-pg92-inferred"]}}},
    },
    "split-http-with-crl": {
        **_SPLIT,
        "by_version": {
            _NO_CRL_ON_GRPC: {
                "violates": {
                    "cluster": ["config.crl-ignored-on-grpc"],
                    "client": [
                        "advisory.ghsa-3wh4-j44w-pg92-proved",
                        "mtls.revoked-grpc",
                        "mtls.same-verdict-grpc-and-http",
                    ],
                }
            }
        },
    },
    "tls-1.3-only": {"not_warned": dict.fromkeys(_ON_BOTH, (*_NO_CBC, *_NO_SHA1))},
    "tls-1.2-only": {
        "warned": dict.fromkeys(_ON_BOTH, ("tls.tls13-offered",)),
        "not_warned": dict.fromkeys(_ON_BOTH, ("tls.hybrid-group",)),
    },
    "aead-suites": {"not_warned": dict.fromkeys(_ON_BOTH, _NO_CBC)},
    # It says nothing of the gateway, which by default is on.
    "config-file": {"by_version": {"3.4": {"warns": {"cluster": ["config.gateway-off-in-config-file"]}}}},
    # The gateway turns away every certificate with a common name. It answers one without; since 3.5.28
    # (CVE-2026-33413) it wants a user's token, which is presented.
    "authentication": {"not_verified": {"client": ["api.gateway-works"]}},
    "hardened": {
        "not_warned": {
            "client": [*_NO_CBC, *_NO_SHA1, *_DIALS_WITH_ANOTHER],
            "peer": [*_NO_CBC, *_NO_SHA1],
        }
    },
}
"""What a preset has beyond the warnings of every etcd, and what cannot be verified on it."""

OTHERS = [preset for preset in PRESETS.values() if preset.name != SLOW]


def expected(preset: Preset, version: str) -> dict[str, dict[str, set[str]]]:
    """Return the expected check ids by outcome and listener on that version of etcd."""
    known = Misconfigured(
        name=preset.name, what=preset.what, config=preset.config, **EXPECTED.get(preset.name, {})
    )
    return known.expected(version)


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
    known = expected(preset, cluster.version)
    assert found(results) == known, explain(results)
    judged = {result.check for result in results if result.outcome is Outcome.CONFORMS}
    judged.update(*known[Outcome.VIOLATES].values())
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
        results = judged(replace(cluster.target(), user=None), "!lifecycle")
    known = expected(PRESETS["authentication"], cluster.version)
    known[Outcome.NOT_VERIFIED]["client"] |= {"api.grpc-range"}
    assert found(results) == known, explain(results)
    reasons = {r.check: r.reason for r in results if r.outcome is Outcome.NOT_VERIFIED}
    assert all("--etcd-user" in reason for reason in reasons.values()), reasons
