"""Every check of the catalogue is silent on recorded etcds and finds its own counterexample.

Each message names the file to edit.
"""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
from conforming import add_to_recording, roles_of

import pytest_etcdtls.checks
from pytest_etcdtls.checks.registry import Check, catalogue
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.conforming import prove_check

EVERY = [
    pytest.param(check, role, id=f"{check.id}-{role}" if role else check.id)
    for check in catalogue().values()
    for role in roles_of(check)
]


@pytest.mark.parametrize(("check", "role"), EVERY)
def test_a_check_is_silent_on_recorded_etcds_and_finds_its_counterexample(
    check: Check, role: Role | None
) -> None:
    add_to_recording()
    prove_check(check, role)


def test_remediation_and_references_have_no_placeholder_left() -> None:
    texts = {
        (check.id, role, text)
        for check in catalogue().values()
        for role in Role
        for text in (check.remedy(role), *check.sources(role))
    }
    assert [said for said in texts if not said[-1] or "{" in said[-1]] == []


def test_ids_are_no_prefix_of_each_other() -> None:
    ids = sorted(catalogue())
    assert [(a, b) for a in ids for b in ids if a != b and b.startswith(a)] == []


@pytest.mark.parametrize(
    "path",
    sorted(Path(inspect.getfile(pytest_etcdtls.checks)).parent.glob("*.py")),
    ids=lambda path: path.stem,
)
def test_no_check_module_reads_a_clock(path: Path) -> None:
    called = {
        node.func.attr
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert called & {"now", "utcnow", "today", "time", "monotonic", "perf_counter"} == set()
