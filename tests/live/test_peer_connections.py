"""Which members can dial each other, and neighbours of a fault, in which nothing or nothing more is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from discovery.discovering import live as discovering
from discovery.discovering import named
from discovery.learner import start_learner
from live.target_kinds import at_hosts, only, tunnelled
from starting import start_process, start_where_possible
from zoo.clusters import let_the_third_lead, restart_one_with, revoke_one, write_pair

from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.sources import binary_version
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Target

THREE = ClusterConfig(size=3, metrics="http")
CHECK = "cluster.members-connected"
HOSTS = ("127.0.0.1", "127.0.0.1", "127.0.0.1")


def judge(target: Target) -> CheckResult:
    observer = Observer(target)
    if target.discover:
        observer.discover()
    [result] = run_checks(observer, [CHECK])
    return result


forwarded = partial(tunnelled, member="etcd.example")
"""The target as it is behind a port forward: etcd sees another host than the URLs have."""


@pytest.fixture(scope="module")
def three(etcd_binary: Path) -> Iterator[Cluster]:
    with start_process(THREE, etcd_binary) as cluster:
        yield cluster


def test_connected_members(three: Cluster) -> None:
    target = at_hosts(three.target(), *HOSTS)
    clients = only(target, lambda one: one.role is Role.CLIENT)
    first = clients.listeners[0]
    metrics = only(target, lambda one: one.role is Role.METRICS or one == first)
    for connected in (target, clients, metrics, forwarded(target)):
        result = judge(connected)
        assert (result.outcome, result.reason) == (Outcome.CONFORMS, "")


def test_members_that_differ_and_can_dial_each_other(etcd_binary: Path) -> None:
    """They have a version and a suite in common; one dials with a pair of its own, and has a list."""
    with start_where_possible(THREE, etcd_binary) as cluster:
        versions = binary_version(etcd_binary) not in ("3.4.23", "3.5.1")
        to_1_2 = {"tls_max_version": "TLS1.2"} if versions else {}
        write_pair(cluster, "dials", cluster.pki.peer_ca)
        (cluster.pki_directory / "list.der").write_bytes(cluster.pki.peer_ca.crl())
        pair = {"peer_client_cert_file": "dials.crt", "peer_client_key_file": "dials.key"}
        others = {} if binary_version(etcd_binary).startswith("3.4") else pair
        let_the_third_lead(cluster)
        restart_one_with(cluster, 0, cipher_suites=(_FIRST, _SECOND))
        restart_one_with(cluster, 1, **to_1_2, **others, cipher_suites=(_FIRST,), peer_crl_file="list.der")
        result = judge(at_hosts(cluster.target(), *HOSTS))
    assert (result.outcome, result.reason) == (Outcome.CONFORMS, "")


_FIRST, _SECOND = (f"TLS_ECDHE_ECDSA_WITH_AES_{size}" for size in ("128_GCM_SHA256", "256_GCM_SHA384"))


def test_a_member_that_was_just_restarted(three: Cluster) -> None:
    target = at_hosts(three.target(), *HOSTS)
    for index in range(3):
        three.restart_member(index)
        assert judge(target).outcome is Outcome.CONFORMS


def test_members_whose_connections_are_unknown(three: Cluster) -> None:
    target = at_hosts(three.target(), *HOSTS)
    first = target.listeners[0]
    alone = judge(only(target, lambda one: one == first))
    peers = judge(only(target, lambda one: one.role is Role.PEER))
    names = sorted(member.name for member in three.members)
    for result, unknown in ((alone, names[1:]), (peers, names)):
        assert result.outcome is Outcome.NOT_VERIFIED
        assert f"the connections of {', '.join(unknown)} are not known" in result.reason
        assert "--etcd-discover" in result.reason


def test_a_member_that_is_stopped(three: Cluster) -> None:
    target = at_hosts(three.target(), *HOSTS)
    three.stop_member(2)
    try:
        result = judge(target)
    finally:
        three.start_member(2)
    assert (result.outcome, result.findings) == (Outcome.NOT_VERIFIED, ())
    assert "m0 has no active connection with m2, which did not answer here" in result.reason


@pytest.mark.parametrize(
    "seen",
    [lambda target: target, lambda target: only(target, lambda one: one.role is not Role.PEER), forwarded],
    ids=["named", "without-peers", "forwarded"],
)
def test_a_member_that_another_one_revokes(seen: Callable[[Target], Target], newest_etcd: Path) -> None:
    with start_process(THREE, newest_etcd) as cluster:
        revoke_one(cluster)
        result = judge(seen(at_hosts(cluster.target(), *HOSTS)))
    [finding] = result.findings
    assert (result.outcome, finding.message) == (Outcome.VIOLATES, "m1 has no active connection with m0")
    assert finding.observed.startswith("m1: none with m0, ")
    [command] = finding.reproduce
    assert "/metrics" in str(command)


def test_a_cluster_of_one_member_and_its_learner(newest_etcd: Path, tmp_path: Path) -> None:
    with start_process(ClusterConfig(), newest_etcd) as cluster:
        target = discovering(cluster, named(cluster.members[0].client_url))
        alone = judge(target)
        with start_learner(cluster, tmp_path):
            both = judge(target)
    assert (alone.outcome, alone.reason) == (Outcome.NOT_APPLICABLE, "the cluster has one member")
    assert both.outcome is Outcome.CONFORMS
