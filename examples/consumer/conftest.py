"""How this company changes each cluster that its tests start, and what it does with verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_etcdtls import CheckResult, ClusterConfig, KeyType, Target


def pytest_etcdtls_cluster_config(cluster_config: ClusterConfig) -> ClusterConfig:
    """Start every cluster with the key type of production."""
    return replace(cluster_config, pki=replace(cluster_config.pki, key_type=KeyType.ECDSA_P384))


def pytest_etcdtls_judged(
    config: pytest.Config, target: Target, results: Sequence[CheckResult], faults: Sequence[CheckResult]
) -> None:
    """Write one line for each target, as the team's dashboard reads it."""
    line = f"{target.label} {target.etcd_version} results={len(results)} faults={len(faults)}\n"
    with Path(config.rootpath, "verdicts.txt").open("a", encoding="utf-8") as file:
        file.write(line)
