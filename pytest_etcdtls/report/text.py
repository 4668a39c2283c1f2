"""Lines of text with a hint at how to show them, and single results in words. No terminal, no pytest."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pytest_etcdtls.catalog import catalogue
from pytest_etcdtls.results import CheckResult, Finding

WIDTH = 80


@dataclass(frozen=True, slots=True)
class Line:
    """One line.

    Attributes:
        markup: names of pytest's terminal markup: ``red``, ``bold`` ...
    """

    text: str = ""
    markup: Mapping[str, bool] = field(default_factory=dict)


def bold(text: str) -> Line:
    """Return a heading."""
    return Line(text, {"bold": True})


def coloured(text: str, colour: str) -> Line:
    """Return a line in a colour."""
    return Line(text, {colour: True})


def wrapped(text: str, width: int, first: str = "", rest: str | None = None) -> Iterator[Line]:
    """Yield a text in lines no longer than the width; a word that is longer is not broken.

    Args:
        text: its own line breaks are kept.
        width: characters per line.
        first: what the first line begins with.
        rest: what the others begin with, as many blanks if ``None``.
    """
    indent = " " * len(first) if rest is None else rest
    for number, paragraph in enumerate(text.splitlines() or [""]):
        begin = first if number == 0 else indent
        lines = textwrap.wrap(
            paragraph,
            width,
            initial_indent=begin,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        yield from (Line(line) for line in lines or [begin.rstrip()])


def short_result(result: CheckResult, width: int = WIDTH) -> Iterator[Line]:
    """Yield what is wrong, what was expected and what was seen."""
    for finding in result.findings:
        yield from (coloured(line.text, "red") for line in wrapped(finding.message, width))
        yield from _finding(finding, width)
    if not result.findings:
        yield from (
            coloured(line.text, "red") for line in wrapped(f"{result.outcome}: {result.reason}", width)
        )


def full_result(result: CheckResult, width: int = WIDTH) -> Iterator[Line]:
    """Yield everything there is to say about a result that found something."""
    if not result.findings:
        yield from short_result(result, width)
        return
    for finding in result.findings:
        yield from (coloured(line.text, "red") for line in wrapped(finding.message, width))
        yield from _finding(finding, width)
        yield from (
            Line(f"    {name}: {line}")
            for name, value in finding.evidence.items()
            for line in value.splitlines()
        )
        yield from _reproduce(finding)
    yield from wrapped(why(result), width, "  why:      ")
    if result.remediation:
        yield from wrapped(result.remediation, width, "  remedy:   ")
    if result.reason:
        yield from wrapped(result.reason, width, "  note:     ")
    for reference in result.references:
        yield from wrapped(reference, width, "  see:      ")


def why(result: CheckResult) -> str:
    """Return the requirement and why it matters, empty for a check that is not in the catalogue."""
    check = catalogue().get(result.check)
    if check is None:
        return ""
    return f"{check.requirement} {' '.join(check.explanation.split())}".strip()


def _finding(finding: Finding, width: int) -> Iterator[Line]:
    yield from wrapped(finding.expected, width, "  expected: ")
    yield from wrapped(finding.observed, width, "  observed: ")


def _reproduce(finding: Finding) -> Iterator[Line]:
    """Yield the lines to paste as they are: a shell takes no others."""
    if finding.reproduce:
        yield Line("  reproduce:")
    for text in finding.reproduce:
        yield from (Line(f"    {line}") for line in text.splitlines())
