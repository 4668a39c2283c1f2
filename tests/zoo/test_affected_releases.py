"""Advisories proved on an affected release, which no other test uses."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from judged import judged
from starting import start_process
from zoo.client_access import GOOD
from zoo.model import Misconfigured, explain, found

_CHECKS = ("listener", "mtls", "api", "cluster", "advisory", "config")
_KNOWN = [
    "advisory.cve-2026-33413-inferred",
    "advisory.ghsa-6vch-q96h-7gc3-inferred",
    "advisory.go-runtime",
]
_SPLIT = replace(GOOD, client_http=True)

AFFECTED = [
    Misconfigured(
        name="crl-ignored-on-grpc",
        what="etcd 3.5.21 with a separate HTTP listener: the gRPC port ignores the revocation list",
        config=replace(_SPLIT, client_crl_file="crl.der"),
        checks=_CHECKS,
        violated={
            "client": [
                "advisory.ghsa-3wh4-j44w-pg92-proved",
                "mtls.revoked-grpc",
                "mtls.same-verdict-grpc-and-http",
            ],
            "cluster": ["config.crl-ignored-on-grpc"],
        },
        warned={"cluster": _KNOWN, "client": ["mtls.server-certificate-as-client"]},
    ),
    Misconfigured(
        name="http-split-off-by-an-affected-release",
        what="etcd 3.5.21 with a separate HTTP listener, and no revoked certificate to prove the fault",
        config=_SPLIT,
        checks=_CHECKS,
        warned={
            "cluster": [*_KNOWN, "advisory.ghsa-3wh4-j44w-pg92-inferred"],
            "client": ["mtls.server-certificate-as-client"],
        },
    ),
]


@pytest.fixture(scope="module")
def affected_etcd() -> Path:
    """An etcd 3.5.21."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    binary = cache / "pytest-etcdtls" / "affected" / "3.5.21" / "etcd"
    if not binary.exists():
        pytest.skip("needs an etcd with known faults: run make etcd ARGS='--into=affected 3.5.21'")
    return binary


@pytest.mark.kills(
    "advisory.cve-2026-33413-inferred",
    "advisory.ghsa-6vch-q96h-7gc3-inferred",
    "advisory.go-runtime",
    "advisory.ghsa-3wh4-j44w-pg92-inferred",
    "advisory.ghsa-3wh4-j44w-pg92-proved",
    "config.crl-ignored-on-grpc",
    "mtls.same-verdict-grpc-and-http",
)
@pytest.mark.parametrize("member", [pytest.param(member, id=member.name) for member in AFFECTED])
def test_an_affected_release(member: Misconfigured, affected_etcd: Path) -> None:
    with start_process(member.config, affected_etcd) as cluster:
        results = judged(cluster.target(), *member.checks)
    assert found(results) == member.expected(cluster.version), explain(results)
