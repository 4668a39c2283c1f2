"""A declaration or a file that differs from what runs is found, by exactly the expected checks.

The running node conforms; the manifests and the copies of its certificates are changed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kubeadm.drifts import DRIFTS, JUDGED, Drift
from kubeadm.judging import explain, found, judged, target
from kubeadm.nodes import Cluster, Node
from pytest_etcdtls.results import CheckResult


def look_at(drift: Drift, cluster: Cluster, node: Node, directory: Path) -> list[CheckResult]:
    """Judge the running node by a declaration and files that differ from it."""
    return judged(target(**drift.declare(cluster, node, directory)), *drift.checks)


def test_nothing_is_found_without_a_drift(control_plane: Cluster, open_directory: Path) -> None:
    results = look_at(Drift(), control_plane, control_plane.nodes[0], open_directory)
    assert found(results) == {}, explain(results)
    assert {result.check for result in results if result.outcome == "conforms"} > {
        *("config.served-file", "config.peer-served-file", "config.key-matches-certificate"),
        *("config.chain-closes", "mtls.client-certificate-expires", "config.key-file-mode"),
        *("config.ca-key-beside", "config.trusted-ca-in-force", "config.client-auth-in-force"),
        "config.listeners-as-declared",
    }


@pytest.mark.kills(
    "mtls.client-certificate-expires",
    "config.served-file",
    "config.peer-served-file",
    "config.key-matches-certificate",
    "config.credentials-expire-soon",
    "config.crl-fresh",
    "config.key-file-mode",
    "config.ca-key-beside",
    "config.listeners-as-declared",
)
@pytest.mark.parametrize(
    "drift",
    [
        # An etcd without the flag is a finding of its own.
        pytest.param(
            name,
            marks=[pytest.mark.etcd_version("3.5.33", "3.6", "3.7")]
            if "tls-min-version" in drift.flags
            else [],
        )
        for name, drift in DRIFTS.items()
    ],
)
def test_the_expected_checks_find_the_fault(drift: str, control_plane: Cluster, open_directory: Path) -> None:
    results = look_at(DRIFTS[drift], control_plane, control_plane.nodes[0], open_directory)
    assert found(results) == DRIFTS[drift].found, explain(results)


def test_every_drift_of_a_file_is_judged_by_the_whole() -> None:
    assert [name for name, drift in DRIFTS.items() if drift.checks != JUDGED] == [
        "a listener that is not open",
        "https declared where http is spoken",
        "http declared where https is spoken",
    ]
