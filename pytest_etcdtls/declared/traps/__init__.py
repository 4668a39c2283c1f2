"""The traps of declarations, a module per subject."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from msgspec.structs import replace

from pytest_etcdtls.declared.declaration import DeclaredMember, Via, as_meant, meant_by
from pytest_etcdtls.declared.effective import effective_of
from pytest_etcdtls.declared.traps import clients, does_not_start, revocation, unread
from pytest_etcdtls.declared.traps.trap import FoundTrap, Trap

TRAPS = tuple(
    trap
    for module in (does_not_start, unread, clients, revocation)
    for trap in vars(module).values()
    if isinstance(trap, Trap)
)
"""Every trap, in the order in which they are looked for."""


@lru_cache(maxsize=256)
def traps_of(member: DeclaredMember, version: str | None = None) -> tuple[FoundTrap, ...]:
    """Return the traps in a member's declaration for a version, cached by version.

    Those that prevent etcd from starting come first.
    """
    etcd = effective_of(member, version)
    present = [match for trap in TRAPS for match in trap.find(etcd)]
    misspelt, right = member.declaration, as_meant(member.declaration, Via.KEY, Via.VARIABLE)
    if right.unknown != misspelt.unknown:
        known = {match.summary for match in present}
        later = traps_of(replace(member, declaration=right), version)
        new = [match for match in later if match.summary not in known]
        present = [
            _with_what_follows(match, new) if {*match.settings}.intersection(misspelt.unknown) else match
            for match in present
        ]
    return tuple(sorted(present, key=lambda trap: trap.starts))


def _with_what_follows(match: FoundTrap, new: Iterable[FoundTrap]) -> FoundTrap:
    """Return the trap of a misspelt setting with the remedies of those that it leads to if spelled right."""
    right = {meant_by(setting) for setting in match.settings}
    further = "".join(f"; then {trap.remedy}" for trap in new if right.intersection(trap.settings))
    whole = match.remediation and match.remediation + further
    return replace(match, remedy=match.remedy + further, remediation=whole)
