"""Shared connections give the same verdicts."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from accounting import AccountingObserver
from servers import ThreadedServer, reset
from starting import start_process

from pytest_etcdtls.cluster.cluster import Cluster
from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.facts.access import AcceptedClient
from pytest_etcdtls.facts.access_matrix import AccessMatrix
from pytest_etcdtls.facts.api import UnauthenticatedExchange
from pytest_etcdtls.facts.fact import SharedAttempts
from pytest_etcdtls.facts.listener import FirstContact, Plaintext
from pytest_etcdtls.facts.protocol import GroupSupport, OldVersions, SuiteSupport
from pytest_etcdtls.judge import run_checks
from pytest_etcdtls.observer import Observer
from pytest_etcdtls.plan import planned
from pytest_etcdtls.registry import select
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.role import Protocol
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import Attempt, Ending, Request
from pytest_etcdtls.tls.hello import HelloExchange


@pytest.fixture(scope="module")
def live(newest_etcd: Path) -> Iterator[Target]:
    with start_process(ClusterConfig(), newest_etcd) as cluster:
        yield _live(cluster)


def _live(cluster: Cluster) -> Target:
    return replace(cluster.target(), origin="live", etcd_version=None, source=None)


def test_fewer_connections_give_the_same_verdicts(live: Target) -> None:
    checks, sparing = select(["tls"]), replace(live, sparing=True)
    observers = [AccountingObserver(live), AccountingObserver(sparing)]
    whole, less = (
        [(one.check, one.listener, one.outcome) for one in run_checks(o, checks)] for o in observers
    )
    assert less == whole
    for label, number in observers[1].first_tries.items():
        assert number <= planned(sparing, checks)[label]
        assert number < observers[0].first_tries[label]
    assert sorted(observers[1].beyond) == []


def test_untested_behaviour_is_not_reported_as_observed(live: Target) -> None:
    observer, [client, *_] = Observer(replace(live, sparing=True)), live.listeners
    assert not observer.get(SuiteSupport, None, client).complete
    assert not observer.get(GroupSupport, None, client).complete


@pytest.mark.etcd_version("3.5.33", "3.6", "3.7")
def test_an_unauthenticated_client_that_tls_refuses_is_tried_once(live: Target) -> None:
    observer, [client, *_] = Observer(live), live.listeners
    found = observer.get(UnauthenticatedExchange, "/metrics", client)
    assert (found.attempt.ending, found.attempt.purpose) == (Ending.REFUSED, "first contact, no certificate")
    assert [one.purpose for one in observer.connections if "/metrics" in one.purpose] == []


def test_plain_http_with_an_ended_stream_is_sent_once(live: Target) -> None:
    observer, [client, *_] = Observer(live), live.listeners
    observer.get(Plaintext, None, client)
    assert Counter(one.purpose for one in observer.connections)["plain HTTP"] == 1


def test_requests_of_the_accepted_client_share_its_connections(
    live: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks, shared = select(["!lifecycle", "!tls", "!mtls.log-*"]), Observer(live)
    verdicts = [(one.check, one.listener, one.outcome, one.reason) for one in run_checks(shared, checks)]
    attempts = [one for one in shared.connections if isinstance(one, Attempt)]
    further = [one for one in attempts if one.reused]
    on = {one.local_address: one for one in attempts if not one.reused}
    assert [(on[one.local_address].identity, on[one.local_address].version) for one in further] == [
        (one.identity, one.version) for one in further
    ]
    assert {"gRPC MemberList", "gRPC Range, count only", "GET /metrics", "GET /members"} <= {
        one.purpose for one in further
    }
    assert {one.ending for one in further} == {Ending.SERVED}
    assert sum(shared.used.values()) == len(shared.connections) - len(further)

    monkeypatch.setattr(Observer, "attempt_shared", _alone)
    alone = Observer(live)
    assert verdicts == [
        (one.check, one.listener, one.outcome, one.reason) for one in run_checks(alone, checks)
    ]
    assert sum(alone.used.values()) == len(alone.connections) == len(shared.connections)


def _alone(self: Observer, listener: Listener, talks: Sequence[Sequence[Request]]) -> list[SharedAttempts]:
    return [SharedAttempts(tries) for tries in self.attempt(listener, [requests[0] for requests in talks])]


def test_a_client_that_tls_refuses_is_not_tried_at_the_gateway(live: Target) -> None:
    observer, [client, *_] = Observer(live), live.listeners
    matrix = observer.get(AccessMatrix, "self-signed", client)
    tries = {(case.version, case.protocol): case.tries for case in matrix.cases}
    for version in observer.get(AcceptedClient, None, client).versions:
        assert tries[version, Protocol.GATEWAY] is tries[version, Protocol.HTTP1]
        assert tries[version, Protocol.GATEWAY][-1].ending is Ending.REFUSED
    requests = [
        one for one in observer.connections if isinstance(one, Attempt) and one.identity == "self-signed"
    ]
    assert {one.protocol for one in requests} == {Protocol.HTTP1, Protocol.GRPC}
    assert len(requests) == len(set(map(id, requests))) == len(tries) - len(tries) // 3


def test_a_hello_with_several_unusual_values_is_shared(live: Target) -> None:
    checks = select(
        ["tls.compression", "tls.unknown-extensions-tolerated", "tls.version-floor", "tls.groups"]
    )
    observer, [client, *_] = Observer(live), live.listeners
    observer.recording.target = replace(live, listeners=(client,))
    assert {one.outcome for one in run_checks(observer, checks)} == {Outcome.CONFORMS}
    offered = observer.get(FirstContact, None, client).offered
    counted = Counter(one.purpose for one in observer.connections if isinstance(one, HelloExchange))
    assert {purpose for purpose in counted if "hello" in purpose} == {
        "hello of TLSv1.1 and older",
        *(f"hello of {version} with compression, unknown values or every group" for version in offered),
    }
    old = observer.get(OldVersions, None, client).exchanges
    assert [(one.offered, one.alert) for one in old] == [("SSLv3", 70), ("TLSv1.0", 70), ("TLSv1.1", 70)]
    assert len({one.local_address for one in old}) == 1


@pytest.mark.etcd_version("3.5.33", "3.6", "3.7")
def test_a_proxy_that_allows_one_request_per_connection_changes_no_verdict(
    live: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = select(["api", "cluster", "mtls.trusted-client", "mtls.resumption-keeps-verdict"])
    with Cutting(live) as proxies:
        with monkeypatch.context() as alone:
            alone.setattr(Observer, "attempt_shared", _alone)
            whole = _verdicts(run_checks(Observer(proxies.target), checks))
        assert proxies.cut == 0
        # A signature is a few octets longer or shorter, a request more than a hundred.
        proxies.most = max(proxies.sent) + 64
        observer = Observer(proxies.target)
        assert _verdicts(run_checks(observer, checks)) == whole
        assert proxies.cut > 0
    reused = [one for one in observer.connections if isinstance(one, Attempt) and one.reused]
    assert Ending.UNCLEAR in {one.ending for one in reused}


def _verdicts(results: Sequence[CheckResult]) -> list[tuple[str, str, Outcome, str]]:
    return [(one.check, one.listener, one.outcome, one.reason) for one in results]


class Cutting:
    """A proxy before each listener, which resets what sends too much.

    Attributes:
        most: octets that a client may send on a connection.
        target: with the proxies.
        sent: octets of the clients, after each time that something came.
        cut: connections that were reset.
    """

    def __init__(self, target: Target) -> None:
        self.most, self.cut, self.sent = 1 << 30, 0, [0]
        self._servers = [
            ThreadedServer(partial(self._pass_on, listener.address)) for listener in target.listeners
        ]
        self.target = replace(
            target,
            listeners=tuple(
                replace(listener, connect_to=("127.0.0.1", server.port))
                for listener, server in zip(target.listeners, self._servers, strict=True)
            ),
        )

    def __enter__(self) -> Cutting:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()

    def _pass_on(self, address: tuple[str, int], client: socket.socket) -> None:
        sent = 0
        with socket.create_connection(address, timeout=30) as server:
            back = threading.Thread(target=_copy, args=(server, client), daemon=True)
            back.start()
            while data := client.recv(65536):
                sent += len(data)
                self.sent.append(sent)
                if sent > self.most:
                    self.cut += 1
                    reset(client)
                    break
                server.sendall(data)
            with suppress(OSError):
                server.shutdown(socket.SHUT_WR if sent <= self.most else socket.SHUT_RDWR)
            back.join(30)


def _copy(server: socket.socket, client: socket.socket) -> None:
    with suppress(OSError, ValueError):
        while data := server.recv(65536):
            client.sendall(data)
        client.shutdown(socket.SHUT_WR)
