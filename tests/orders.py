"""Comparing runs of the same checks in different orders."""

from __future__ import annotations

import random
from collections.abc import Sequence

from shares import ALL
from zoo.model import explain

from pytest_etcdtls.checks.registry import Check
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Bounds, Target

SEED = 20
ALONE = 12
"""Number of checks that are run alone, but in ``make test TESTS=all``."""

Outcomes = dict[tuple[str, str], Outcome]


def _outcomes(
    target: Target, checks: Sequence[Check], timeout: float = 5
) -> tuple[Outcomes, list[CheckResult]]:
    """Judge the target with these checks, in this order, by observations of their own."""
    results = run_checks(Observer(target, Bounds(timeout=timeout)), checks)
    return {(result.check, result.listener): result.outcome for result in results}, results


def assert_order_does_not_matter(target: Target, checks: Sequence[Check], timeout: float = 5) -> Outcomes:
    """Compare a run of all checks with one in another order, and with runs of single checks."""
    in_order, results = _outcomes(target, checks, timeout)
    shuffled = random.Random(SEED).sample(checks, len(checks))  # noqa: S311 - the same order each time
    again, _ = _outcomes(target, shuffled, timeout)
    differing = {place: (one, again[place]) for place, one in in_order.items() if again[place] is not one}
    assert not differing, f"{differing}\n{explain(results)}"
    for check in shuffled if ALL else shuffled[:ALONE]:
        alone, _ = _outcomes(target, [check], timeout)
        assert alone == {place: in_order[place] for place in alone}, f"{check.id}\n{explain(results)}"
    return in_order
