"""Declarations that do something else than they say: what the checks of all traps have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pytest_etcdtls.declared.standing import Declarations, MemberDeclaration
from pytest_etcdtls.declared.trap import Trap
from pytest_etcdtls.registry import CheckFunction, Counterexample, check
from pytest_etcdtls.results import Finding, Outcome, Statement, Verdict


def trap_check(id_: str) -> Callable[[CheckFunction], CheckFunction]:
    """Register the check of a trap, of the whole target: ``config.`` and the id of the trap."""
    return check(f"config.{id_}", on=set(), counterexample=_trapped(id_))


def _trapped(id_: str) -> Counterexample:
    """Return the counterexample: the first member's declaration holds that trap."""

    def with_trap(declarations: Declarations) -> Mapping[str, Any]:
        first, *others = declarations.members
        trap = Trap(id=id_, summary="it does something else", why="it is a trap", remedy="write it otherwise")
        members = (replace(first, traps=(*first.traps, trap)), *others)
        return {"declarations": Declarations(members)}

    return with_trap


def judge_traps(declarations: Declarations, id_: str) -> Iterator[Statement]:
    """Yield a finding for every trap of that id, not-verified for one that is not certain."""
    for member in declarations.members:
        for trap in member.traps:
            if trap.id != id_:
                continue
            if trap.certain:
                yield _finding(member, trap)
            else:
                yield Verdict(
                    Outcome.NOT_VERIFIED,
                    f"{member.label}: {trap.summary}; this depends on the version of etcd, {_of(member)}",
                )


def _of(member: MemberDeclaration) -> str:
    if member.version is None:
        return "which is not known: pass a client certificate that is accepted"
    return f"and {member.version} is newer than those that are known here: see its release notes"


def _finding(member: MemberDeclaration, trap: Trap) -> Finding:
    message = f"{member.label}: {trap.summary}"
    if not trap.starts and member.version is not None:
        message += (
            f"; etcd {member.version} runs, so it was started with something else, and will not come up "
            "again with this"
        )
    evidence = {"member": member.label, "why": trap.why, "etcd": member.version or "of unknown version"}
    if trap.listeners:
        evidence["listeners"] = ", ".join(trap.listeners)
    return Finding(
        message=message,
        expected=trap.remedy,
        observed="; ".join(map(str, trap.settings)) or member.told.declaration.source,
        evidence=evidence,
    )
