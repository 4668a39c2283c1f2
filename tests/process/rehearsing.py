"""What a rehearsal of a running etcd finds, judged as a run does."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from kubeadm.judging import judged

from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.declared.running import Process, find_process
from pytest_etcdtls.etcd.home import Server
from pytest_etcdtls.etcd.process import EtcdProcess
from pytest_etcdtls.target import Target

SELECTED = ("listener", "mtls", "tls", "cert", "restart")
"""Checks that observe what a rehearsal compares."""


def rehearsed(live: Target, *patterns: str) -> dict[str, CheckResult]:
    """Judge a target and rehearse its restart, and return the results of the family ``restart``."""
    results = judged(replace(live, rehearses=True), *(patterns or SELECTED))
    return {result.check: result for result in results if result.check.startswith("restart.")}


def process_of(server: Server) -> Process:
    """Return the process of an etcd that a test has started."""
    assert isinstance(server, EtcdProcess)
    assert server.pid is not None
    return find_process(server.pid)


def wrong(results: Mapping[str, CheckResult]) -> dict[str, list[str]]:
    """Return the messages of the checks that find something."""
    return {
        check: [finding.message for finding in result.findings]
        for check, result in results.items()
        if result.findings
    }


def assert_nothing_changes(live: Target) -> None:
    """Assert that the restart is rehearsed, and changes nothing."""
    results = rehearsed(live)
    assert {result.outcome for result in results.values()} == {Outcome.CONFORMS}, results


def unverified(results: Mapping[str, CheckResult]) -> str:
    """Return why nothing was rehearsed, which every check says."""
    assert {result.outcome for result in results.values()} == {Outcome.NOT_VERIFIED}
    [reason] = {result.reason for result in results.values()}
    return reason


def tree(directory: Path) -> dict[str, tuple[object, ...]]:
    """Return everything about every file of a tree: owner, mode, times, attributes and content."""
    found: dict[str, tuple[object, ...]] = {}
    for path in (directory, *sorted(directory.rglob("*"))):
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        attributes = {name: os.getxattr(path, name) for name in os.listxattr(path)}
        found[str(path)] = (
            *(status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns),
            *(status.st_ctime_ns, attributes, content),
        )
    return found
