"""Lines of text for the terminal: wrapped and coloured, a result in full, or in one line."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from typing import TypeVar, cast

from pytest_etcdtls.catalog import requirement, why
from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.results import Ancestor, CheckResult, Finding
from pytest_etcdtls.untrusted import escaped, printable

WIDTH = 80

_CONTINUED = "  "
"""Prefix of further lines of a message: a text of others in it never begins a line of the terminal."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line; a character on which a terminal acts is written as its escape.

    Attributes:
        markup: names of pytest's terminal markup: ``red``, ``bold`` ...
        lost: the line stands for a part that could not be shown.
    """

    text: str = ""
    markup: Mapping[str, bool] = field(default_factory=dict)
    lost: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", escaped(self.text))


def bold(text: str) -> Line:
    """Return a heading."""
    return Line(text, {"bold": True})


def coloured(text: str, colour: str) -> Line:
    """Return a coloured line."""
    return Line(text, {colour: True})


def wrapped(text: str, width: int, first: str = "", rest: str | None = None) -> Iterator[Line]:
    """Yield a text in lines no longer than the width. A longer word is not broken.

    Args:
        text: the text. Its line breaks are kept.
        width: characters per line.
        first: prefix of the first line.
        rest: prefix of the other lines; ``None`` for as many spaces as ``first`` is long.
    """
    indent = " " * len(first) if rest is None else rest
    # Not splitlines(): it also splits at control characters, which a text of others may hold.
    for number, paragraph in enumerate(text.removesuffix("\n").split("\n")):
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


def follows_from(cause: Ancestor) -> str:
    """Return in one line that a violation is the consequence of another one."""
    return f"follows from {cause.check} on {cause.listener}"


def result_lines(result: CheckResult, width: int = WIDTH) -> Iterator[Line]:
    """Yield a result in full, or one line for the consequence of another violation."""
    if result.cause is None:
        yield from full_result(result, width)
    else:
        yield from (coloured(line.text, "red") for line in wrapped(follows_from(result.cause), width))


Section = TypeVar("Section", bound=Callable[..., Iterator[Line]])


def section(make: Section) -> Section:
    """Decorate a generator of lines: an error in it costs the rest of that section, and is shown."""

    @functools.wraps(make)
    def lines(*values: object, **named: object) -> Iterator[Line]:
        try:
            yield from make(*values, **named)
        except Exception as error:
            text = f"This part could not be shown: {type(error).__name__}: {printable(str(error))}"
            yield Line(text, {"red": True}, lost=True)

    return cast("Section", lines)


@section
def full_result(result: CheckResult, width: int = WIDTH) -> Iterator[Line]:
    """Yield the full description of a result; without findings, outcome and reason."""
    if not result.findings:
        reason = f"{result.outcome}: {result.reason}"
        yield from (coloured(line.text, "red") for line in wrapped(reason, width, "", _CONTINUED))
        return
    if result.cause is not None:
        yield from wrapped(follows_from(result.cause), width)
    for finding in result.findings:
        yield from (coloured(line.text, "red") for line in wrapped(finding.message, width, "", _CONTINUED))
        yield from _finding(finding, width)
        yield from (
            Line(f"    {name}: {line}")
            for name, value in finding.evidence.items()
            for line in value.split("\n")
        )
        yield from _reproduce(finding)
    for label, text in (("requires:", requirement(result)), ("why:", why(result))):
        if text:
            yield from wrapped(text, width, f"  {label:<9} ")
    if result.remediation:
        yield from wrapped(result.remediation, width, "  remedy:   ")
    if result.reason:
        yield from wrapped(result.reason, width, "  note:     ")
    for reference in result.references:
        yield from wrapped(reference, width, "  see:      ")


def _finding(finding: Finding, width: int) -> Iterator[Line]:
    yield from wrapped(finding.expected, width, "  expected: ")
    yield from wrapped(finding.observed, width, "  observed: ")


def _reproduce(finding: Finding) -> Iterator[Line]:
    """Yield the commands to paste, unwrapped."""
    if finding.reproduce:
        yield Line("  reproduce:")
    for text in finding.reproduce:
        yield from (Line(f"    {line}") for line in text.splitlines())
