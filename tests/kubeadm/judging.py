"""Options as a user passes them, the live target that they describe, and what is found on it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from given import Given as Given
from judged import judged as judged
from zoo.model import explain as explain

from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.settings.etcd_pid import read_declared
from pytest_etcdtls.settings.read import live_targets
from pytest_etcdtls.target import Target

Found = Mapping[str, Mapping[str, set[str]]]
"""Check ids by outcome and role, ``cluster`` for the whole target."""


def target(**values: str | Path | Sequence[str | Path] | bool) -> Target:
    """Return the live target of these options."""
    source = Given(**values)
    [live] = live_targets(source, read_declared(source))
    return live


def found(results: Iterable[CheckResult]) -> Found:
    """Return what neither conforms nor is not applicable."""
    seen: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for result in results:
        if result.outcome not in (Outcome.CONFORMS, Outcome.NOT_APPLICABLE):
            seen[str(result.outcome)][str(result.role)].add(result.check)
    return {outcome: dict(roles) for outcome, roles in seen.items()}
