"""How a result fails an item: the exceptions, and what pytest shows of them.

No traceback: what is wrong is out there, not in the code that found it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pytest_etcdtls.report.text import full_result, short_result
from pytest_etcdtls.results import CheckResult


class ViolationError(Exception):
    """What is out there does not keep a requirement."""

    def __init__(self, result: CheckResult) -> None:
        super().__init__(headline(result))
        self.result = result


class NoVerdictError(Exception):
    """A check came to no verdict: the evidence could not be got, or the check itself is broken."""

    def __init__(self, result: CheckResult) -> None:
        super().__init__(headline(result))
        self.result = result


@dataclass(frozen=True, slots=True)
class Crash:
    """What pytest's short summary and JUnit take as the message."""

    message: str


class Writer(Protocol):
    """What is needed of pytest's terminal writer."""

    def line(self, text: str, **markup: bool) -> None:
        """Write a line."""


class ResultRepr:
    """A result as pytest's ``longrepr``: short on the terminal, in full as text (JUnit, HTML)."""

    def __init__(self, result: CheckResult) -> None:
        self.result = result
        self.reprcrash = Crash(headline(result))

    def toterminal(self, writer: Writer) -> None:
        """Write the short form."""
        for line in short_result(self.result):
            writer.line(line.text, **line.markup)

    def __str__(self) -> str:
        return "\n".join(line.text for line in full_result(self.result))


def headline(result: CheckResult) -> str:
    """Return one line that says what is the matter."""
    text = result.findings[0].message if result.findings else result.reason
    more = f" (and {len(result.findings) - 1} more)" if len(result.findings) > 1 else ""
    return f"{result.outcome}: {text.partition(chr(10))[0]}{more}"
