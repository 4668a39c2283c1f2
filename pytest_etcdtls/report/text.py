"""Results in words, as lines with a hint at how to show them. No terminal and no pytest here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pytest_etcdtls.results import CheckResult, Finding


@dataclass(frozen=True, slots=True)
class Line:
    """One line.

    Attributes:
        markup: names of pytest's terminal markup: ``red``, ``bold`` ...
    """

    text: str
    markup: dict[str, bool] = field(default_factory=dict)


def short_result(result: CheckResult) -> Iterator[Line]:
    """Yield what is wrong, what was expected, what was seen."""
    for finding in result.findings:
        yield Line(finding.message, {"red": True})
        yield Line(f"  expected: {finding.expected}")
        yield Line(f"  observed: {finding.observed}")
    if not result.findings:
        yield Line(f"{result.outcome}: {result.reason}", {"red": True})


def full_result(result: CheckResult) -> Iterator[Line]:
    """Yield everything there is to say."""
    yield from short_result(result)
    for finding in result.findings:
        yield from _reproduce(finding)
    if result.remediation:
        yield Line(f"remediation: {result.remediation}")
    for reference in result.references:
        yield Line(f"reference: {reference}")


def _reproduce(finding: Finding) -> Iterator[Line]:
    for line in finding.reproduce:
        yield Line(f"  $ {line}")
