"""``--etcd-plan`` lists every connection that a run makes, to every kind of target."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from accounting import AccountingObserver, beyond_the_plan
from connections import counted_connections
from live.target_kinds import CHECKS, EACH_KIND, Kind, beyond, live, start

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.presets import PRESETS, Preset
from pytest_etcdtls.facts.protocol import GroupSupport, SuiteSupport
from pytest_etcdtls.results import Outcome
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.plan import ADVERTISED, plan_of, planned
from pytest_etcdtls.run.runner import Run
from pytest_etcdtls.settings.read import Owned, Settings


@EACH_KIND
def test_no_more_connections_than_planned(kind: Kind, newest_etcd: Path) -> None:
    with start(kind.config, newest_etcd) as cluster:
        assert beyond(kind.target(cluster), CHECKS) == []


@pytest.mark.whole
@EACH_KIND
def test_no_check_alone_makes_more_than_planned(kind: Kind, newest_etcd: Path) -> None:
    with start(kind.config, newest_etcd) as cluster:
        target = kind.target(cluster)
        by_check = {check.id: beyond(target, [check]) for check in CHECKS}
    assert {id_: said for id_, said in by_check.items() if said} == {}


_OWNED = ("default", "split-http-with-crl", "peer-common-name", "authentication", "hardened")


@pytest.mark.parametrize("preset", [PRESETS[name] for name in _OWNED], ids=_OWNED)
def test_the_plan_of_an_owned_cluster_is_that_of_the_started_one(preset: Preset, newest_etcd: Path) -> None:
    """Before the start neither the ports nor the credentials are known."""
    settings = Settings(owned=Owned(binaries=(str(newest_etcd),), config=preset.config))
    [target] = Run(settings).targets
    plan = plan_of(target, CHECKS)
    with start(preset.config, newest_etcd) as cluster:
        observer = AccountingObserver(cluster.target())
        assert plan == planned(observer.target, CHECKS)
        with counted_connections() as made:
            run_checks(observer, CHECKS)
    assert beyond_the_plan(made, plan, observer.target.listeners) == []


def test_a_peer_endpoint_alone_names_the_advertised_client_urls(newest_etcd: Path) -> None:
    checks = select(["cluster.advertised-reachable"])
    with start(ClusterConfig(), newest_etcd) as cluster:
        target, client = live(cluster, Role.PEER), urlsplit(cluster.members[0].client_url)
        plan, observer = planned(target, checks), AccountingObserver(target)
        with counted_connections() as made:
            [result] = run_checks(observer, checks)
    assert result.outcome is Outcome.CONFORMS, result.reason
    assert made["127.0.0.1", client.port or 0] == 2 <= plan[ADVERTISED]
    assert beyond_the_plan(made, plan, target.listeners) + sorted(observer.beyond) == []


def test_fewer_connections_give_the_same_verdicts(newest_etcd: Path) -> None:
    checks = select(["tls"])
    with start(ClusterConfig(), newest_etcd) as cluster:
        targets = [replace(live(cluster), sparing=sparing) for sparing in (False, True)]
        whole, less = observers = [AccountingObserver(target) for target in targets]
        outcomes = [
            [(result.check, result.listener, result.outcome) for result in run_checks(observer, checks)]
            for observer in observers
        ]
    assert outcomes[0] == outcomes[1]
    for label, number in less.first_tries.items():
        assert number <= planned(targets[1], checks)[label]
        assert number < whole.first_tries[label]
    assert sorted(less.beyond) == []
    client = targets[1].listeners[0]
    assert not less.get(SuiteSupport, None, client).complete
    assert not less.get(GroupSupport, None, client).complete
