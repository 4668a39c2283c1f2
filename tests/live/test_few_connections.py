"""Shared connections give the same verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from accounting import AccountingObserver
from starting import start_process

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.facts.access import AcceptedClient
from pytest_etcdtls.facts.access_matrix import AccessMatrix
from pytest_etcdtls.facts.api import UnauthenticatedExchange
from pytest_etcdtls.facts.listener import FirstContact, Plaintext
from pytest_etcdtls.facts.protocol import GroupSupport, OldVersions, SuiteSupport
from pytest_etcdtls.results import Outcome
from pytest_etcdtls.role import Protocol
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.run.plan import planned
from pytest_etcdtls.target import Target
from pytest_etcdtls.tls.attempt import Attempt, Ending
from pytest_etcdtls.tls.hello import HelloExchange


@pytest.fixture(scope="module")
def live(newest_etcd: Path) -> Iterator[Target]:
    with start_process(ClusterConfig(), newest_etcd) as cluster:
        yield replace(cluster.target(), origin="live", etcd_version=None, source=None)


def test_fewer_connections_give_the_same_verdicts(live: Target) -> None:
    checks, sparing = select(["tls"]), replace(live, sparing=True)
    observers = [AccountingObserver(live), AccountingObserver(sparing)]
    [client, *_] = live.listeners
    whole, less = (
        [(result.check, result.listener, result.outcome) for result in run_checks(o, checks)]
        for o in observers
    )
    assert less == whole
    for label, number in observers[1].first_tries.items():
        assert number <= planned(sparing, checks)[label]
        assert number < observers[0].first_tries[label]
    assert sorted(observers[1].beyond) == []
    assert not observers[1].get(SuiteSupport, None, client).complete
    assert not observers[1].get(GroupSupport, None, client).complete


@pytest.mark.etcd_version("3.5.33", "3.6", "3.7")
def test_an_unauthenticated_client_that_tls_refuses_is_tried_once(live: Target) -> None:
    observer, [client, *_] = Observer(live), live.listeners
    found = observer.get(UnauthenticatedExchange, "/metrics", client)
    assert (found.attempt.ending, found.attempt.purpose) == (Ending.REFUSED, "first contact, no certificate")
    observer.get(Plaintext, None, client)
    made = Counter(connection.purpose for connection in observer.connections)
    assert made["plain HTTP"] == 1  # whose stream ended
    assert not [purpose for purpose in made if "/metrics" in purpose]


def test_a_client_that_tls_refuses_is_not_tried_at_the_gateway(live: Target) -> None:
    observer, [client, *_] = Observer(live), live.listeners
    matrix = observer.get(AccessMatrix, "self-signed", client)
    tries = {(case.version, case.protocol): case.tries for case in matrix.cases}
    for version in observer.get(AcceptedClient, None, client).versions:
        assert tries[version, Protocol.GATEWAY] is tries[version, Protocol.HTTP1]
        assert tries[version, Protocol.GATEWAY][-1].ending is Ending.REFUSED
    requests = [
        connection
        for connection in observer.connections
        if isinstance(connection, Attempt) and connection.identity == "self-signed"
    ]
    assert {request.protocol for request in requests} == {Protocol.HTTP1, Protocol.GRPC}
    assert len(requests) == len(set(map(id, requests))) == len(tries) - len(tries) // 3


def test_a_hello_with_several_unusual_values_is_shared(live: Target) -> None:
    checks = select(
        ["tls.compression", "tls.unknown-extensions-tolerated", "tls.version-floor", "tls.groups"]
    )
    observer, [client, *_] = Observer(live), live.listeners
    observer.recording.target = replace(live, listeners=(client,))
    assert {result.outcome for result in run_checks(observer, checks)} == {Outcome.CONFORMS}
    offered = observer.get(FirstContact, None, client).offered
    counted = Counter(
        connection.purpose for connection in observer.connections if isinstance(connection, HelloExchange)
    )
    assert {purpose for purpose in counted if "hello" in purpose} == {
        "hello of TLSv1.1 and older",
        *(f"hello of {version} with compression, unknown values or every group" for version in offered),
    }
    old = observer.get(OldVersions, None, client).exchanges
    assert [(one.offered, one.alert) for one in old] == [("SSLv3", 70), ("TLSv1.0", 70), ("TLSv1.1", 70)]
    assert len({one.local_address for one in old}) == 1
