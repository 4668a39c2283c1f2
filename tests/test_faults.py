"""Which violation follows from which other one."""

from __future__ import annotations

from fnmatch import fnmatchcase
from graphlib import TopologicalSorter

import pytest
from made import made_result
from msgspec.structs import replace

from pytest_etcdtls.checks.registry import ancestors, catalogue, causes_of
from pytest_etcdtls.checks.results import Ancestor, CheckResult, Finding, Outcome
from pytest_etcdtls.report.model import faults
from pytest_etcdtls.role import CLUSTER, Role
from pytest_etcdtls.target import Listener

OPEN, SIGNED, HIDES = "mtls.no-certificate", "mtls.self-signed", "config.config-file-hides-flags"
IN_FORCE = "config.client-auth-in-force"


def violation(check: str, listener: str = "client-m0", *concerns: str, remedy: str = "") -> CheckResult:
    role = listener.rpartition("-m")[0] or listener
    found = Finding(message="it is wrong", expected="right", observed="wrong", concerns=concerns)
    return made_result(
        Outcome.VIOLATES,
        check,
        listener=listener,
        role=role,
        findings=(found,),
        remedies=(remedy or f"mend {check}",),
    )


def judged(*results: CheckResult, member: str = "m0") -> list[CheckResult]:
    labels = dict.fromkeys((one.role, one.listener) for one in results if one.listener != CLUSTER)
    listeners = [
        Listener(role=Role(role), scheme="https", host="127.0.0.1", port=2379, member=member, label=label)
        for role, label in labels
    ]
    known = {(result.check, result.listener): result for result in results}
    causes = (next(causes_of(one, listeners, lambda *place: known.get(place)), None) for one in results)
    return [
        replace(result, cause=cause and Ancestor(cause.check, cause.listener))
        for result, cause in zip(results, causes, strict=True)
    ]


def roots(*results: CheckResult) -> list[tuple[str, tuple[str, ...], int]]:
    return [
        (fault.first.check, fault.listeners, len(fault.consequences)) for fault in faults(judged(*results))
    ]


@pytest.mark.parametrize("member", ["m0", "m1"])
def test_a_finding_names_listeners_by_their_member(member: str) -> None:
    """On a live cluster the label of a listener has its host and port."""
    result = replace(violation(IN_FORCE), listener="client-10.0.0.11-2379", role="client")
    first, _ = judged(result, violation(HIDES, CLUSTER, "client-m0"), member=member)
    assert first.cause == (Ancestor(HIDES, CLUSTER) if member == "m0" else None)


def test_an_ancestor_of_another_listener_is_no_cause() -> None:
    assert len(roots(violation(SIGNED, "peer-m0"), violation(OPEN))) == 2


def test_a_chain_has_one_fault() -> None:
    results = (violation(SIGNED), violation(OPEN), violation(IN_FORCE), violation(HIDES, "cluster"))
    assert roots(*results) == [(HIDES, ("cluster",), 3)]


@pytest.mark.parametrize(
    ("concerns", "number"),
    [((), 1), (("client-m0",), 1), (("client",), 1), (("client-m1",), 2), (("peer",), 2)],
)
def test_a_fault_of_the_target_explains_the_affected_listeners(
    concerns: tuple[str, ...], number: int
) -> None:
    assert len(roots(violation(IN_FORCE), violation(HIDES, "cluster", *concerns))) == number


def test_listeners_with_one_remedy_are_one_fault() -> None:
    same = [violation("tls.broken-suites", place) for place in ("client-m0", "peer-m0")]
    apart = [violation(OPEN, place, remedy=place) for place in ("client-m0", "peer-m0")]
    assert [fault.listeners for fault in faults(judged(*same))] == [("client-m0", "peer-m0")]
    assert [fault.listeners for fault in faults(judged(*apart))] == [("client-m0",), ("peer-m0",)]


@pytest.mark.parametrize("outcome", [Outcome.WARNS, Outcome.WAIVED, Outcome.CONFORMS, Outcome.INCONCLUSIVE])
def test_a_violation_does_not_follow_from_a_warning(outcome: Outcome) -> None:
    """A waived ancestor is accepted, so its consequence is a fault again: no run fails without a fault."""
    assert len(roots(violation(SIGNED), replace(violation(OPEN), outcome=outcome))) == 1
    assert judged(violation(SIGNED), replace(violation(OPEN), outcome=outcome))[0].cause is None


def test_a_warning_follows_from_a_violation() -> None:
    warned, _ = judged(replace(violation("mtls.announced-ca-single"), outcome=Outcome.WARNS), violation(OPEN))
    assert warned.cause is None
    warned, _ = judged(
        replace(violation("mtls.announced-ca-single"), outcome=Outcome.WARNS),
        violation("mtls.announced-ca-expected"),
    )
    assert warned.cause == Ancestor("mtls.announced-ca-expected", "client-m0")


def test_a_consequence_without_its_cause_is_a_fault() -> None:
    first, _ = judged(violation(SIGNED), violation(OPEN))
    assert [fault.first.check for fault in faults([first])] == [SIGNED]


def test_another_target_explains_nothing() -> None:
    first, second = judged(violation(SIGNED), violation(OPEN))
    assert len(faults([first, replace(second, target="other")])) == 2


def test_every_pattern_matches_a_check() -> None:
    checks = catalogue()
    unmatched = [
        (check.id, pattern)
        for check in checks.values()
        for pattern in check.follows
        if not any(fnmatchcase(id_, pattern) for id_ in checks)
    ]
    assert unmatched == []


def test_no_check_follows_from_itself_by_way_of_others() -> None:
    checks = catalogue()
    graph = {check.id: ancestors(check, checks) for check in checks.values()}
    TopologicalSorter(graph).prepare()  # raises CycleError
    assert graph[SIGNED] == [OPEN]
