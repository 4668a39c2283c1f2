"""A cluster that is upgraded member by member, judged while two versions run, under clients good and bad."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from starting import start_container, start_process

from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd.clocks import until
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd.sources import binary_version
from pytest_etcdtls.pki import identities
from pytest_etcdtls.pki.profile import NO_CERTIFICATE
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.tls.attempt import Attempt, Ending, Request
from pytest_etcdtls.tls.connection import make_attempt

THREE = ClusterConfig(size=3, client_crl_file="crl.der", extra_flags=("--snapshot-count=10",))
"""With snapshots, since 3.7 panics on entries that 3.5 has written and that follow the last snapshot."""
DEADLINE = 60.0
KEY = {"key": "YQ=="}
MIXED = {"cluster.same-version", "mtls.server-certificate-as-client"}
"""What a cluster of two versions is warned about; the second is so of every etcd from 3.5 on."""
T = TypeVar("T")


class Clients:
    """A good client that turns to the next member when one does not answer, and bad ones at every member.

    Attributes:
        rounds: how often the good client wanted an answer; then it ``retried`` elsewhere, or was ``lost``.
        served: bad clients that were served, in words; others were ``refused`` so often.
    """

    def __init__(self, cluster: Cluster) -> None:
        pki = cluster.pki
        self._listeners = [one for one in cluster.target().listeners if one.role is Role.CLIENT]
        self._good = pki.client
        self._bad = {
            "none": NO_CERTIFICATE,
            "foreign": identities.foreign_ca(),
            "expired": identities.issue_identities(pki.client_ca)["expired"],
            "revoked": pki.revoked,
        }
        self._over = threading.Event()
        self.rounds = self.retried = 0
        self.lost: list[str] = []
        self.served: list[str] = []
        self.refused: Counter[str] = Counter()

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Repeat the calls in threads."""
        threads = [threading.Thread(target=work) for work in (self._call, self._try_bad)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join(DEADLINE)

    def _call(self) -> None:
        while not self._over.is_set():
            first = self.rounds % len(self._listeners)
            answers: list[Attempt] = []
            for listener in (*self._listeners[first:], *self._listeners[:first]):
                answers.append(make_attempt(listener, self._request("range", b'"serializable":true'), 5))
                if answers[-1].response is not None and answers[-1].response.status == 200:
                    break
            else:
                self.lost.append("; ".join(answer.describe() for answer in answers))
            self.rounds += 1
            self.retried += len(answers) - 1
            # A write may fail for want of a leader, which is not about who is let in.
            make_attempt(self._listeners[first], self._request("put", b'"value":"YQ=="'), 1)

    def _request(self, call: str, more: bytes) -> Request:
        body = b'{"key":"YQ==",%b}' % more
        return Request(purpose=call, identity=self._good, path=f"/v3/kv/{call}", body=body)

    def _try_bad(self) -> None:
        while not self._over.is_set():
            for listener in self._listeners:
                for name, identity in self._bad.items():
                    attempt = make_attempt(listener, Request(purpose=name, identity=identity), 5)
                    if attempt.ending is Ending.SERVED or attempt.response is not None:
                        self.served.append(f"{name} at {listener.url}: {attempt.describe()}")
                    self.refused[name] += attempt.ending in (Ending.REFUSED, Ending.CLOSED)


def _await_cluster_version(cluster: Cluster, line: str) -> None:
    """Wait until the cluster has the version of its members, which the next one needs to start."""
    gateway = cluster.members[0].gateway()
    assert until(lambda: gateway.cluster_version().startswith(f"{line}."), DEADLINE)


def _judge_mixed(cluster: Cluster) -> None:
    """Nothing of a cluster of two versions is wrong, and it is warned about."""
    found: dict[Outcome, set[str]] = {}
    for result in run_checks(Observer(cluster.target()), ("listener", "mtls", "cluster", "config")):
        found.setdefault(result.outcome, set()).add(result.check)
    assert not found.keys() & {Outcome.VIOLATES, Outcome.BROKEN, Outcome.INCONCLUSIVE}, found
    assert found[Outcome.WARNS] == MIXED, found


def _path(newest: Mapping[str, T]) -> list[T]:
    """Return the newest of each line to upgrade by; skip the test if there is only one."""
    lines = {version.rpartition(".")[0]: one for version, one in newest.items() if version != "3.5.1"}
    path = [lines[line] for line in ("3.5", "3.6", "3.7") if line in lines]
    if len(path) < 2:
        pytest.skip("needs two of etcd 3.5, 3.6 and 3.7: run make etcd images")
    return path


@pytest.mark.two_etcds
@pytest.mark.whole
def test_a_rolling_upgrade(etcd_binaries: dict[str, Path]) -> None:
    """From 3.5 by 3.6 to 3.7 as far as they are available, with each mixed cluster judged once."""
    path = _path(etcd_binaries)
    with start_process(THREE, path[0]) as cluster:
        clients = Clients(cluster)
        with clients.calling():
            for number, binary in enumerate(path[1:]):
                _await_cluster_version(cluster, binary_version(path[number]).rpartition(".")[0])
                for index in range(3):
                    cluster.upgrade_member(index, binary=binary)
                    if index == 0:
                        _judge_mixed(cluster)
        assert cluster.version == binary_version(path[-1])
        results = run_checks(Observer(cluster.target()), ("cluster",))
        assert {result.check for result in results if result.findings} == set()
    assert clients.served == [], "a bad client was let in"
    assert clients.lost == [], f"of {clients.rounds} rounds, {clients.retried} times with another member"
    assert clients.rounds > clients.retried
    assert set(clients.refused) == {"none", "foreign", "expired", "revoked"}


@pytest.mark.container
def test_containers_are_upgraded_to_another_image(etcd_images: dict[str, str], newest_etcd: Path) -> None:
    """A mixed cluster of containers keeps its data and is judged like one of processes."""
    *_, older, newer = _path(etcd_images)
    with start_container(THREE, older) as cluster:
        with pytest.raises(UsageError, match="containers to another image"):
            cluster.upgrade_member(0, binary=newest_etcd)
        assert cluster.members[0].gateway().post("/v3/kv/put", KEY | {"value": "YQ=="})[0] == 200
        _await_cluster_version(cluster, older.rpartition(":")[2].rpartition(".")[0])
        cluster.upgrade_member(0, image=newer)
        _judge_mixed(cluster)
        assert cluster.members[0].gateway().post("/v3/kv/range", KEY)[1]["kvs"][0]["value"] == "YQ=="
