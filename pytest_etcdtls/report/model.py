"""The report of a run, from which every format is made, and the faults among its results. Data only."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from cryptography.hazmat.backends.openssl.backend import backend
from msgspec import Struct

from pytest_etcdtls._version import __version__
from pytest_etcdtls.checks.registry import FOUND, catalogue
from pytest_etcdtls.checks.results import CheckResult, Level, Outcome, Severity
from pytest_etcdtls.errors import Reason
from pytest_etcdtls.facts.api import ClientExchange
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.profiles.profiles import FAILED, NO_PROFILES, Profiles, Strength
from pytest_etcdtls.profiles.waivers import Review
from pytest_etcdtls.report.document import TargetEntry, Tool
from pytest_etcdtls.role import CLUSTER, Role

if TYPE_CHECKING:
    from pytest_etcdtls.report.differences import ComparedTargets


def version_of(recording: Recording) -> str | None:
    """Return the version known before the run, else that of the first listener that answered ``/version``."""
    return next(iter(versions_of(recording)), None)


def versions_of(recording: Recording) -> list[str]:
    """Return the version known before the run, else those with which listeners answered ``/version``."""
    if recording.target.etcd_version is not None:
        return [recording.target.etcd_version]
    return list(dict.fromkeys(text for _, _, fact in recording.facts if (text := _version(fact)) is not None))


_SEVERITIES = list(Severity)


class Fault(Struct, frozen=True, kw_only=True):
    """A violation that follows from no other one, with its consequences.

    Attributes:
        results: the violation, one result for each listener on which it has the same remedy.
        consequences: the violations that follow from it, directly or indirectly.
    """

    results: tuple[CheckResult, ...]
    consequences: tuple[CheckResult, ...] = ()

    @property
    def first(self) -> CheckResult:
        """The result that represents the fault: the one of the first listener."""
        return self.results[0]

    @property
    def listeners(self) -> tuple[str, ...]:
        """The labels of the listeners that it concerns."""
        return tuple(dict.fromkeys(result.listener for result in self.results))

    @property
    def settings(self) -> tuple[str, ...]:
        """The lines of the declaration to write and to remove that cure it, each once."""
        return tuple(dict.fromkeys(line for result in self.results for line in result.settings))

    @property
    def size(self) -> int:
        """The number of violations of the fault: its own, and those that follow from it."""
        return len(self.results) + len(self.consequences)


class Report(Struct, frozen=True, kw_only=True, dict=True):
    """The report of a run.

    Attributes:
        started_at: start of the run; aware, UTC.
        seconds: duration of the run.
        partial: whether it ended before every selected check was judged.
        results: one result per selected check and listener.
        profiles: they move levels and thresholds.
        reviewed: the state of the waivers.
        left_out: how many further results the options leave out, by reason.
        deselected: the checks that the user left out on a listener (``--etcd-check``, ``-k``, node ids).
        strict: warnings fail the run (``--etcd-strict``).
        problems: what fails the run besides results, one sentence each.
        status: the exit code.
        targets: their entries in the document; empty if none is made yet, as where nothing is compared.
        comparisons: the differences between targets, and with the baseline.
        not_as_before: the problems that are differences.
        metadata: of the run, from the user, by key.
        not_read: the variable that names another cluster than the one that the run started; empty if none.
        keeps: the etcds that the run started are left running (``--etcd-keep``).
    """

    started_at: datetime
    seconds: float
    partial: bool
    seen: tuple[Recording, ...]
    results: tuple[CheckResult, ...]
    profiles: Profiles = NO_PROFILES
    reviewed: Review = Review()
    left_out: Mapping[str, int] = {}
    deselected: frozenset[str] = frozenset()
    strict: bool = False
    problems: tuple[str, ...] = ()
    status: int = 0
    targets: tuple[TargetEntry, ...] = ()
    comparisons: tuple[ComparedTargets, ...] = ()
    not_as_before: tuple[str, ...] = ()
    metadata: Mapping[str, str] = {}
    not_read: str = ""
    keeps: bool = False

    @cached_property
    def counts(self) -> Mapping[Outcome, int]:
        """The number of results for each outcome, including zeros."""
        counted = Counter(result.outcome for result in self.results)
        return {outcome: counted[outcome] for outcome in Outcome}

    @cached_property
    def by_place(self) -> Mapping[tuple[str, str, str], CheckResult]:
        """The results by target, label of the listener and check."""
        return {(result.target, result.listener, result.check): result for result in self.results}

    @cached_property
    def faults(self) -> list[Fault]:
        """The faults that fail the run."""
        return faults(self.results)

    @cached_property
    def warnings(self) -> list[Fault]:
        """The faults that only warn."""
        return faults(self.results, Outcome.WARNS)

    @cached_property
    def waived(self) -> list[Fault]:
        """The faults that would fail the run without their waivers."""
        found = faults(self.results, Outcome.WAIVED)
        return [fault for fault in found if self.strict or fault.first.level is Level.MUST]

    @cached_property
    def worst_first(self) -> list[Recording]:
        """The targets: the most severe fault first, then the most faults, then those without evidence."""
        severities: dict[str, list[int]] = {}
        for fault in self.faults:
            for label in {result.target for result in fault.results}:
                severities.setdefault(label, []).append(_SEVERITIES.index(fault.first.severity))
        failed = {result.target for result in self.results if result.outcome in FAILED}

        def rank(seen: Recording) -> tuple[int, int, bool]:
            own = severities.get(seen.target.label, [])
            return min(own, default=len(_SEVERITIES)), -len(own), seen.target.label not in failed

        return sorted(self.seen, key=rank)

    @cached_property
    def profile_notes(self) -> list[CheckResult]:
        """The results of which a profile makes a note, with the note as the reason."""
        checks = catalogue()
        return [
            result
            for result in self.results
            if result.outcome is Outcome.CONFORMS
            and result.why != Reason()
            and result.check in checks
            and self.profiles.level(
                checks[result.check], None if result.role == CLUSTER else Role(result.role)
            )
            is Strength.NOTE
        ]

    @property
    def connections(self) -> int:
        """The number of connections made."""
        return sum(len(seen.connections) for seen in self.seen)


def faults(results: Iterable[CheckResult], outcome: Outcome = Outcome.VIOLATES) -> list[Fault]:
    """Return the faults among the results, the most severe first, else in the order of the results.

    A violation whose cause is not among the results is a fault itself, so that none is hidden.

    Args:
        results: of one or several targets, with their causes.
        outcome: ``VIOLATES`` for faults that fail the run, ``WARNS`` for warnings, ``WAIVED``.
    """
    with_findings = [result for result in results if result.outcome in (*FOUND, outcome)]
    known = {(result.target, result.check, result.listener): result for result in with_findings}
    groups: dict[tuple[str, str, str], list[CheckResult]] = {}
    following: dict[tuple[str, str, str], list[CheckResult]] = {}
    for result in with_findings:
        root = root_of(result, known.get)
        key = (root.target, root.check, root.remediation)
        if root is not result:
            following.setdefault(key, []).append(result)
        elif result.outcome is outcome:
            groups.setdefault(key, []).append(result)
    made = [
        Fault(
            # Checks may have run in another order.
            results=tuple(sorted(alike, key=lambda result: (result.target, result.listener))),
            consequences=tuple(following.get(key, ())),
        )
        for key, alike in groups.items()
    ]
    return sorted(made, key=lambda fault: _SEVERITIES.index(fault.first.severity))


def root_of(result: CheckResult, known: Callable[[tuple[str, str, str]], CheckResult | None]) -> CheckResult:
    """Return the fault from which a violation follows in the end; the result itself if it is a fault.

    ``known`` returns a violation by target, check and listener.
    """
    seen = {(result.check, result.listener)}
    while result.cause is not None:
        place = (result.cause.check, result.cause.listener)
        above = known((result.target, *place))
        if above is None or place in seen:
            break
        seen.add(place)
        result = above
    return result


def tool() -> Tool:
    """Return the name and version of the tool that made the report."""
    return Tool(
        name="pytest-etcdtls",
        version=__version__,
        python=platform.python_version(),
        openssl=openssl_version(),
    )


def openssl_version() -> str:
    """Return the version of the OpenSSL library that is used for handshakes."""
    return backend.openssl_version_text()


def _version(fact: object) -> str | None:
    if not isinstance(fact, ClientExchange) or fact.path != "/version" or fact.attempt.response is None:
        return None
    version = fact.attempt.response.fields.get("etcdserver")
    return version if isinstance(version, str) else None
