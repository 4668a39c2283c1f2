"""The local clock is wrong: the skew is the one fault; a real etcd, and our process under a wrong clock.

libfaketime changes the clock of the process that judges. The etcd keeps the machine's: Go asks the kernel and
not the C library.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from plugin.runs import Ran, run_apart
from starting import start_process

from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
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
        cluster.pki.write(cluster.pki_directory, with_ca_keys=True)
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


def _judged(skew: str, options: Iterator[str], directory: Path) -> Ran:
    """Judge with a clock that is wrong by so much."""
    clock = ("faketime", "-m", "-f", skew)
    steady = {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    return run_apart(directory, f"--etcd-check={_CHECKS}", *options, prefix=clock, environment=steady)


def _not_verified(ran: Ran) -> set[tuple[str, str]]:
    about_time = ("cert.ca-expires-soon", "cert.expires-soon", "mtls.client-ca-expires")
    return {
        (result["role"], result["check"])
        for result in ran.report["results"]
        if result["outcome"] == "not-verified"
        and result["check"] not in (*about_time, "mtls.client-certificate-expires")
    }


@pytest.mark.kills("api.clock-agrees")
def test_the_skew_is_the_only_fault(etcd_binary: Path, tmp_path: Path) -> None:
    """Judged with every bad identity: none of them is good by the member's clock."""
    with _with_ca_keys(etcd_binary) as cluster:
        usual = _judged("+0", _options(cluster), tmp_path)
        assert (usual.found("violates"), usual.found("inconclusive")) == (set(), set())
        for skew in (*_NO_EFFECT, *_BY_ONE_CLOCK):
            ran = _judged(skew, _options(cluster), tmp_path)
            effect = {"api.clock-agrees"} if skew in _BY_ONE_CLOCK else set()
            assert ran.found("violates") == effect, skew
            assert ran.found("inconclusive") == _BY_ONE_CLOCK.get(skew, set()), skew
            assert ran.found("warns") - effect - usual.found("warns") <= {"api.clock-agrees"}, skew
            assert _not_verified(ran) == _not_verified(usual), skew
            faults = [fault["check"] for fault in ran.report["faults"] if fault["outcome"] == "violates"]
            assert faults == sorted(effect), skew


@pytest.mark.parametrize("skew", ["+36h", "-36h", "-400d"])
def test_without_a_client_certificate_the_issued_one_is_accepted(
    skew: str, newest_etcd: Path, tmp_path: Path
) -> None:
    """No Date is known before it is issued."""
    with _with_ca_keys(newest_etcd) as cluster:
        ran = _judged(skew, _options(cluster, certificates=False), tmp_path)
    assert ran.found("violates") <= {"api.clock-agrees"}
    judged = {"mtls.expired", "mtls.not-yet-valid", "mtls.trusted-client"}
    assert judged <= ran.found("conforms")


@pytest.mark.parametrize("skew", ["+100d", "-100d"])
def test_a_certificate_expired_only_by_the_local_clock_is_not_a_bad_identity(
    skew: str, newest_etcd: Path, tmp_path: Path
) -> None:
    with _with_ca_keys(newest_etcd) as cluster:
        ran = _judged(skew, _options(cluster, ca_keys=False), tmp_path)
    assert ran.found("violates") == {"api.clock-agrees"}
    assert {"mtls.expired", "mtls.not-yet-valid"} <= ran.found("not-verified")


def test_a_certificate_that_has_expired_by_both_clocks_is_a_separate_fault(
    newest_etcd: Path, tmp_path: Path
) -> None:
    expired = replace(SERVER, valid_from=timedelta(days=-2), valid_for=timedelta(days=1))
    config = ClusterConfig(expects_health=False, pki=PKIPlan(server=expired))
    with _with_ca_keys(newest_etcd, config) as cluster:
        ran = _judged("+2h", _options(cluster), tmp_path)
    assert ran.found("violates") == {"cert.valid-now"}
    assert ran.found("inconclusive") == set()
    assert "api.clock-agrees" in ran.found("warns")
