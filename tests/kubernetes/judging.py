"""Runs of pytest on a machine of the cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kubernetes.machines import Machine

MANIFEST = "/etc/kubernetes/manifests/etcd.yaml"
ON_THE_NODE = (f"--etcd-config={MANIFEST}", "--etcd-pki-dir=/etc/kubernetes/pki/etcd")
"""The two options of docs/kubeadm.md."""


@dataclass(frozen=True)
class Judged:
    """The result of a run.

    Attributes:
        exit_code: of pytest.
        text: what it printed.
        report: its JSON report.
    """

    exit_code: int
    text: str
    report: dict[str, Any]

    @property
    def outcomes(self) -> dict[str, str]:
        """The outcomes, by URL and check."""
        return {f"{result['url']} {result['check']}": result["outcome"] for result in self.report["results"]}

    def reasons(self, outcome: str) -> set[str]:
        """Return the reasons of results with that outcome."""
        return {result["reason"] for result in self.report["results"] if result["outcome"] == outcome}


def judge(machine: Machine, *options: str) -> Judged:
    """Run pytest with these options and a JSON report."""
    report = machine.directory / "report.json"
    report.unlink(missing_ok=True)
    ran = machine.run(
        *("pytest", "-p", "no:cacheprovider", "--pyargs", "pytest_etcdtls", f"--etcd-report={report}"),
        *options,
        check=False,
    )
    assert report.exists(), ran.stdout + ran.stderr
    return Judged(ran.returncode, ran.stdout, json.loads(report.read_text(encoding="utf-8")))


@contextmanager
def edited_but_not_applied(node: Machine, old: str, new: str) -> Iterator[str]:
    """Change the manifest of a node whose kubelet is stopped, and change it back; yield the new text."""
    right = node.read(MANIFEST)
    wrong = right.replace(f" - {old}\n", f" - {new}\n", 1)
    assert wrong != right
    node.run("pkill", "--signal=STOP", "--exact", "kubelet")
    try:
        node.write(MANIFEST, wrong)
        yield wrong
    finally:
        node.write(MANIFEST, right)
        node.run("pkill", "--signal=CONT", "--exact", "kubelet")
