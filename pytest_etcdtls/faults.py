"""Faults and their consequences: which violation follows from which other one."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.registry import Check
from pytest_etcdtls.results import Ancestor, CheckResult, Finding, Outcome, Severity
from pytest_etcdtls.role import CLUSTER
from pytest_etcdtls.target import Listener

FOUND = (Outcome.VIOLATES, Outcome.WARNS)
"""Outcomes with findings that no waiver accepts."""

_SEVERITIES = list(Severity)

Lookup = Callable[[str, str], CheckResult | None]
"""Returns the result of a check (id, label of the listener) of one target, ``None`` if it was not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A violation that follows from no other one, with its consequences.

    Attributes:
        results: the violation, one result for each listener on which it has the same remedy.
        consequences: the violations that follow from it, also by way of others.
    """

    results: tuple[CheckResult, ...]
    consequences: tuple[CheckResult, ...] = ()

    @property
    def first(self) -> CheckResult:
        """The result that stands for the fault: the one of the first listener."""
        return self.results[0]

    @property
    def listeners(self) -> tuple[str, ...]:
        """The labels of the listeners that it concerns."""
        return tuple(dict.fromkeys(result.listener for result in self.results))

    @property
    def size(self) -> int:
        """The number of violations of the fault: its own, and those that follow from it."""
        return len(self.results) + len(self.consequences)


def ancestors(check: Check, checks: Mapping[str, Check]) -> list[str]:
    """Return the ids of the checks from which a violation of this one may follow, in its own order.

    Args:
        check: whose ``Follows:`` names ids and globs.
        checks: the checks that are known, by id.
    """
    found: dict[str, None] = {}
    for pattern in check.follows:
        found |= dict.fromkeys([pattern] if pattern in checks else fnmatch.filter(checks, pattern))
    found.pop(check.id, None)
    return list(found)


def cause_of(
    result: CheckResult, checks: Mapping[str, Check], listeners: Sequence[Listener], lookup: Lookup
) -> Ancestor | None:
    """Return the violation from which a violation follows directly, ``None`` for a fault.

    A violation follows from an ancestor's on the same listener, and from one on the whole target that
    concerns the listener. One on the whole target may follow from an ancestor's on any listener. A violation
    that fails the run follows only from one that fails it, too.

    Args:
        result: any result.
        checks: the checks of the run, by id.
        listeners: all listeners of the target.
        lookup: the results of the target.
    """
    if result.outcome not in FOUND or result.check not in checks:
        return None
    labels = [listener.label for listener in listeners]
    names = {f"{one.role}-{one.member}" for one in listeners if one.label == result.listener}
    places = (*labels, CLUSTER) if result.listener == CLUSTER else (result.listener, CLUSTER)
    for id_ in ancestors(checks[result.check], checks):
        for place in places:
            found = lookup(id_, place)
            if found is not None and _explains(found, result, names):
                return Ancestor(id_, place)
    return None


def _explains(ancestor: CheckResult, result: CheckResult, names: AbstractSet[str]) -> bool:
    """Whether an ancestor's result is a violation that can be the cause."""
    if ancestor.outcome not in FOUND or (ancestor.outcome, result.outcome) == (
        Outcome.WARNS,
        Outcome.VIOLATES,
    ):
        return False
    if ancestor.listener != CLUSTER or result.listener == CLUSTER:
        return True
    return any(_concerns(finding, result, names) for finding in ancestor.findings)


def _concerns(finding: Finding, result: CheckResult, names: AbstractSet[str]) -> bool:
    """Whether a finding about the whole target is about the listener of a result, ``ROLE-MEMBER`` by name."""
    if not finding.concerns or result.role in finding.concerns or not names.isdisjoint(finding.concerns):
        return True
    return any(result.listener == name or result.listener.startswith(f"{name}-") for name in finding.concerns)


def with_causes(
    results: Sequence[CheckResult], checks: Mapping[str, Check], listeners: Sequence[Listener]
) -> list[CheckResult]:
    """Return the results of one target with the cause of each violation that follows from another one."""
    known = {(result.check, result.listener): result for result in results}

    def lookup(check: str, listener: str) -> CheckResult | None:
        return known.get((check, listener))

    return [replace(result, cause=cause_of(result, checks, listeners, lookup)) for result in results]


def faults(results: Iterable[CheckResult], outcome: Outcome = Outcome.VIOLATES) -> list[Fault]:
    """Return the faults among the results, the most severe first, else in the order of the results.

    A violation whose cause is not among the results is a fault itself, so that none is hidden.

    Args:
        results: of one or several targets, with their causes.
        outcome: ``VIOLATES`` for faults that fail the run, ``WARNS`` for warnings.
    """
    found = [result for result in results if result.outcome in FOUND]
    known = {(result.target, result.check, result.listener): result for result in found}
    groups: dict[tuple[str, str, str], list[CheckResult]] = {}
    following: dict[tuple[str, str, str], list[CheckResult]] = {}
    for result in found:
        root = root_of(result, known)
        key = (root.target, root.check, root.remediation)
        if root is not result:
            following.setdefault(key, []).append(result)
        elif result.outcome is outcome:
            groups.setdefault(key, []).append(result)
    made = [
        Fault(results=tuple(sorted(alike, key=_place)), consequences=tuple(following.get(key, ())))
        for key, alike in groups.items()
    ]
    return sorted(made, key=lambda fault: _SEVERITIES.index(fault.first.severity))


def _place(result: CheckResult) -> tuple[str, str]:
    """Return what orders the results of a fault, also if checks were run in another order."""
    return result.target, result.listener


def root_of(result: CheckResult, known: Mapping[tuple[str, str, str], CheckResult]) -> CheckResult:
    """Return the fault from which a violation follows in the end; the result itself if it is a fault.

    Args:
        result: a violation.
        known: all violations, by target, check and listener.
    """
    for ancestor in _upwards(result, known):
        result = ancestor
    return result


def _upwards(result: CheckResult, known: Mapping[tuple[str, str, str], CheckResult]) -> Iterator[CheckResult]:
    seen = {(result.check, result.listener)}
    while result.cause is not None:
        place = (result.cause.check, result.cause.listener)
        above = known.get((result.target, *place))
        if above is None or place in seen:
            return
        seen.add(place)
        result = above
        yield result
