"""The report of a run, from which every format is made. Data only."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from cryptography.hazmat.backends.openssl.backend import backend
from msgspec import Struct

from pytest_etcdtls._version import __version__
from pytest_etcdtls.checks.registry import Fault, catalogue, faults
from pytest_etcdtls.checks.results import CheckResult, Level, Outcome
from pytest_etcdtls.facts.api import ClientExchange
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.profiles.profiles import NO_PROFILES, Profiles, Strength
from pytest_etcdtls.report.document import Tool
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


class Report(Struct, frozen=True, kw_only=True, dict=True):
    """The report of a run.

    Attributes:
        started_at: start of the run; aware, UTC.
        seconds: duration of the run.
        partial: whether it ended before every selected check was judged.
        results: one result per selected check and listener.
        profiles: they move levels and thresholds.
        left_out: how many further results the options leave out, by reason.
        deselected: the checks that the user left out on a listener (``--etcd-check``, ``-k``, node ids).
        strict: warnings fail the run (``--etcd-strict``).
        problems: what fails the run besides results, one sentence each.
        status: the exit code.
        comparisons: the differences between targets, and with the baseline.
        not_as_before: the problems that are differences.
        metadata: of the run, from the user, by key.
        not_read: the variable that names another cluster than the one that the run started; empty if none.
    """

    started_at: datetime
    seconds: float
    partial: bool
    seen: tuple[Recording, ...]
    results: tuple[CheckResult, ...]
    profiles: Profiles = NO_PROFILES
    left_out: Mapping[str, int] = {}
    deselected: frozenset[str] = frozenset()
    strict: bool = False
    problems: tuple[str, ...] = ()
    status: int = 0
    comparisons: tuple[ComparedTargets, ...] = ()
    not_as_before: tuple[str, ...] = ()
    metadata: Mapping[str, str] = {}
    not_read: str = ""

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
    def profile_notes(self) -> list[CheckResult]:
        """The results of which a profile makes a note, with the note as the reason."""
        checks = catalogue()
        return [
            result
            for result in self.results
            if result.outcome is Outcome.CONFORMS
            and result.reason
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
