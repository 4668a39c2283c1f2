"""The plugin's verdicts on the same cluster, from the report of the page's own command or judged here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from given import Given
from msgspec import convert

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.report.document import ResultEntry
from pytest_etcdtls.results import CheckResult
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.settings.read import read_live_target

IDENTITIES = {
    "mtls.no-certificate": "none",
    "mtls.foreign-ca": "foreign-ca",
    "mtls.lookalike-ca": "lookalike-ca",
    "mtls.self-signed": "self-signed",
    "mtls.expired": "expired",
    "mtls.not-yet-valid": "not-yet-valid",
    "mtls.server-auth-only": "server-auth-only",
}
"""Whom a check about refusals sends."""


class Ours:
    """The report of a run."""

    def __init__(self, report: Path) -> None:
        self._document: Mapping[str, Any] = json.loads(report.read_text(encoding="utf-8"))

    def outcomes(self, check: str) -> set[str]:
        """Return the outcomes of a check on every https listener that it judges, or on the whole target."""
        results = [convert(value, ResultEntry) for value in self._document["results"]]
        return {
            str(result.outcome)
            for result in results
            if result.check == check and (result.role != "metrics" or result.url.startswith("https:"))
        }

    def alerts(self, check: str, version: str) -> set[int | None]:
        """Return the alerts to the identity of a check in a TLS version, on every port and protocol."""
        purpose = f"bad identity {IDENTITIES[check]}"
        connections = self._document["connections"]
        return {seen["alert"] for seen in connections if (seen["purpose"], seen["tls"]) == (purpose, version)}


def judged(options: Sequence[str], checks: Iterable[str]) -> list[CheckResult]:
    """Return the outcomes on the target that the options name, as on the command line."""
    given: dict[str, list[str]] = {}
    for name, _, value in (word.removeprefix("--").partition("=") for word in options):
        given.setdefault(name.replace("-", "_"), []).append(value)
    several = {name: values if len(values) > 1 else values[0] or True for name, values in given.items()}
    target = read_live_target(Given(**several))
    return run_checks(Observer(target), select(sorted(checks)))
