"""The hooks of the suite in a pytest session.

The suite needs no file and no argument: its collector is appended to those of the session, so a run judges
what pytest would run there and the suite. What an item finds is in its test report, the CheckResult itself.
What is written at the end is the report of the run.

A target is judged in one process, that of pytest-xdist's controller, since its checks share observations and
limits on connections. The clusters of a list are spread over the workers (``suite/listed.py``).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from functools import partial
from itertools import zip_longest
from typing import Any

import pytest
from msgspec.structs import replace

from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.options import VERBOSITY, Invocation
from pytest_etcdtls.profiles.waivers import write_proposal
from pytest_etcdtls.report import write_document
from pytest_etcdtls.report.baseline import Baseline, read_baseline
from pytest_etcdtls.report.from_run import report_of
from pytest_etcdtls.report.model import Report
from pytest_etcdtls.report.terminal import summary, verdict
from pytest_etcdtls.report.text import Line
from pytest_etcdtls.run.runner import Run, TargetRun
from pytest_etcdtls.suite.interruptions import Interruption, not_written
from pytest_etcdtls.suite.items import CheckItem, Items, carried, refuse_unknown_ids
from pytest_etcdtls.suite.problems import problems_of
from pytest_etcdtls.suite.reporting import Reporting, call_users_hooks, write_lines
from pytest_etcdtls.suite.state import is_distributed, run_of
from pytest_etcdtls.suite.waiting import Waiting
from pytest_etcdtls.target import PortCredentials, Target
from pytest_etcdtls.untrusted.printable import plural

_NAMED = 12
"""Maximum number of listeners of a target, and of other processes, that the header names, without ``-v``."""


def header(run: Run, *, every: bool) -> Iterator[str]:
    """Yield the lines about the targets.

    Args:
        run: the run.
        every: name every listener.
    """
    for target in run.targets:
        outline = target.outline
        if (source := target.source) is not None:
            yield f"  {outline.label}: {source.kind} of {source.location}, {source.why}"
        elif outline.unjudged:
            yield f"  {outline.label}: not judged: {outline.unjudged}"
        else:
            yield from _live(outline, every=every)
    others = run.settings.left_out
    yield from (f"  left out: {why}" for why in others[:_NAMED])
    if len(others) > _NAMED:
        yield f"  left out: {len(others) - _NAMED} more processes that look like an etcd"
    profiles = run.settings.profiles
    if profiles.profiles:
        names = ", ".join(profile.name for profile in profiles.profiles)
        why = f", as {profiles.applied}" if profiles.applied else ""
        yield f"  profile {names}{why}"
    if (plan := run.settings.replay) is not None:
        yield f"  replayed on each: member {plan.label} as {plan.declaration.source} declares it"
        yield from (f"  replayed otherwise: {note}" for note in plan.notes)


def _members(target: TargetRun) -> str:
    if not target.discovers:
        return "this is what is named; a run that judges adds what --etcd-discover finds"
    members = target.discovery.describe() if target.discovery else "the member list could not be requested"
    return f"{members}; {plural(len(target.outline.listeners), 'listener')}"


def _live(target: Target, *, every: bool) -> Iterator[str]:
    shown = target.listeners if every else target.listeners[:_NAMED]
    for listener in shown:
        address = f" by way of {':'.join(map(str, listener.connect_to))}" if listener.connect_to else ""
        address += f" via {listener.via.command}" if listener.via else ""
        yield f"  {target.label}: {listener.role} {listener.url}{address}"
    if left := len(target.listeners) - len(shown):
        yield f"  {target.label}: and {plural(left, 'more listener')}: -v names them"
    for other in target.unreached:
        yield f"  {target.label}: not judged: {other.role} listener of {other.member}: {other.reason}"
    for label, declared in sorted(target.declared.items()):
        yield f"  {target.label}: member {label} as {declared.declaration.source} declares it"
    for remark in target.remarks:
        yield f"  {target.label}: not used: {remark}"
    for host, log in sorted(target.logs.items()):
        yield f"  {target.label}: log of {host or 'every member'}: {log.name}"
    if target.rehearses:
        yield f"  {target.label}: its next restart is rehearsed"
    if target.discover:
        yield f"  {target.label}: --etcd-discover adds every member that the cluster lists"
    yield from (f"  {text}" for text in target.completed)
    yield from _credentials("client", target.client)
    if target.peer != target.client:
        yield from _credentials("peer", target.peer)


def _credentials(side: str, held: PortCredentials) -> Iterator[str]:
    parts = [
        f"{identity.name} {identity.certificate_file or identity.origin}" for identity in held.identities
    ]
    if held.server_ca:
        remark = f", which {held.server_ca.remark}" if held.server_ca.remark else ""
        parts.append(f"trust {held.server_ca.source}{remark}")
    if held.client_trust:
        trusts = "etcd's trusted CAs are looked for in" if held.client_trust.inferred else "etcd trusts"
        parts.append(f"{trusts} {held.client_trust.source}")
    if held.signing_key:
        parts.append(f"CA key {held.signing_key.key_file or held.signing_key.origin}")
    yield f"  {side} credentials: {', '.join(parts) or 'none'}"


CONSEQUENCE = "consequent"
"""Category of failed items whose violation follows from another one, in the counts of pytest's last line."""


class SuiteSession(Reporting):
    """The hooks of the process that reports on the targets of a run."""

    baseline: Baseline | None = None
    """The earlier run to compare with."""
    _report: Report | None = None

    def select(self, items: Iterable[pytest.Item]) -> None:
        """Record the items that remain to be run."""
        self.run.select(item.subject for item in items if isinstance(item, CheckItem))

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Record the selection."""
        if not is_distributed(self.config):
            self.select(session.items)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, object, object]:
        """Keep one report of a check that passes."""
        ended = yield
        # pytest's reporter keeps the reports of passed set-ups and teardowns under an empty key, and ignores
        # them: two for each check, with its whole result.
        terminal = self.terminal
        if carried(report) and terminal is not None and report.passed and not report.sections:
            kept = terminal.stats.get("", [])
            if kept and kept[-1] is report:
                kept.pop()
        return ended

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, Any] | None:
        """Return the category of a warning, and of a violation that follows from another one."""
        result = carried(report)
        if result and report.when == "call" and report.passed and result.outcome is Outcome.WARNS:
            return "passed", "w", ("WARNS", {"yellow": True})
        follows = result and result.outcome is Outcome.VIOLATES and result.cause
        if follows and report.when == "call" and report.failed:
            return CONSEQUENCE, "f", ("FOLLOWS", {"red": True})
        return None

    def describe_targets(self) -> Iterator[str]:
        """Yield the lines about the targets."""
        yield from header(self.run, every=self.config.get_verbosity(VERBOSITY) > 0)

    def pytest_report_collectionfinish(self) -> list[str]:
        """Return the lines about the members of a live cluster, with or without discovery."""
        live = [target for target in self.run.targets if target.outline.discover]
        return [f"etcd TLS: {target.outline.label}: {_members(target)}" for target in live]

    def finish(self, session: pytest.Session) -> int:
        """Write the reports, and return the exit code."""
        self.run.abandon()
        if self.interruption.received is not None:
            self.run.judge_recorded()
        self.run.judge_failed_starts()
        self.problems = [*problems_of(self.run, session, self.invocation)]
        status = int(session.exitstatus)
        if status != pytest.ExitCode.USAGE_ERROR:
            self._report = report = report_of(self.run, status, self.problems, self.baseline)
            self.problems += call_users_hooks(self.config, report)
            self._propose_waivers(report)
            self.write_reports(partial(write_document, report))
            status = self.run.exit_status(status, self.problems)
        return status

    def verdict(self, terminal: pytest.TerminalReporter, status: int) -> Iterator[Line]:
        """Yield the verdict."""
        if self._report is not None:
            report = replace(self._report, problems=tuple(self.problems), status=status)
            width = self.config.get_terminal_writer().fullwidth
            verbosity = terminal.config.get_verbosity(VERBOSITY)
            yield from verdict(report, width=width, verbosity=verbosity)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the summary of a run. What of it could not be shown fails the run."""
        if self._report is None:
            return
        verbosity = self.config.get_verbosity(VERBOSITY)
        lines = summary(
            self._report,
            width=self.config.get_terminal_writer().fullwidth,
            verbosity=verbosity,
            faults=verbosity > 0 and self.config.getoption("tbstyle") == "no",
        )
        with self.interruption.held():
            session = self.config.pluginmanager.get_plugin("session")
            if verbosity >= 0:
                terminalreporter.write_sep("=", "etcd TLS conformance")
            whole = write_lines(terminalreporter, lines)
            write_lines(terminalreporter, map(Line, ["", *self.written] if self.written else ()))
            if not whole and session is not None and session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _propose_waivers(self, report: Report) -> None:
        path = self.run.settings.write_waivers
        if path is None:
            return
        if not report.faults:
            self.written.append(f"no waivers are proposed in {path}: there is no fault")
            return
        violations = [result for fault in report.faults for result in fault.results]
        try:
            write_proposal(path, violations, report.started_at.date())
        except OSError as error:
            self.problems.append(not_written(f"waivers {path}", error))
        else:
            self.written.append(f"waivers to give reasons: {path}")


class Distribution:
    """Runs the checks of the suite in the process that controls pytest-xdist's workers."""

    def __init__(self, config: pytest.Config, items: Items, session: SuiteSession) -> None:
        self._config = config
        self._collecting = items
        self._session = session
        self._items: list[pytest.Item] = []
        self._distributed: int | None = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, bool | None, bool | None]:
        """Run our items, then those of the workers."""
        self._items = items = list(session.genitems(self._collecting.suite(session)))
        self._config.hook.pytest_collection_modifyitems(session=session, config=self._config, items=items)
        self._session.select(items)
        session.testscollected = len(items)
        # As pytest_runtestloop of pytest does it.
        for item, following in zip_longest(items, items[1:]):
            self._config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)
        return (yield)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Record the number of the workers' tests, which xdist uses as the total."""
        self._distributed = len(ids)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self) -> None:
        """Correct the total number of tests, from which the progress is computed."""
        session: pytest.Session | None = self._config.pluginmanager.get_plugin("session")
        if session is not None and session.testscollected == self._distributed:
            session.testscollected += len(self._items)
            self._distributed = None


def activate(config: pytest.Config, invocation: Invocation) -> None:
    """Register the suite in the controller of a run.

    Raises:
        pytest.UsageError: if a setting, a pattern or a node id cannot be used.
    """
    # Signals before the run: the last cleanup to be added is done first, and it stops the owned clusters.
    session = SuiteSession(config, invocation, Interruption.register(config), run_of(config))
    if (baseline := session.run.settings.baseline) is not None:
        try:
            session.baseline = read_baseline(baseline)
        except UsageError as error:
            raise pytest.UsageError(str(error)) from error
    refuse_unknown_ids(session.run, invocation.ids)
    Waiting.register(config, session.run)
    items = Items(session.run, invocation.ids, alone=False)
    config.pluginmanager.register(items, "etcdtls-items")
    config.pluginmanager.register(session, "etcdtls-session")
    if is_distributed(config) and invocation.alone:  # no test would run in a worker
        config.option.dist, config.option.tx = "no", []
    elif is_distributed(config):
        config.pluginmanager.register(Distribution(config, items, session), "etcdtls-distribution")
