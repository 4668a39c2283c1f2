"""Shows a run's summary in pytest's terminal, and its problems on stderr where there is none.

Writes lines that others made.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import pytest

from pytest_etcdtls.conformance.ledger import Ledger
from pytest_etcdtls.report.model import Report
from pytest_etcdtls.report.summary import summary
from pytest_etcdtls.report.text import Line, coloured, wrapped

TITLE = "etcd TLS conformance"


def show(
    terminal: pytest.TerminalReporter,
    report: Report,
    ledger: Ledger,
    closing: Sequence[str],
    problems: Sequence[str],
) -> None:
    """Write the summary section.

    Args:
        terminal: pytest's.
        report: of the run.
        ledger: of the run.
        closing: what else there is to say, such as files written.
        problems: what fails the run besides results.
    """
    width = terminal._tw.fullwidth
    terminal.write_sep("=", TITLE)
    _write(
        terminal,
        summary(report, ledger.review_waivers(), width=width, verbosity=terminal.verbosity),
    )
    for text in problems:
        terminal.write_line("")
        _write(terminal, (coloured(line.text, "red") for line in wrapped(text, width)))
    if closing:
        terminal.write_line("")
    for text in closing:
        for line in text.splitlines():
            terminal.write_line(line)


def show_without_terminal(problems: Iterable[str]) -> None:
    """Write the problems to stderr."""
    for text in problems:
        sys.stderr.write(f"etcd TLS: {text}\n")


def _write(terminal: pytest.TerminalReporter, lines: Iterable[Line]) -> None:
    for line in lines:
        terminal.write_line(line.text, **line.markup)
