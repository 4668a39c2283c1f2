"""An error of this tool in discovery."""

from __future__ import annotations

import pytest
from discovery.discovering import named

from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.facts import fact as registry
from pytest_etcdtls.facts.discovery import Discovered
from pytest_etcdtls.facts.fact import fact
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.runner import Run
from pytest_etcdtls.settings.read import Settings
from pytest_etcdtls.target import Target

NAMED = (named("https://127.0.0.1:1"), named("https://127.0.0.1:2", Role.PEER))


def test_an_internal_error_of_discovery_is_reported_and_the_rest_is_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "_FACTS", {**registry._FACTS})
    del registry._FACTS[Discovered]

    @fact
    def _broken() -> Discovered:
        raise ZeroDivisionError("a fault of ours")

    target = Target(label="live", origin="live", listeners=NAMED, discover=True)
    asking = Run(Settings(live=(target,)))
    asking.discover()
    (state,) = asking.targets
    assert (state.discovery, state.outline.listeners) == (None, NAMED)
    result = state.result(catalogue()["cluster.discovered"], "cluster")
    assert result.outcome is Outcome.BROKEN
    assert "a fault of ours" in result.reason
    answers = state.result(catalogue()["listener.answers"], NAMED[0].label)
    assert answers.outcome is Outcome.INCONCLUSIVE
