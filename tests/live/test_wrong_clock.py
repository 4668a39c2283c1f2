"""The local clock is wrong: the skew is the one fault; a real etcd, and our process under a wrong clock.

libfaketime changes the clock of the process that judges. The etcd keeps the machine's: Go asks the kernel and
not the C library.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starting import start_process

from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.pki.bundle import encode_key
from pytest_etcdtls.pki.profile import SERVER, PKIPlan

pytestmark = pytest.mark.program("faketime")

# Certificates are valid from an hour ago for 90 days, their CA for 365.
_NO_EFFECT = ("+36h", "+80d")
_BY_ONE_CLOCK = {
    "+100d": {"cert.valid-now"},
    "-36h": {"cert.valid-now", "cert.ca-valid-now"},
    "-400d": {"cert.valid-now", "cert.ca-valid-now"},
    "+20y": {"cert.valid-now", "cert.ca-valid-now"},
}
_GOOD = ClusterConfig()
_CHECKS = "mtls,cert,api.clock-agrees"


@contextmanager
def _with_ca_keys(binary: Path, config: ClusterConfig = _GOOD) -> Iterator[Cluster]:
    with start_process(config, binary) as cluster:
        authorities = cluster.pki.authorities
        for name, issuer in (("client", authorities.client_issuer), ("peer", authorities.peer_issuer)):
            (cluster.pki_directory / f"{name}-ca.key").write_bytes(encode_key(issuer.key))
        yield cluster


def _options(cluster: Cluster, *, certificates: bool = True, ca_keys: bool = True) -> Iterator[str]:
    for listener in cluster.target().listeners:
        yield f"--etcd-{listener.role.prefix}endpoint={listener.url}"
    for prefix, ca, pair in (("", "client", "client"), ("peer-", "peer", "peer-client")):
        files = cluster.pki_directory
        yield f"--etcd-{prefix}cacert={files / f'{ca}-ca.crt'}"
        yield f"--etcd-{prefix}trusted-ca={files / f'{ca}-ca.crt'}"
        if ca_keys:
            yield f"--etcd-{prefix}ca-key={files / f'{ca}-ca.key'}"
        if certificates:
            yield f"--etcd-{prefix}cert={files / f'{pair}.crt'}"
            yield f"--etcd-{prefix}key={files / f'{pair}.key'}"


def _report(skew: str, options: Iterator[str], directory: Path) -> dict[str, Any]:
    """Judge with a clock that is wrong by so much, and return the report."""
    report = directory / f"{skew}.json"
    suite = (
        "-m",
        "pytest",
        "--pyargs",
        "pytest_etcdtls",
        "-p",
        "no:cacheprovider",
        f"--etcd-check={_CHECKS}",
    )
    subprocess.run(
        ["faketime", "-m", "-f", skew, sys.executable, *suite, f"--etcd-report={report}", *options],
        env=os.environ | {"FAKETIME_DONT_FAKE_MONOTONIC": "1"},
        cwd=directory,
        capture_output=True,
        timeout=120,
        check=False,
    )
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return found


def _of(report: dict[str, Any], outcome: str) -> set[str]:
    return {result["check"] for result in report["results"] if result["outcome"] == outcome}


def _not_verified(report: dict[str, Any]) -> set[tuple[str, str]]:
    about_time = ("cert.ca-expires-soon", "cert.expires-soon", "mtls.client-ca-expires")
    return {
        (result["role"], result["check"])
        for result in report["results"]
        if result["outcome"] == "not-verified"
        and result["check"] not in (*about_time, "mtls.client-certificate-expires")
    }


@pytest.mark.kills("api.clock-agrees")
def test_the_skew_is_the_only_fault(etcd_binary: Path, tmp_path: Path) -> None:
    """Judged with every bad identity: none of them is good by the member's clock."""
    with _with_ca_keys(etcd_binary) as cluster:
        usual = _report("+0", _options(cluster), tmp_path)
        assert (_of(usual, "violates"), _of(usual, "inconclusive")) == (set(), set())
        for skew in (*_NO_EFFECT, *_BY_ONE_CLOCK):
            report = _report(skew, _options(cluster), tmp_path)
            effect = {"api.clock-agrees"} if skew in _BY_ONE_CLOCK else set()
            assert _of(report, "violates") == effect, skew
            assert _of(report, "inconclusive") == _BY_ONE_CLOCK.get(skew, set()), skew
            assert _of(report, "warns") - effect - _of(usual, "warns") <= {"api.clock-agrees"}, skew
            assert _not_verified(report) == _not_verified(usual), skew
            faults = [fault["check"] for fault in report["faults"] if fault["outcome"] == "violates"]
            assert faults == sorted(effect), skew


@pytest.mark.parametrize("skew", ["+36h", "-36h", "-400d"])
def test_without_a_client_certificate_the_issued_one_is_accepted(
    skew: str, newest_etcd: Path, tmp_path: Path
) -> None:
    """No Date is known before it is issued."""
    with _with_ca_keys(newest_etcd) as cluster:
        report = _report(skew, _options(cluster, certificates=False), tmp_path)
    assert _of(report, "violates") <= {"api.clock-agrees"}
    judged = {"mtls.expired", "mtls.not-yet-valid", "mtls.trusted-client"}
    assert judged <= _of(report, "conforms")


@pytest.mark.parametrize("skew", ["+100d", "-100d"])
def test_a_certificate_expired_by_the_local_clock_alone_is_no_bad_identity(
    skew: str, newest_etcd: Path, tmp_path: Path
) -> None:
    with _with_ca_keys(newest_etcd) as cluster:
        report = _report(skew, _options(cluster, ca_keys=False), tmp_path)
    assert _of(report, "violates") == {"api.clock-agrees"}
    assert {"mtls.expired", "mtls.not-yet-valid"} <= _of(report, "not-verified")


def test_a_certificate_that_has_expired_by_both_clocks_is_a_fault_of_its_own(
    newest_etcd: Path, tmp_path: Path
) -> None:
    expired = replace(SERVER, valid_from=timedelta(days=-2), valid_for=timedelta(days=1))
    config = ClusterConfig(expects_health=False, pki=PKIPlan(server=expired))
    with _with_ca_keys(newest_etcd, config) as cluster:
        report = _report("+2h", _options(cluster), tmp_path)
    assert _of(report, "violates") == {"cert.valid-now"}
    assert _of(report, "inconclusive") == set()
    assert "api.clock-agrees" in _of(report, "warns")
