"""The traps of declarations, a module per subject."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from pytest_etcdtls.declared.declaration import CRLFile, Declaration, DeclaredMember
from pytest_etcdtls.declared.traps import clients, does_not_start, revocation, unread
from pytest_etcdtls.declared.traps.trap import FoundTrap, Trap, TrapContext

TRAPS = tuple(
    trap
    for module in (does_not_start, unread, clients, revocation)
    for trap in vars(module).values()
    if isinstance(trap, Trap)
)
"""Every trap, in the order in which they are looked for."""


def find_traps(
    declaration: Declaration, version: str | None = None, crls: Mapping[str, CRLFile] | None = None
) -> tuple[FoundTrap, ...]:
    """Return the traps of a declaration, beginning with those that prevent etcd from starting.

    The arguments are those of :func:`~pytest_etcdtls.declared.effective.effective`.
    """
    context = TrapContext.of(declaration, version, crls)
    found = [found for trap in TRAPS for found in trap.find(context)]
    return tuple(sorted(found, key=lambda one: one.starts))


@lru_cache(maxsize=256)
def traps_of(member: DeclaredMember, version: str | None = None) -> tuple[FoundTrap, ...]:
    """Return the traps in a member's declaration for a version, cached by version."""
    return find_traps(member.declaration, version, member.crls)
