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
from pytest_etcdtls.checks.registry import Check, catalogue, select
from pytest_etcdtls.errors import UsageError
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


# Selection by id, glob, family and source.


def _ids(*patterns: str) -> list[str]:
    return [check.id for check in select(patterns)]


def test_ids_globs_families_and_what_is_left_out() -> None:
    assert _ids("mtls.no-certificate") == ["mtls.no-certificate"]
    assert _ids() == sorted(_ids())
    assert {"mtls.announced-ca-present", "mtls.announced-ca-expected"} <= set(_ids("mtls.announced-*"))
    assert _ids("cert") == [id_ for id_ in catalogue() if id_.startswith("cert.")]
    assert set(_ids("!mtls")) == {id_ for id_ in _ids() if not id_.startswith("mtls.")}
    assert set(_ids("mtls", "!mtls.no-*")) == set(_ids("mtls")) - {"mtls.no-certificate"}


@pytest.mark.parametrize(("pattern", "source"), [("cis", "CIS Kubernetes"), ("rfc5280", "RFC 5280 ")])
def test_a_source(pattern: str, source: str) -> None:
    chosen = select([pattern])
    assert chosen
    assert all(any(line.startswith(source) for line in check.references) for check in chosen)


OPT_IN = "tls.stalled-handshake"


@pytest.mark.parametrize(
    ("patterns", "named"),
    [
        *((patterns, False) for patterns in ((), ("*",), ("tls",), ("!mtls",), ("rfc8446",))),
        *((patterns, True) for patterns in ((OPT_IN,), ("tls.stalled-*",), ("!mtls", OPT_IN))),
        (("tls.version-floor", OPT_IN, f"!{OPT_IN}"), False),
    ],
)
def test_an_opt_in_check_runs_if_it_is_named(patterns: tuple[str, ...], named: bool) -> None:
    assert _ids(*patterns)
    assert (OPT_IN in _ids(*patterns)) is named


def test_the_list_of_all_checks_has_the_opt_in_checks() -> None:
    assert OPT_IN in [check.id for check in select(opt_in=True)]
    assert OPT_IN not in [check.id for check in select(["mtls"], opt_in=True)]


@pytest.mark.parametrize("pattern", ["mtls.no-such-check", "!nothing", "rfc1"])
def test_a_pattern_that_matches_nothing_is_an_error(pattern: str) -> None:
    with pytest.raises(UsageError, match="matches no check"):
        select([pattern])
