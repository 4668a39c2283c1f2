"""Outcomes follow from observations, gates and the statements of a check."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import pytest
from conforming import sample, sample_listener
from msgspec.structs import replace
from starting import start_process

from pytest_etcdtls.checks.registry import GATES, Check, catalogue
from pytest_etcdtls.checks.results import (
    Ancestor,
    CannotJudge,
    CheckResult,
    Finding,
    Level,
    Note,
    Outcome,
    Severity,
    Statement,
)
from pytest_etcdtls.errors import (
    InconclusiveError,
    NotApplicableError,
    NotVerifiedError,
    Reason,
    UnobservedError,
    UsageError,
)
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.facts.access import ServedClient
from pytest_etcdtls.facts.fact import Need
from pytest_etcdtls.facts.listener import FirstContact, Policy
from pytest_etcdtls.profiles.profiles import NO_PROFILES
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import Judge, Subject, run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.run.workers import SharedLock
from pytest_etcdtls.target import Listener, Target

LISTENER = Listener(role=Role.PEER, scheme="https", host="127.0.0.1", port=2380, member="m0", label="peer-m0")
CONTACT = sample(Need(FirstContact), "peer")
FINDING = Finding(message="wrong", expected="right", observed="left")


def test_another_server_is_found_even_if_it_was_abandoned_early() -> None:
    gate, here = catalogue()["listener.is-etcd"], sample_listener(Role.CLIENT)
    served = sample(Need(ServedClient), "client")
    [finding] = gate.function(here=here, other=None, **gate.counterexample(served=served))
    assert isinstance(finding, Finding)
    assert finding.message == "the server that answers is not etcd"
    [unknown] = gate.function(here=here, other=None, served=served)
    assert isinstance(unknown, CannotJudge)
    assert unknown.outcome is Outcome.NOT_VERIFIED


class _Observer:
    """Hands out nothing but a good first contact, or raises what it was given, by observation type."""

    given_up: Mapping[str, Reason] = MappingProxyType({})
    why_closed: Mapping[str, Reason] = MappingProxyType({})
    ended = False
    work_lock = SharedLock()

    def __init__(self, raises: dict[type[Any], UnobservedError] | None = None) -> None:
        self.target = Target(label="t", origin="live", listeners=(LISTENER,))
        self._raises = raises or {}

    def get(self, type_: type[Any], key: str | None = None, listener: Listener | None = None) -> object:
        if type_ is FirstContact:
            return CONTACT
        if type_ in self._raises:
            raise self._raises[type_]
        return object()

    def read(self, need: Need, listener: Listener | None) -> object:
        return self.get(need.type, need.key, listener)


def _check(
    body: Callable[[], Iterator[Statement]], level: Level = Level.MUST, id_: str = "cert.sample"
) -> Check:
    return Check(
        id=id_,
        requirement="Something holds.",
        explanation="",
        references=("RFC 5280 section 4.1",),
        severity=Severity.HIGH,
        level=level,
        level_text=level,
        remediation="set --{peer}cert-file",
        roles=frozenset(Role),
        needs={"facts": Need(Policy)},
        function=lambda facts: body(),
        counterexample=lambda **_: {},
    )


@pytest.fixture
def gates(monkeypatch: pytest.MonkeyPatch) -> dict[str, Check]:
    """Gates that let everything through, to be replaced one by one."""
    checks = {gate: _check(lambda: iter(()), id_=gate) for gate in GATES}
    monkeypatch.setattr("pytest_etcdtls.run.judge.catalogue", lambda: checks)
    return checks


def _says(*statements: Statement) -> Callable[[], Iterator[Statement]]:
    return lambda: iter(statements)


def _judge(check: Check, observer: _Observer | None = None, *, strict: bool = False) -> CheckResult:
    return Judge(cast("Observer", observer or _Observer()), strict=strict).result(check, LISTENER)


def test_a_check_that_is_not_run_has_the_references_of_its_port() -> None:
    check = replace(_check(lambda: iter(())), references=("etcd --{peer}cert-file",))
    target = Target(label="t", origin="live", listeners=(LISTENER,))
    result = Subject.of(check, target, LISTENER.label, LISTENER, NO_PROFILES).with_outcome(Outcome.NOT_RUN)
    assert result.references == ("etcd --peer-cert-file",)


INCONCLUSIVE = CannotJudge(Outcome.INCONCLUSIVE, "who knows")
NOT_VERIFIED = CannotJudge(Outcome.NOT_VERIFIED, "pass this")
NOT_APPLICABLE = CannotJudge(Outcome.NOT_APPLICABLE, "none here")


@pytest.mark.usefixtures("gates")
@pytest.mark.parametrize(
    ("statements", "outcome", "reason"),
    [
        ((), Outcome.CONFORMS, ""),
        ((Note("by the way"), Note("by the way")), Outcome.CONFORMS, "by the way"),
        ((FINDING, INCONCLUSIVE, NOT_VERIFIED), Outcome.VIOLATES, ""),
        ((NOT_VERIFIED, INCONCLUSIVE), Outcome.INCONCLUSIVE, "who knows"),
        ((NOT_APPLICABLE, NOT_VERIFIED), Outcome.NOT_VERIFIED, "pass this"),
        ((NOT_APPLICABLE, Note("x")), Outcome.NOT_APPLICABLE, "none here"),
    ],
)
def test_the_worst_statement_decides(
    statements: tuple[Statement, ...], outcome: Outcome, reason: str
) -> None:
    result = _judge(_check(_says(*statements)))
    assert (result.outcome, result.reason) == (outcome, reason)


_LOWER = dataclasses.replace(FINDING, level=Level.SHOULD, remediation="renew --{peer}cert-file")
_ON_CLIENTS: dict[str, Any] = {"must_on": frozenset({Role.CLIENT})}
_LOWERS: dict[str, Any] = {"lowers": True}


@pytest.mark.usefixtures("gates")
@pytest.mark.parametrize(
    ("findings", "level", "strict", "fields", "outcome", "remediation"),
    [
        ((FINDING,), Level.MUST, False, {}, Outcome.VIOLATES, "set --peer-cert-file"),
        ((FINDING,), Level.SHOULD, False, {}, Outcome.WARNS, "set --peer-cert-file"),
        ((FINDING,), Level.SHOULD, True, {}, Outcome.VIOLATES, "set --peer-cert-file"),
        ((FINDING,), Level.MUST, False, _ON_CLIENTS, Outcome.WARNS, "set --peer-cert-file"),
        ((_LOWER,), Level.MUST, False, _LOWERS, Outcome.WARNS, "renew --peer-cert-file"),
        (
            (_LOWER, FINDING),
            *(Level.MUST, False, _LOWERS, Outcome.VIOLATES),
            "renew --peer-cert-file; set --peer-cert-file",
        ),
    ],
)
def test_level_and_strictness(
    findings: tuple[Finding, ...],
    level: Level,
    strict: bool,
    fields: dict[str, Any],
    outcome: Outcome,
    remediation: str,
) -> None:
    """A finding may lower the level, and name its remedy."""
    result = _judge(replace(_check(_says(*findings), level), **fields), strict=strict)
    assert (result.outcome, result.findings, result.remediation) == (outcome, findings, remediation)
    assert result.level is (Level.SHOULD if outcome is Outcome.WARNS or strict else Level.MUST)


@pytest.mark.usefixtures("gates")
def test_a_lower_level_that_the_docstring_does_not_announce_is_an_error() -> None:
    assert _judge(_check(_says(_LOWER))).outcome is Outcome.BROKEN


@pytest.mark.usefixtures("gates")
@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (InconclusiveError("why"), Outcome.INCONCLUSIVE),
        (NotVerifiedError("why"), Outcome.NOT_VERIFIED),
        (NotApplicableError("why"), Outcome.NOT_APPLICABLE),
    ],
)
def test_an_observation_that_cannot_be_made(error: UnobservedError, outcome: Outcome) -> None:
    result = _judge(_check(_says(FINDING), id_="listener.answers"), _Observer({Policy: error}))
    assert (result.outcome, result.reason, result.findings) == (outcome, "why", ())


@pytest.mark.usefixtures("gates")
def test_a_check_that_crashes_is_broken_and_names_a_fault_of_this_tool() -> None:
    def crash() -> Iterator[Statement]:
        yield FINDING
        raise ZeroDivisionError("oops")

    result = _judge(_check(crash))
    assert result.outcome is Outcome.BROKEN
    assert "fault of its code" in result.reason
    assert "ZeroDivisionError: oops" in result.reason


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize(
    ("statement", "outcome"),
    [
        (FINDING, Outcome.NOT_VERIFIED),
        (INCONCLUSIVE, Outcome.NOT_VERIFIED),
        (NOT_VERIFIED, Outcome.CONFORMS),
        (NOT_APPLICABLE, Outcome.CONFORMS),
    ],
)
def test_a_gate_that_fails_closes_and_is_named(
    gates: dict[str, Check], gate: str, statement: Statement, outcome: Outcome
) -> None:
    gates[gate] = _check(_says(statement), id_=gate)
    result = _judge(_check(_says()))
    assert result.outcome is outcome
    assert (gate in result.reason) == (outcome is Outcome.NOT_VERIFIED)


def test_the_second_gate_needs_the_first(gates: dict[str, Check]) -> None:
    gates[GATES[0]] = _check(_says(INCONCLUSIVE), id_=GATES[0])
    judge = Judge(cast("Observer", _Observer()))
    assert judge.result(gates[GATES[0]], LISTENER).outcome is Outcome.INCONCLUSIVE
    assert judge.result(gates[GATES[1]], LISTENER).outcome is Outcome.NOT_VERIFIED


class _FallsSilent(_Observer):
    """Is given up when something is asked for."""

    def get(self, type_: type[Any], key: str | None = None, listener: Listener | None = None) -> object:
        if type_ is not FirstContact:
            self.given_up = {LISTENER.label: Reason(f"{LISTENER.label} was given up")}
        return super().get(type_, key, listener)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize(
    ("statements", "outcome"),
    [
        ((), Outcome.CONFORMS),
        ((CannotJudge(Outcome.NOT_VERIFIED, f"{LISTENER.label} was given up"),), Outcome.CONFORMS),
        ((INCONCLUSIVE,), Outcome.NOT_VERIFIED),
        ((FINDING,), Outcome.NOT_VERIFIED),
    ],
)
def test_a_listener_that_stops_answering_in_a_gate_is_judged_by_earlier_observations(
    gates: dict[str, Check], gate: str, statements: tuple[Statement, ...], outcome: Outcome
) -> None:
    first = gates[GATES[0]]
    gates[GATES[0]] = replace(first, needs={"facts": Need(FirstContact)}, function=lambda facts: iter(()))
    gates[gate] = _check(_says(*statements), id_=gate)
    judge = Judge(cast("Observer", _FallsSilent()))
    silent = judge.result(gates[gate], LISTENER)
    assert silent.outcome is (Outcome.VIOLATES if FINDING in statements else Outcome.INCONCLUSIVE)
    assert silent.reason.count("was given up") <= 1
    assert judge.result(_check(_says()), LISTENER).outcome is outcome


def test_checks_are_chosen_by_pattern(newest_etcd: Path) -> None:
    with start_process(ClusterConfig(), newest_etcd) as cluster:
        results = run_checks(Observer(cluster.target()), ["mtls.no-*", "cert.trusted", "!*.trusted"])
        assert {result.check for result in results} == {"mtls.no-certificate"}
        with pytest.raises(UsageError, match="matches no check"):
            run_checks(Observer(cluster.target()), ["mtls.typo"])


@pytest.mark.usefixtures("gates")
@pytest.mark.parametrize("others", [{"mtls.no-certificate"}, set()])
def test_a_violation_follows_from_a_selected_check_only(others: set[str]) -> None:
    selected = {id_: _check(_says(FINDING), id_=id_) for id_ in ("mtls.self-signed", *others)}
    judge = Judge(
        cast("Observer", _Observer()),
        selected={(id_, LISTENER.label): check for id_, check in selected.items()},
    )
    cause = judge.result(selected["mtls.self-signed"], LISTENER).cause
    assert cause == (Ancestor("mtls.no-certificate", LISTENER.label) if others else None)
