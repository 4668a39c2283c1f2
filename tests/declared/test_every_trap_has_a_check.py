"""Each trap has one check that reports it."""

from __future__ import annotations

import pytest

from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.declared.traps import TRAPS
from pytest_etcdtls.declared.traps.trap import Trap
from pytest_etcdtls.results import Level

_SHOULD = {
    *("auto-tls-ignored", "trusted-ca-alone", "undocumented-key", "gateway-off-in-config-file"),
    *("unknown-variable", "san-check-off", "flag-given-twice"),
}
"""Traps by which nobody is accepted who should not be, but for the last three: one may be meant for something
else, one is there to be chosen, and of two flags the one in force may be the right one."""


def test_there_are_traps() -> None:
    assert len(TRAPS) >= 20
    assert len({trap.id for trap in TRAPS}) == len(TRAPS)


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.id)
def test_a_trap_has_a_check_of_its_name(trap: Trap) -> None:
    check = catalogue()[f"config.{trap.id}"]
    assert check.level is (Level.SHOULD if trap.id in _SHOULD else Level.MUST)
    assert check.cure is trap.cure
    assert bool(check.roles) is trap.on_the_wire, "a trap is of the target, unless the wire confirms it"
