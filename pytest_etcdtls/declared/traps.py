"""Every trap that a declaration holds, explained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Final

from pytest_etcdtls.declared.crl_file import CRLFile
from pytest_etcdtls.declared.declaration import Declaration
from pytest_etcdtls.declared.effective import effective
from pytest_etcdtls.declared.in_force import in_force
from pytest_etcdtls.declared.member import DeclaredMember
from pytest_etcdtls.declared.trap import Situation, Trap
from pytest_etcdtls.declared.traps_client_auth import CLIENT_AUTH_TRAPS
from pytest_etcdtls.declared.traps_crl import CRL_TRAPS
from pytest_etcdtls.declared.traps_merging import MERGING_TRAPS
from pytest_etcdtls.declared.traps_names import NAME_TRAPS
from pytest_etcdtls.declared.traps_startup import does_not_start

_EVERY: Final[tuple[Callable[[Situation], Iterator[Trap]], ...]] = (
    does_not_start,
    *MERGING_TRAPS,
    *CLIENT_AUTH_TRAPS,
    *NAME_TRAPS,
    *CRL_TRAPS,
)


def find_traps(
    declaration: Declaration, version: str | None = None, crls: Mapping[str, CRLFile] | None = None
) -> tuple[Trap, ...]:
    """Return the traps of a declaration, those that keep etcd from starting first.

    Args:
        declaration: of one member.
        version: of etcd; ``None`` takes the declaration's, and today's etcd if that tells none.
        crls: the CRL files that were looked at, by declared path.
    """
    done = effective(declaration, version, crls)
    situation = Situation(
        declaration=declaration,
        seen=in_force(declaration, done.version),
        effective=done,
        crls=crls or {},
    )
    found = [trap for look_for in _EVERY for trap in look_for(situation)]
    return tuple(sorted(found, key=lambda trap: trap.starts))


@lru_cache(maxsize=256)
def traps_of(member: DeclaredMember, version: str | None = None) -> tuple[Trap, ...]:
    """Return the traps in a member's declaration for that version, computed once for each version."""
    return find_traps(member.declaration, version, member.crls)
