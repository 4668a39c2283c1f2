"""Comparing runs of the same checks in different orders."""

from __future__ import annotations

import random
from collections.abc import Sequence

from zoo.model import explain

from pytest_etcdtls.checks.registry import Check
from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Bounds, Target

SEED = 20
ALONE = 12
"""Number of checks that are run alone."""

Outcomes = dict[tuple[str, str], Outcome]


def _outcomes(results: Sequence[CheckResult]) -> Outcomes:
    return {(result.check, result.listener): result.outcome for result in results}


def assert_order_does_not_matter(
    target: Target, checks: Sequence[Check], timeout: float = 5, results: Sequence[CheckResult] = ()
) -> Outcomes:
    """Compare a run of all checks with one in another order, and with runs of single checks.

    Args:
        results: those of a run of all checks, if there was one.
    """

    def judged(checks: Sequence[Check]) -> list[CheckResult]:
        return run_checks(Observer(target, Bounds(timeout=timeout)), checks)

    results = results or judged(checks)
    in_order = _outcomes(results)
    shuffled = random.Random(SEED).sample(checks, len(checks))  # noqa: S311 - the same order each time
    again = _outcomes(judged(shuffled))
    assert again.keys() == in_order.keys()
    _assert_same(in_order, again, results)
    for check in shuffled[:ALONE]:
        _assert_same(in_order, _outcomes(judged([check])), results)
    return in_order


def _assert_same(first: Outcomes, later: Outcomes, results: Sequence[CheckResult]) -> None:
    """Compare outcomes with those of the first run."""
    differing = {
        place: (first[place], outcome) for place, outcome in later.items() if outcome is not first[place]
    }
    assert not differing, f"{differing}\n{explain(results)}"
