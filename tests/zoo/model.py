"""A member of the zoo: a deliberately misconfigured cluster and exactly what must be found on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from starting import start_process
from zoo import baseline

from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.sources import binary_version
from pytest_etcdtls.report.model import faults

Expectation = Mapping[str, Iterable[str]]
"""Check ids by listener: ``{"client": ["mtls.no-certificate"], "peer": []}``; ``cluster`` for the target."""

ALL_BUT_LIFECYCLE = ("!lifecycle",)
"""Patterns of ``--etcd-check``."""


_FAULTS_OF_THEIR_OWN = {"config.gateway-off-in-config-file"}
"""Found in addition to another fault on some versions of etcd, and independent of it."""


@dataclass(frozen=True, kw_only=True)
class Misconfigured:
    """One deliberately misconfigured cluster.

    Attributes:
        name: in ids and in ``docs/data/kill-matrix.csv``.
        what: what is wrong, one sentence.
        config: the cluster; one that an etcd's version cannot express is left out there.
        faults: the checks that follow from no other one; without, every check that finds something.
        violated: exactly the MUST checks that violate.
        warned: exactly the SHOULD checks that warn, without those of a conforming cluster (``baseline``).
        not_warned: those of a clean cluster that do not warn here, since they conform or do not apply.
        not_verified: exactly the checks that cannot be judged because something is missing.
        inconclusive: exactly the checks without evidence.
        after_start: changes the running cluster before it is judged.
        etcd: creates in a directory a program that changes the behaviour of etcd; ``None`` for etcd itself.
        checks: patterns of the checks. Most members need no lifecycle check: those start clusters of their
            own from the same etcd and do not depend on this configuration.
        lines: the lines of etcd that can be misconfigured so, all if empty.
        by_version: expectations that replace the ones above on some lines of etcd: ``{"3.4": {...}}``.
    """

    name: str
    what: str
    config: ClusterConfig
    faults: tuple[str, ...] = ()
    violated: Expectation = field(default_factory=dict)
    warned: Expectation = field(default_factory=dict)
    not_warned: Expectation = field(default_factory=dict)
    not_verified: Expectation = field(default_factory=dict)
    inconclusive: Expectation = field(default_factory=dict)
    after_start: Callable[[Cluster], None] | None = None
    etcd: Callable[[Path, Path], Path] | None = None
    checks: tuple[str, ...] = ALL_BUT_LIFECYCLE
    lines: tuple[str, ...] = ()
    by_version: Mapping[str, Mapping[str, Expectation]] = field(default_factory=dict)

    def is_of(self, version: str) -> bool:
        """Whether that version of etcd can have this misconfiguration."""
        return not self.lines or any(version == line or version.startswith(f"{line}.") for line in self.lines)

    def expected(self, version: str) -> dict[str, dict[str, set[str]]]:
        """Return the expected check ids by outcome and listener on that version of etcd."""
        expected = self._own(version)
        self._add_baseline(expected, version)
        return expected

    def found_by(self, version: str) -> dict[str, frozenset[str]]:
        """Return the ids of the checks that find the fault, by listener, on that version of etcd.

        What a clean cluster is warned about as well is not among them.
        """
        own = self._own(version)
        violated, warned = own[Outcome.VIOLATES], own[Outcome.WARNS]
        return {
            listener: frozenset(violated.get(listener, set()) | warned.get(listener, set()))
            for listener in sorted({*violated, *warned})
        }

    def named_faults(self, version: str) -> list[str]:
        """Return the ids of the checks that are faults on that version of etcd, in order."""
        own = {check for ids in self.found_by(version).values() for check in ids}
        named = {*self.faults} & own  # on another version nothing may follow from what is not found there
        return sorted(named | (own & _FAULTS_OF_THEIR_OWN) if named else own)

    def proves(self) -> set[str]:
        """Return the ids of the checks that find the fault on some version of etcd."""
        tables = [self.violated, self.warned]
        for changes in self.by_version.values():
            tables += [changes[outcome] for outcome in ("violates", "warns") if outcome in changes]
        return {check for table in tables for ids in table.values() for check in ids}

    def _own(self, version: str) -> dict[str, dict[str, set[str]]]:
        base: dict[str, Expectation] = {
            Outcome.VIOLATES: self.violated,
            Outcome.WARNS: self.warned,
            Outcome.NOT_VERIFIED: self.not_verified,
            Outcome.INCONCLUSIVE: self.inconclusive,
            Outcome.BROKEN: {},
        }
        for line, changes in self.by_version.items():
            if version == line or version.startswith(f"{line}."):
                base |= changes
        own = {
            str(outcome): {listener: set(ids) for listener, ids in expectation.items() if set(ids)}
            for outcome, expectation in base.items()
        }
        if version == "3.5.1":  # it has no TLS 1.3, of which a handshake tells
            for listener, ids in own[Outcome.NOT_VERIFIED].items():
                if "listener.answers" not in own[Outcome.VIOLATES].get(listener, ()):
                    ids.discard("tls.early-data")
        return own

    def _add_baseline(self, expected: dict[str, dict[str, set[str]]], version: str) -> None:
        """Add the warnings of a conforming cluster where nothing else is expected."""
        if self.checks != ALL_BUT_LIFECYCLE:
            return
        plain = {"client": self.config.client_scheme, "peer": self.config.peer_scheme}
        for listener, ids in baseline.of(self.config, version).items():
            otherwise = {check for table in expected.values() for check in table.get(listener, ())}
            added = ids - otherwise - set(self.not_warned.get(listener, ()))
            if added and plain.get(listener) != "http":
                expected[Outcome.WARNS].setdefault(listener, set()).update(added)


def start_member(member: Misconfigured, binary: Path, directory: Path) -> Cluster:
    """Start the member with that etcd and apply its change.

    Args:
        directory: for an etcd that is made for it.

    Raises:
        UsageError: if that version cannot be misconfigured so.
        ClusterStartError: if it does not start.
    """
    if not member.is_of(version := binary_version(binary)):
        raise UsageError(version)
    cluster = start_process(member.config, member.etcd(binary, directory) if member.etcd else binary)
    if member.after_start is not None:
        try:
            member.after_start(cluster)
        except BaseException:
            cluster.stop()
            raise
    return cluster


def start_or_skip(member: Misconfigured, binary: Path, directory: Path) -> Cluster:
    """Start the member as :func:`start_member`; skip the test if that version cannot be misconfigured so."""
    try:
        return start_member(member, binary, directory)
    except UsageError as error:
        pytest.skip(f"not to be expressed in this version: {error}")


def found(results: Iterable[CheckResult]) -> dict[str, dict[str, set[str]]]:
    """Return the check ids by outcome and listener, members merged, without those that conform."""
    outcomes = ("violates", "warns", "not-verified", "inconclusive", "broken")
    by_outcome: dict[str, dict[str, set[str]]] = {outcome: {} for outcome in outcomes}
    for result in results:
        if result.outcome in by_outcome:
            listener = result.listener.rpartition("-m")[0] or result.listener
            by_outcome[result.outcome].setdefault(listener, set()).add(result.check)
    return by_outcome


def found_faults(member: Misconfigured, version: str, results: Iterable[CheckResult]) -> list[str]:
    """Return the ids of the checks that are faults, without the warnings of a conforming cluster."""
    own, judged = member.found_by(version), list(results)
    return sorted(
        {
            fault.first.check
            for outcome in (Outcome.VIOLATES, Outcome.WARNS)
            for fault in faults(judged, outcome)
            for result in fault.results
            if result.check in own.get(result.listener.rpartition("-m")[0] or result.listener, ())
        }
    )


def explain(results: Iterable[CheckResult]) -> str:
    """Return every result that is not conforming, for the message of a failing test."""
    lines = []
    for result in results:
        if result.outcome not in (Outcome.CONFORMS, Outcome.NOT_APPLICABLE):
            lines.append(f"{result.listener} {result.check} {result.outcome}: {result.reason}")
            lines += [f"    {finding.message}; observed {finding.observed}" for finding in result.findings]
    return "\n".join(lines)
