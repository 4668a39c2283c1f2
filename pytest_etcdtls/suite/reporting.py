"""The hooks of the process that reports at the end of a run, on one target or on a list of clusters."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path

import pytest

from pytest_etcdtls._version import __version__
from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.errors import message_line
from pytest_etcdtls.options import Invocation, has_summary, is_dry
from pytest_etcdtls.report.model import Report, openssl_version
from pytest_etcdtls.report.text import Line, wrapped
from pytest_etcdtls.run.runner import Run
from pytest_etcdtls.suite.interruptions import Interruption, not_written
from pytest_etcdtls.untrusted.printable import error_text, plural


def write_lines(terminal: pytest.TerminalReporter, lines: Iterable[Line]) -> bool:
    """Write lines; return whether nothing of them was lost."""
    whole = True
    for line in lines:
        terminal.write_line(line.text, **line.markup)
        whole &= not line.lost
    return whole


class Reporting:
    """The hooks of the process that reports at the end of the run."""

    def __init__(
        self, config: pytest.Config, invocation: Invocation, interruption: Interruption, run: Run
    ) -> None:
        self.config = config
        self.invocation = invocation
        self.interruption = interruption
        self.run = run
        self.problems: list[str] = []
        """What fails the run besides results, one sentence each."""
        self.written: list[str] = []
        """What was written elsewhere, one line each."""

    @property
    def terminal(self) -> pytest.TerminalReporter | None:
        """The reporter of pytest; ``None`` without one."""
        terminal: pytest.TerminalReporter | None = self.config.pluginmanager.get_plugin("terminalreporter")
        return terminal

    def describe_targets(self) -> Iterator[str]:
        """Yield the lines of the header about what is judged."""
        raise NotImplementedError

    def finish(self, session: pytest.Session) -> int:
        """Write the reports, and return the exit code."""
        raise NotImplementedError

    def verdict(self, terminal: pytest.TerminalReporter, status: int) -> Iterator[Line]:
        """Yield the lines that end the run."""
        raise NotImplementedError

    def write_reports(self, write: Callable[[Path], list[str] | None]) -> None:
        """Write each report; ``write`` returns the parts that are not in it."""
        for path in self.run.settings.reports:
            try:
                lost = write(path)
            except Exception as error:  # one format that cannot be written costs no other
                self.problems.append(not_written(f"report {path}", error))
            else:
                self.written.append(f"report: {path}")
                self.problems += [f"The report {path} is without {part}." for part in lost or ()]

    def pytest_report_header(self) -> list[str]:
        """Return the header: what is judged."""
        checks = plural(len(self.run.checks), "check")
        lines = [
            f"etcd TLS: pytest-etcdtls {__version__}, {openssl_version()}, {checks}",
            *self.describe_targets(),
        ]
        width = self.config.get_terminal_writer().fullwidth
        indented = ((line[: len(line) - len(line.lstrip())], line.strip()) for line in lines)
        return [line.text for indent, text in indented for line in wrapped(text, width, indent, "    ")]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        """Set the exit code and write the reports; show the verdict after everything else."""
        with self.interruption.held():
            if not is_dry(self.config):
                session.exitstatus = self.finish(session)
        try:
            yield
        finally:  # a plugin may fail, such as pytest's for --junitxml on a full disk
            terminal = self.terminal
            with self.interruption.held():
                lost = terminal and getattr(self.config.get_terminal_writer()._file, "lost", False)
                if terminal is None or lost or not has_summary(self.config):
                    sys.stderr.writelines(f"etcd TLS: {message_line(text)}\n" for text in self.problems)
                elif lines := [*self.verdict(terminal, int(session.exitstatus))]:
                    if self.config.get_verbosity() > -2:  # pytest writes one with -qq, too
                        terminal.write_line("")
                    write_lines(terminal, lines)


def call_users_hooks(config: pytest.Config, report: Report) -> Iterator[str]:
    """Call the users' hooks with the results of each target; yield a sentence for each that fails."""
    for seen in report.seen:
        label = seen.target.label
        results = [result for result in report.results if result.target == label]
        faults = [result for result in results if result.outcome is Outcome.VIOLATES and result.cause is None]
        try:
            config.hook.pytest_etcdtls_judged(
                config=config, target=seen.target, results=results, faults=faults
            )
        except Exception as error:  # a user's code must not cost the report
            yield f"A hook pytest_etcdtls_judged failed on {label}: {error_text(error)}."
