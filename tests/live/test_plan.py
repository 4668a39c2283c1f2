"""``--etcd-plan`` lists every connection that a run makes, to every kind of target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from accounting import AccountingObserver, beyond_the_plan, counted_connections
from discovery.discovering import live as discovering
from discovery.discovering import named
from live.target_kinds import live
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
from pytest_etcdtls.target import ConnectTo, Listener, Target

CHECKS = select(["!lifecycle"])


def _elsewhere(cluster: Cluster) -> Target:
    """Return the cluster as a live one that is reached by ``--etcd-connect-to``."""

    def moved(listener: Listener) -> Listener:
        return replace(listener, host="etcd.example", connect_to=(listener.host, listener.port))

    target = live(cluster)
    rule = ConnectTo(text="etcd.example::127.0.0.1:", host="etcd.example", to_host="127.0.0.1")
    return replace(target, listeners=tuple(map(moved, target.listeners)), connect_to=(rule,))


def _by_name(cluster: Cluster) -> Target:
    """Return the cluster as a live one whose host has a name, with an address for each IP version."""
    target = live(cluster)
    listeners = tuple(replace(listener, host="localhost") for listener in target.listeners)
    return replace(target, listeners=listeners)


def _through(role: Role) -> Callable[[Cluster], Target]:
    """Return the function that names one listener of a cluster, whose others are discovered."""

    def target(cluster: Cluster) -> Target:
        member = cluster.members[0]
        url = member.peer_url if role is Role.PEER else member.client_url
        return discovering(cluster, named(url, role))

    return target


@dataclass(frozen=True)
class Kind:
    """A kind of target: what runs, and what of it a user names."""

    config: ClusterConfig
    target: Callable[[Cluster], Target]


_PLAIN = ClusterConfig(client_scheme="http", peer_scheme="http")

KINDS: Mapping[str, Kind] = {
    "endpoints": Kind(ClusterConfig(metrics="https"), live),
    "metrics and client-http": Kind(ClusterConfig(metrics="http", client_http=True), live),
    "plaintext": Kind(_PLAIN, live),
    "users": Kind(PRESETS["authentication"].config, live),
    "connect-to": Kind(ClusterConfig(), _elsewhere),
    "a name with addresses": Kind(ClusterConfig(), _by_name),
    "several members": Kind(ClusterConfig(size=3), live),
    "discovery by a client listener": Kind(ClusterConfig(size=3), _through(Role.CLIENT)),
    "discovery by a peer listener": Kind(ClusterConfig(size=3), _through(Role.PEER)),
    "discovery of plaintext": Kind(_PLAIN, _through(Role.CLIENT)),
}


EACH_KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def beyond(target: Target, checks: Sequence[Check]) -> list[str]:
    """Judge a target and return what was not in the plan, or was not declared."""
    plan = planned(target, checks)
    observer = AccountingObserver(target)
    with counted_connections() as made:
        observer.discover()
        run_checks(observer, checks)
    return beyond_the_plan(made, plan, observer.target.listeners) + sorted(observer.beyond)


@EACH_KIND
def test_no_more_connections_than_planned(kind: Kind, newest_etcd: Path) -> None:
    with start_where_possible(kind.config, newest_etcd) as cluster:
        assert beyond(kind.target(cluster), CHECKS) == []


@pytest.mark.whole
@EACH_KIND
def test_no_check_alone_makes_more_than_planned(kind: Kind, newest_etcd: Path) -> None:
    with start_where_possible(kind.config, newest_etcd) as cluster:
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
