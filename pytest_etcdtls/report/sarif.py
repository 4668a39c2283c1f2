"""The report as SARIF 2.1.0, for code scanning: checks are rules, faults are results.

Source: OASIS, Static Analysis Results Interchange Format (SARIF) Version 2.1.0.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from msgspec import to_builtins

from pytest_etcdtls.checks.registry import catalogue, why
from pytest_etcdtls.checks.results import CheckResult, Level, Outcome, Severity
from pytest_etcdtls.report.document import ResultEntry
from pytest_etcdtls.report.json import encoded, kept
from pytest_etcdtls.report.model import Report, tool
from pytest_etcdtls.report.overview import conclusion, exit_reason, undecided

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {Outcome.VIOLATES: "error", Outcome.WARNS: "warning", Outcome.WAIVED: "warning"}
"""The level of a result by outcome; what has no evidence is a note, so that no upload is without it."""
_SCORES = {
    Severity.CRITICAL: "9.5",
    Severity.HIGH: "8.0",
    Severity.MEDIUM: "5.5",
    Severity.LOW: "3.0",
    Severity.INFO: "1.0",
}
"""GitHub's ``security-severity``, from which it makes critical, high, medium and low."""
_MOST_LOCATIONS = 500
"""GitHub takes 1000 of a result."""


def render(report: Report, lost: list[str]) -> str:
    """Return the report as the text of a file, and append to ``lost`` the parts that are not in it."""
    return encoded(log(report, lost)) + "\n"


def log(report: Report, lost: list[str]) -> dict[str, Any]:
    """Return the report as a SARIF log with one run."""
    rules = sorted({result.check for result in report.results})
    index = {name: number for number, name in enumerate(rules)}
    results: list[tuple[Sequence[CheckResult], Sequence[CheckResult]]] = [
        (fault.results, fault.consequences) for fault in (*report.faults, *report.warnings)
    ]
    alone = (Outcome.WAIVED, Outcome.INCONCLUSIVE, Outcome.BROKEN)
    results += [((result,), ()) for result in report.results if result.outcome in alone]
    made = tool()
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": made.name,
                        "version": made.version,
                        "rules": list(kept("rule", rules, _rule, lost)),
                    }
                },
                "invocations": [_invocation(report)],
                "columnKind": "unicodeCodePoints",
                "results": list(kept("result", results, lambda located: _result(index, *located), lost)),
                "properties": {
                    "conclusion": conclusion(report).text,
                    "counts": report.counts,
                    "metadata": dict(report.metadata),
                },
            }
        ],
    }


def _rule(name: str) -> dict[str, Any]:
    check = catalogue().get(name)
    if check is None:  # a check of a plugin that is gone
        return {"id": name}
    explanation = " ".join(check.explanation.split())
    remedy = check.remedy(None)
    see = "; ".join(check.sources(None))
    return {
        "id": name,
        "shortDescription": {"text": check.requirement},
        "fullDescription": {"text": explanation or check.requirement},
        "help": {"text": f"{check.requirement}\n\n{explanation}\n\nRemedy: {remedy}\n\nSee: {see}"},
        "defaultConfiguration": {"level": "error" if check.level is Level.MUST else "warning"},
        "properties": {
            "tags": sorted({"security", "etcd", "tls", check.family, str(check.level)}),
            "precision": "very-high",
            "problem.severity": "error" if check.level is Level.MUST else "warning",
            "security-severity": _SCORES[check.severity],
        },
    }


def _result(
    index: dict[str, int],
    results: Sequence[CheckResult],
    consequences: Sequence[CheckResult],
) -> dict[str, Any]:
    first = results[0]
    entry: dict[str, Any] = {
        "ruleId": first.check,
        "ruleIndex": index[first.check],
        "level": _LEVELS.get(first.outcome, "note"),
        "message": {"text": _text(first)},
        "locations": [_location(result) for result in results[:_MOST_LOCATIONS]],
        "partialFingerprints": _fingerprints(first),
        "properties": {
            "outcome": first.outcome,
            "severity": first.severity,
            "requirementLevel": first.level,
            "target": first.target,
            "listeners": list(dict.fromkeys(result.listener for result in results)),
            "findings": [
                to_builtins(finding) for result in results for finding in ResultEntry.of(result).findings
            ],
        },
    }
    if consequences:
        entry["relatedLocations"] = [
            {
                **_location(result),
                "id": count,
                "message": {"text": _plain(f"follows: {result.check}: {result.message}")},
            }
            for count, result in enumerate(consequences[:_MOST_LOCATIONS], 1)
        ]
    if first.outcome is Outcome.WAIVED:
        entry["suppressions"] = [
            {"kind": "external", "status": "accepted", "justification": _plain(first.reason)}
        ]
    return entry


def _text(result: CheckResult) -> str:
    if not result.findings:
        return _plain(f"{result.outcome}: {result.reason}")
    finding = result.findings[0]
    lines = [result.message, f"Expected: {finding.expected}", f"Observed: {finding.observed}"]
    lines += [f"Remedy: {result.remediation}"] if result.remediation else []
    lines += [f"Why: {text}"] if (text := why(result)) else []
    return _plain("\n".join(lines))


def _plain(text: str) -> str:
    """Return a text in which a viewer finds no embedded link (section 3.11.6)."""
    return re.sub(r"\](?=\()", "] ", text)


def _location(result: CheckResult) -> dict[str, Any]:
    place = next(filter(None, (finding.place for finding in result.findings)), None)
    # No https URI: GitHub refuses a whole file for a scheme other than that of its checkout. It wants a line.
    physical: dict[str, Any] = {
        "artifactLocation": {
            "uri": quote(f"{result.target}/{result.listener}"),
            "description": {"text": result.url},
        },
        "region": {"startLine": 1},
    }
    if place is not None and place.line is not None:
        physical = {"artifactLocation": {"uri": _file(place.file)}, "region": {"startLine": place.line}}
    return {
        "physicalLocation": physical,
        "logicalLocations": [
            {
                "name": result.listener,
                "fullyQualifiedName": f"{result.target}::{result.listener}",
                "kind": "resource",
                "properties": {"url": result.url},
            }
        ],
    }


def _file(name: str) -> str:
    """Return a URI reference to a file, relative to the working directory for a file in it."""
    path = Path(name)
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())


def _fingerprints(result: CheckResult) -> dict[str, str]:
    """Return what identifies a fault in another run: check, target and listener, and no time or value."""
    subject = "\0".join((result.target, result.listener, result.check))
    digest = hashlib.sha256(subject.encode("utf-8", "replace")).hexdigest()
    # GitHub reads primaryLocationLineHash only. Without it, GitHub hashes a line of a file, if there is one.
    return {"etcdtlsFault/v1": digest, "primaryLocationLineHash": f"{digest[:16]}:1"}


def _invocation(report: Report) -> dict[str, Any]:
    stopped = report.partial or any(
        report.counts[outcome] for outcome in (Outcome.INCONCLUSIVE, Outcome.BROKEN)
    )
    return {
        "executionSuccessful": not stopped,
        "exitCode": report.status,
        "exitCodeDescription": exit_reason(report),
        "startTimeUtc": _time(report.started_at),
        "endTimeUtc": _time(report.started_at + timedelta(seconds=report.seconds)),
        "toolExecutionNotifications": list(_notifications(report)),
    }


def _notifications(report: Report) -> Iterator[dict[str, Any]]:
    for problem in report.problems:
        yield {"level": "error", "message": {"text": _plain(problem)}}
    for group in undecided(result for result in report.results if result.outcome is Outcome.NOT_RUN):
        names = ", ".join(group.checks)
        yield {"level": "error", "message": {"text": _plain(f"not-run: {group.reason} ({names})")}}


def _time(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
