"""The traps of declarations, a module per subject."""

from __future__ import annotations

from functools import lru_cache

from pytest_etcdtls.declared.declaration import DeclaredMember
from pytest_etcdtls.declared.traps import clients, does_not_start, revocation, unread
from pytest_etcdtls.declared.traps.trap import FoundTrap, Trap, TrapContext

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
    context = TrapContext.of(member, version)
    present = [match for trap in TRAPS for match in trap.find(context)]
    return tuple(sorted(present, key=lambda trap: trap.starts))
