"""Every check of the catalogue: quiet on a conforming sample, loud on its own counterexample.

Each message names the file to edit.
"""

from __future__ import annotations

import ast
import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conforming import sample

import pytest_etcdtls.checks
import pytest_etcdtls.observer
from pytest_etcdtls.catalog import catalogue
from pytest_etcdtls.errors import RegistrationError
from pytest_etcdtls.facts.probe import probe_for
from pytest_etcdtls.registry import Check
from pytest_etcdtls.results import CannotJudge, Finding, Statement
from pytest_etcdtls.role import Role

EVERY = [pytest.param(check, id=check.id) for check in catalogue().values()]


def _role(check: Check) -> str:
    """Return a role of those that the check judges, a client's if it can."""
    return Role.CLIENT if Role.CLIENT in check.roles or not check.roles else sorted(check.roles)[-1]


def _conforming(check: Check) -> dict[str, Any]:
    observations: dict[str, Any] = {}
    for name, need in check.needs.items():
        try:
            probe_for(need.type).refuse(need.key)
            observations[name] = sample(need, _role(check))
        except RegistrationError as error:
            pytest.fail(f"{_where(check)}, parameter {name!r}: {error}", pytrace=False)
    return observations | dict(check.conforming(**observations) if check.conforming else {})


def _where(check: Check) -> str:
    code = check.function.__code__
    return f"{check.id} ({code.co_filename}:{code.co_firstlineno})"


def _findings(statements: list[Statement]) -> list[Statement]:
    return [statement for statement in statements if isinstance(statement, Finding)]


@pytest.mark.parametrize("check", EVERY)
def test_quiet_on_what_conforms(check: Check) -> None:
    statements = list(check.function(**_conforming(check)))
    said = [said for said in statements if isinstance(said, Finding | CannotJudge)]
    samples = sorted({probe_for(need.type).module.replace(".", "/") for need in check.needs.values()})
    assert not said, (
        f"{_where(check)} is not silent about the conforming samples ({', '.join(samples)}): {said}. Correct "
        "the check, or return with @check(..., conforming=...) what a good etcd answers instead"
    )


@pytest.mark.parametrize("check", EVERY)
def test_loud_on_its_counterexample(check: Check) -> None:
    observations = _conforming(check)
    changed = dict(check.counterexample(**observations))
    assert changed, f"{_where(check)}: the counterexample changes nothing"
    assert set(changed) <= set(observations), (
        f"{_where(check)}: the counterexample returns {sorted(set(changed) - set(observations))}, which "
        "are no parameters of the check"
    )
    found = _findings(list(check.function(**(observations | changed))))
    assert found, f"{_where(check)} finds nothing in its own counterexample, which returned {changed}"
    for finding in found:
        assert isinstance(finding, Finding)
        assert finding.message
        assert finding.expected
        assert finding.observed


def test_a_check_may_say_what_a_good_etcd_answers_instead_of_the_sample() -> None:
    plain = catalogue()["api.version-body"]
    other = next(iter(_conforming(catalogue()["api.v2-disabled"]).values()))
    changed = _conforming(replace(plain, conforming=lambda exchange: {"exchange": other}))
    assert changed == {"exchange": other}
    assert changed != _conforming(plain)


def test_every_observation_that_is_asked_for_has_a_probe() -> None:
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
