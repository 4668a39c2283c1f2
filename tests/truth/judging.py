"""Our verdict: what a run with the options of a draw says, in this process."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from given import Given

from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.profiles.profiles import FAILED
from pytest_etcdtls.report.from_run import report_of
from pytest_etcdtls.report.overview import conclusion
from pytest_etcdtls.role import CLUSTER
from pytest_etcdtls.run.runner import Run
from pytest_etcdtls.settings.read import read_settings
from pytest_etcdtls.suite.items import subjects_of
from pytest_etcdtls.suite.problems import shortcomings
from truth.setting_up import Options

CHECKS = ("listener", "mtls", "config", "cert", "api", "cluster")
"""The families that are judged. Those of ``tls`` take most connections, and say nothing of who is let in."""

_SECONDS = "30"
"""For an attempt: etcd answers late where many draws run beside others."""


@dataclass(frozen=True)
class Verdict:
    """The verdict of a run.

    Attributes:
        line: as a run ends: CLEAN, 34 OF 198 CHECKS CLEAN, NOT CLEAN, NO VERDICT ...
        results: of every check on every listener.
        ports: of the listeners, by label.
        problems: what fails the run besides results.
        usage: the message of a usage error; then there is nothing else.
    """

    line: str
    results: tuple[CheckResult, ...] = ()
    ports: tuple[tuple[str, int], ...] = ()
    problems: tuple[str, ...] = ()
    usage: str = ""

    @property
    def clean(self) -> bool:
        return bool(re.match(r"(\d+ OF \d+ CHECKS )?CLEAN", self.line))

    def violated(self, port: int | None, *families: str) -> list[CheckResult]:
        """Return violations on the listener of a port, or on the whole target (``None``)."""
        return [
            result
            for result in self.on(port)
            if result.outcome is Outcome.VIOLATES and result.check.partition(".")[0] in families
        ]

    def on(self, port: int | None) -> list[CheckResult]:
        """Return the results on the listener of a port, or on the whole target (``None``)."""
        labels = {CLUSTER} if port is None else {label for label, of in self.ports if of == port}
        return [result for result in self.results if result.listener in labels]

    @property
    def failing(self) -> list[CheckResult]:
        """The results that fail the run."""
        return [result for result in self.results if result.outcome in FAILED]

    def describe(self) -> str:
        """Return the verdict with the results that fail it."""
        lines = [f"verdict: {self.line}"]
        for result in self.failing:
            why = "; ".join(finding.message for finding in result.findings) or result.reason
            cause = f" (follows from {result.cause.check} on {result.cause.listener})" if result.cause else ""
            lines.append(f"  {result.outcome} {result.check} on {result.listener}{cause}: {why}")
        return "\n".join([*lines, *(f"  problem: {problem}" for problem in self.problems)])


def judge(options: Options, checks: Sequence[str] = CHECKS) -> Verdict:
    """Judge the cluster that the options name."""
    try:
        settings = read_settings(Given(etcd_check=list(checks), etcd_timeout=_SECONDS, **options), live=True)
    except UsageError as error:
        return Verdict("USAGE", usage=str(error))
    run = Run(settings)
    (target,) = run.targets
    run.judge(subjects_of(run).values())
    problems = shortcomings(run)
    report = report_of(run, int(run.failed or bool(problems)), problems)
    return Verdict(
        conclusion(report).text,
        report.results,
        tuple((listener.label, listener.port) for listener in target.observer.target.listeners),
        tuple(problems),
    )
