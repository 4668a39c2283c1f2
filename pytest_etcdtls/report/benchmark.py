"""What a reader of flags says, item by item, beside what the wire says. Judges nothing anew."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pytest_etcdtls.declared.benchmark import BenchmarkItem, read_flags
from pytest_etcdtls.report.model import Report, Seen
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.role import Role

_SOURCE = "CIS Kubernetes "
_WORST_FIRST = (
    *(Outcome.VIOLATES, Outcome.BROKEN, Outcome.INCONCLUSIVE, Outcome.WARNS, Outcome.WAIVED),
    *(Outcome.CONFORMS, Outcome.NOT_VERIFIED, Outcome.NOT_RUN, Outcome.NOT_APPLICABLE),
)
_WRONG = frozenset({Outcome.VIOLATES, Outcome.WARNS, Outcome.WAIVED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One item of the benchmark for one member.

    Attributes:
        member: label of the member.
        flags: what a reader of its flags says.
        wire: the worst outcome of the checks that judge the same on the wire; ``None`` if none was selected.
        checks: those that came to it.
    """

    member: str
    flags: BenchmarkItem
    wire: Outcome | None
    checks: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether the wire says the opposite: an undecided one does not."""
        if self.flags.passes:
            return self.wire in _WRONG
        return self.wire is Outcome.CONFORMS


def compare(report: Report, seen: Seen) -> tuple[Comparison, ...]:
    """Return the comparison for every member of a target that is declared, item by item."""
    return tuple(
        _comparison(member, item, _of_member(report.results, seen, member))
        for member, told in sorted(seen.target.declared.items())
        for item in read_flags(told.declaration)
    )


def _of_member(results: Iterable[CheckResult], seen: Seen, member: str) -> list[CheckResult]:
    """Return the results about a member's listeners, and those about the whole target."""
    others = {listener.label for listener in seen.target.listeners if listener.member != member}
    return [
        result for result in results if result.target == seen.target.label and result.listener not in others
    ]


def _comparison(member: str, item: BenchmarkItem, results: Sequence[CheckResult]) -> Comparison:
    twins = [result for result in results if _is_about(result, item)]
    wire = next((worst for worst in _WORST_FIRST if any(found.outcome is worst for found in twins)), None)
    checks = {found.check for found in twins if found.outcome is wire}
    return Comparison(member=member, flags=item, wire=wire, checks=tuple(sorted(checks)))


def _is_about(result: CheckResult, item: BenchmarkItem) -> bool:
    side = "peer" if result.role == Role.PEER else "client"
    if result.role in set(Role) and side != item.side:
        return False
    return any(
        item.item in re.findall(r"\d+\.\d+", reference)
        for reference in result.references
        if reference.startswith(_SOURCE)
    )
