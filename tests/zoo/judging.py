"""Starting a member of the zoo and judging it."""

from __future__ import annotations

from pathlib import Path

from starting import start_process
from zoo.model import Misconfigured

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd.sources import binary_version
from pytest_etcdtls.results import CheckResult
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer


def judge_member(member: Misconfigured, binary: Path, directory: Path) -> tuple[str, list[CheckResult]]:
    """Start the member with that etcd, apply its change, judge it; return its version and results.

    Args:
        directory: for an etcd that is made for it.

    Raises:
        UsageError: if that version cannot be misconfigured so.
        ClusterStartError: if it does not start.
    """
    if not member.is_of(version := binary_version(binary)):
        raise UsageError(version)
    etcd = member.etcd(binary, directory) if member.etcd else binary
    with start_process(member.config, etcd) as cluster:
        if member.after_start is not None:
            member.after_start(cluster)
        return cluster.version, run_checks(Observer(cluster.target()), select(member.checks))
