"""A run requests the member list once, whatever happens then."""

from __future__ import annotations

from typing import Any

import pytest
from discovery.discovering import named

from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.facts import fact as registry
from pytest_etcdtls.facts.discovery import Discovered
from pytest_etcdtls.facts.fact import fact
from pytest_etcdtls.results import Outcome
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.runner import Run
from pytest_etcdtls.settings.read import Settings
from pytest_etcdtls.suite.state import received_listeners, send_listeners
from pytest_etcdtls.target import Listener, Target

NAMED = (named("https://127.0.0.1:1"), named("https://127.0.0.1:2", Role.PEER))
FOUND = Listener(
    role=Role.PEER,
    scheme="https",
    host="m1.example",
    port=2380,
    member="m1",
    label="peer-m1.example-2380",
    connect_to=("127.0.0.1", 3),
)


def run(*, asks: bool = True, discover: bool = True) -> Run:
    target = Target(label="live", origin="live", listeners=NAMED, discover=discover)
    return Run(Settings(live=(target,)), discovers=asks)


@pytest.mark.parametrize(("asks", "discover"), [(False, True), (True, False)])
def test_the_list_is_not_requested_in_a_dry_run_or_without_the_option(asks: bool, discover: bool) -> None:
    asking = run(asks=asks, discover=discover)
    asking.discover()
    (target,) = asking.targets
    assert (target.seen, target.discovery, target.outline.listeners) == (None, None, NAMED)
    assert target.observer.connections == []


def test_an_internal_error_of_discovery_is_reported_and_the_rest_is_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "_FACTS", {**registry._FACTS})
    del registry._FACTS[Discovered]

    @fact
    def _broken() -> Discovered:
        raise ZeroDivisionError("a fault of ours")

    asking = run()
    asking.discover()
    (target,) = asking.targets
    assert (target.discovery, target.outline.listeners) == (None, NAMED)
    result = target.result(catalogue()["cluster.discovered"], "cluster")
    assert result.outcome is Outcome.BROKEN
    assert "a fault of ours" in result.reason
    answers = target.result(catalogue()["listener.answers"], NAMED[0].label)
    assert answers.outcome is Outcome.INCONCLUSIVE


def test_a_worker_gets_the_discovery_of_the_controller() -> None:
    class Config:
        workerinput: dict[str, Any]

    config: Any = Config()
    assert received_listeners(config) == ()
    config.workerinput = {}
    assert received_listeners(config) == ()
    send_listeners(config.workerinput, (*NAMED, FOUND))
    assert received_listeners(config) == (*NAMED, FOUND)
    assert {
        type(value) for listener in config.workerinput["etcdtls_listeners"] for value in listener.values()
    } <= {
        str,
        int,
        bool,
        tuple,
        type(None),
    }
