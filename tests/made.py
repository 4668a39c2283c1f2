"""Results and reports that no run has made."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pytest_etcdtls.checks.results import CheckResult, Finding, Level, Outcome, Severity
from pytest_etcdtls.errors import Reason
from pytest_etcdtls.report.model import Report


def made_result(outcome: Outcome, check: str = "cert.trusted", **fields: Any) -> CheckResult:
    """Return a result on a client listener, with a finding if it is one."""
    finds = outcome in (Outcome.VIOLATES, Outcome.WARNS)
    usual: dict[str, Any] = {
        "level": Level.MUST,
        "severity": Severity.HIGH,
        "target": "live",
        "listener": "client-m0",
        "role": "client",
        "url": "https://10.0.0.11:2379",
        "findings": (Finding(message="it is wrong", expected="right", observed="wrong"),) if finds else (),
        "remedies": ("mend it",) if finds else (),
    }
    fields["why"] = Reason.of(fields.pop("reason", ""))
    return CheckResult(check=check, outcome=outcome, **(usual | fields))


def made_secret(name: str, kind: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    """Return a Secret of Kubernetes with these values, as kubectl prints it in JSON."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "kube-system"},
        "type": kind,
        "data": {key: base64.b64encode(content).decode() for key, content in files.items()},
    }


def made_report(*results: CheckResult, **fields: Any) -> Report:
    """Return the report of a run that has ended."""
    usual: dict[str, Any] = {
        "started_at": datetime(2030, 1, 1, tzinfo=UTC),
        "seconds": 1.0,
        "partial": False,
        "seen": (),
    }
    return Report(results=results, **(usual | fields))
