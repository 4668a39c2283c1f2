"""Each trap has one check that reports it."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from pytest_etcdtls.checks import config_traps
from pytest_etcdtls.declared import traps as declared_trap
from pytest_etcdtls.registry import catalogue
from pytest_etcdtls.results import Level

_SHOULD = {
    *("auto-tls-ignored", "trusted-ca-alone", "undocumented-key", "gateway-off-in-config-file"),
    *("unknown-variable", "san-check-off", "flag-given-twice"),
}
"""Traps by which nobody is accepted who should not be, but for the last three: one may be meant for something
else, one is there to be chosen, and of two flags the one in force may be the right one."""


def _ids(directory: Path, pattern: str, called: str) -> list[str]:
    """Return the ids with which something is called in the modules of a directory."""
    calls = [
        node
        for path in sorted(directory.glob(pattern))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == called
    ]
    return [
        value.value
        for call in calls
        for value in (*call.args[:1], *(word.value for word in call.keywords if word.arg == "id"))
        if isinstance(value, ast.Constant) and isinstance(value.value, str)
    ]


TRAPS = sorted(set(_ids(Path(inspect.getfile(declared_trap)).parent, "traps*.py", "Trap")))
CHECKS = Path(inspect.getfile(config_traps)).parent


def test_there_are_traps() -> None:
    assert len(TRAPS) >= 20


@pytest.mark.parametrize("id_", TRAPS)
def test_a_trap_has_a_check_of_its_name(id_: str) -> None:
    check = catalogue()[f"config.{id_}"]
    assert check.level is (Level.SHOULD if id_ in _SHOULD else Level.MUST)


def test_each_trap_check_judges_an_existing_trap() -> None:
    registered = _ids(CHECKS, "config_*.py", "trap_check")
    assert sorted(registered) == sorted(set(registered))
    assert sorted([*registered, "crl-missing"]) == TRAPS


def test_trap_checks_judge_the_target_and_no_listener() -> None:
    roles = {id_: catalogue()[f"config.{id_}"].roles for id_ in TRAPS}
    assert [id_ for id_, of in roles.items() if of] == ["crl-missing"]
