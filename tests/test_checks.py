"""Every check of the catalogue is silent on conforming samples and finds its own counterexample.

Each message names the file to edit.
"""

from __future__ import annotations

import ast
import inspect
from dataclasses import replace
from pathlib import Path

import pytest

import pytest_etcdtls.checks
import pytest_etcdtls.observer
from pytest_etcdtls.facts.probe import probe_for
from pytest_etcdtls.registry import Check, catalogue, conforming, prove_check
from pytest_etcdtls.role import Role

EVERY = [pytest.param(check, id=check.id) for check in catalogue().values()]


@pytest.mark.parametrize("check", EVERY)
def test_a_check_is_silent_on_samples_and_finds_its_counterexample(check: Check) -> None:
    prove_check(check)


def test_a_check_may_replace_the_conforming_sample() -> None:
    plain = catalogue()["api.version-body"]
    other = next(iter(conforming(catalogue()["api.v2-disabled"]).values()))
    changed = conforming(replace(plain, conforming=lambda exchange: {"exchange": other}))
    assert changed == {"exchange": other}
    assert changed != conforming(plain)


def test_every_needed_observation_has_a_probe() -> None:
    for check in catalogue().values():
        assert [probe_for(need.type) for need in check.needs.values()], check.id


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


def test_there_are_checks() -> None:
    assert len(EVERY) >= 23


@pytest.mark.parametrize(
    "path",
    sorted(Path(inspect.getfile(pytest_etcdtls.checks)).parent.glob("*.py")),
    ids=lambda path: path.stem,
)
def test_no_check_module_reads_a_clock(path: Path) -> None:
    called = {
        node.func.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert called & {"now", "utcnow", "today", "time", "monotonic", "perf_counter"} == set()
