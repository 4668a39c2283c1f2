"""Starting a member of the zoo."""

from __future__ import annotations

from pathlib import Path

import pytest
from starting import start_process
from zoo.model import Misconfigured

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.sources import binary_version


def start_member(member: Misconfigured, binary: Path, directory: Path) -> Cluster:
    """Start the member with that etcd and apply its change.

    Args:
        directory: for an etcd that is made for it.

    Raises:
        UsageError: if that version cannot be misconfigured so.
        ClusterStartError: if it does not start.
    """
    if not member.is_of(version := binary_version(binary)):
        raise UsageError(version)
    cluster = start_process(member.config, member.etcd(binary, directory) if member.etcd else binary)
    if member.after_start is not None:
        try:
            member.after_start(cluster)
        except BaseException:
            cluster.stop()
            raise
    return cluster


def start_or_skip(member: Misconfigured, binary: Path, directory: Path) -> Cluster:
    """Start the member as :func:`start_member`; skip the test if that version cannot be misconfigured so."""
    try:
        return start_member(member, binary, directory)
    except UsageError as error:
        pytest.skip(f"not to be expressed in this version: {error}")
