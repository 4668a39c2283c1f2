"""``--etcd-plan`` lists every connection that a run makes, to every kind of target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from accounting import AccountingObserver, beyond_the_plan, counted_connections
from discovery.discovering import live as discovering
from discovery.discovering import named
from live.target_kinds import live, tunnelled
from starting import start_where_possible

from pytest_etcdtls.checks.registry import Check, select
from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.presets import PRESETS, Preset
from pytest_etcdtls.facts.protocol import GroupSupport, SuiteSupport
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.plan import ADVERTISED, plan_of, planned
from pytest_etcdtls.run.runner import Run
from pytest_etcdtls.settings.read import Owned, Settings
from pytest_etcdtls.target import ConnectTo, Target

CHECKS = select(["!lifecycle"])


def _elsewhere(cluster: Cluster) -> Target:
    """Return the cluster as a live one that is reached by ``--etcd-connect-to``."""
    rule = ConnectTo(text="etcd.example::127.0.0.1:", host="etcd.example", to_host="127.0.0.1")
    return replace(tunnelled(live(cluster)), connect_to=(rule,))


def _by_name(cluster: Cluster) -> Target:
    """Return the cluster as a live one whose host has a name, with an address for each IP version."""
    target = live(cluster)
    return replace(target, listeners=tuple(replace(one, host="localhost") for one in target.listeners))


def _through(role: Role) -> Callable[[Cluster], Target]:
    """Return the function that names one listener of a cluster, whose others are discovered."""

    def target(cluster: Cluster) -> Target:
        member = cluster.members[0]
        url = member.peer_url if role is Role.PEER else member.client_url
        return discovering(cluster, named(url, role))

    return target


_PLAIN = ClusterConfig(client_scheme="http", peer_scheme="http")

KINDS: Mapping[str, tuple[ClusterConfig, Callable[[Cluster], Target]]] = {
    "endpoints": (ClusterConfig(metrics="https"), live),
    "metrics and client-http": (ClusterConfig(metrics="http", client_http=True), live),
    "plaintext": (_PLAIN, live),
    "users": (PRESETS["authentication"].config, live),
    "connect-to": (ClusterConfig(), _elsewhere),
    "a name with addresses": (ClusterConfig(), _by_name),
    "several members": (ClusterConfig(size=3), live),
    "discovery by a client listener": (ClusterConfig(size=3), _through(Role.CLIENT)),
    "discovery by a peer listener": (ClusterConfig(size=3), _through(Role.PEER)),
    "discovery of plaintext": (_PLAIN, _through(Role.CLIENT)),
}
"""What runs, and what of it a user names."""


def beyond(target: Target, checks: Sequence[Check]) -> list[str]:
    """Judge a target and return what was not in the plan, or was not declared."""
    plan = planned(target, checks)
    observer = AccountingObserver(target)
    with counted_connections() as made:
        observer.discover()
        run_checks(observer, checks)
    return beyond_the_plan(made, plan, observer.target.listeners) + sorted(observer.beyond)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("selected", ["all", pytest.param("each", marks=pytest.mark.whole)])
def test_no_more_connections_than_planned(kind: str, selected: str, newest_etcd: Path) -> None:
    """Of all checks at once, and of each check alone."""
    config, named_of = KINDS[kind]
    with start_where_possible(config, newest_etcd) as cluster:
        target = named_of(cluster)
        selections = [CHECKS] if selected == "all" else [[check] for check in CHECKS]
        found = {selection[0].id: beyond(target, selection) for selection in selections}
    assert {id_: said for id_, said in found.items() if said} == {}


_OWNED = ("default", "split-http-with-crl", "peer-common-name", "authentication", "hardened")


@pytest.mark.parametrize("preset", [PRESETS[name] for name in _OWNED], ids=_OWNED)
def test_the_plan_of_an_owned_cluster_is_that_of_the_started_one(preset: Preset, newest_etcd: Path) -> None:
    """Before the start neither the ports nor the credentials are known."""
    settings = Settings(owned=Owned(binaries=(str(newest_etcd),), config=preset.config))
    [target] = Run(settings).targets
    plan = plan_of(target, CHECKS)
    with start_where_possible(preset.config, newest_etcd) as cluster:
        observer = AccountingObserver(cluster.target())
        assert plan == planned(observer.target, CHECKS)
        with counted_connections() as made:
            run_checks(observer, CHECKS)
    assert beyond_the_plan(made, plan, observer.target.listeners) == []


def test_a_peer_endpoint_alone_names_the_advertised_client_urls(newest_etcd: Path) -> None:
    checks = select(["cluster.advertised-reachable"])
    with start_where_possible(ClusterConfig(), newest_etcd) as cluster:
        target, client = live(cluster, Role.PEER), urlsplit(cluster.members[0].client_url)
        plan, observer = planned(target, checks), AccountingObserver(target)
        with counted_connections() as made:
            [result] = run_checks(observer, checks)
    assert result.outcome is Outcome.CONFORMS, result.reason
    assert made["127.0.0.1", client.port or 0] == 2 <= plan[ADVERTISED]
    assert beyond_the_plan(made, plan, target.listeners) + sorted(observer.beyond) == []


def test_fewer_connections_give_the_same_verdicts(newest_etcd: Path) -> None:
    checks = select(["tls"])
    with start_where_possible(ClusterConfig(), newest_etcd) as cluster:
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
