"""A trap in the declaration of a live cluster, and all that follows from it, are one fault."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from starting import start_process, write_manifest
from zoo.members import ZOO


@pytest.mark.etcd_version("3.5.33", "3.6", "3.7")
@pytest.mark.parametrize("name", ["client-auth-hidden", "peer-names-without-client-auth"])
def test_consequences_of_a_trap_are_one_fault(
    name: str, etcd_binary: Path, pytester: pytest.Pytester
) -> None:
    [member] = [one for one in ZOO if one.name == name]
    with start_process(member.config, etcd_binary) as cluster:
        [etcd] = cluster.members
        manifest = pytester.path / "etcd.yaml"
        write_manifest(etcd, manifest)
        options = [f"--etcd-config={manifest}", f"--etcd-pki-dir={etcd.file('server.crt').parent}"]
        ran = pytester.runpytest_subprocess(*options, "--etcd-report=report.json", "-p", "no:randomly")
    assert ran.ret == pytest.ExitCode.TESTS_FAILED
    report = json.loads((pytester.path / "report.json").read_text(encoding="utf-8"))
    found = [fault["check"] for fault in report["faults"] if fault["outcome"] == "violates"]
    assert found == list(member.faults or ())
    assert report["summary"]["violates"] > 10
