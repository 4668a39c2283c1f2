"""Attempts on a running cluster find their lines in its log, and both ends agree; the last start is read."""

from __future__ import annotations

import time
from pathlib import Path

from starting import start_process

from etcd_log.startup import last_startup
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd_log.matching import compare_wire_and_log, match_connections
from pytest_etcdtls.etcd_log.parse import EtcdLog, parse_log, read_entries
from pytest_etcdtls.pki import identities
from pytest_etcdtls.pki.profile import NO_CERTIFICATE
from pytest_etcdtls.role import TLSVersion
from pytest_etcdtls.tls.attempt import Attempt, Ending, Request
from pytest_etcdtls.tls.connection import make_attempt

DEADLINE = 20.0


def _log(cluster: Cluster, at_least: int) -> EtcdLog:
    """Return the log once it has so many rejections: etcd writes a line after it has sent the alert."""
    deadline = time.monotonic() + DEADLINE
    while True:
        log = parse_log(cluster.members[0].log(), "m0")
        if len(log.rejections) >= at_least or time.monotonic() > deadline:
            return log
        time.sleep(0.01)


def _attempts(cluster: Cluster) -> list[Attempt]:
    authority = cluster.pki.client_ca
    return [
        make_attempt(listener, Request(purpose="a test", identity=identity, version=version), 5)
        for listener in cluster.target().listeners
        for identity in (
            NO_CERTIFICATE,
            identities.foreign_ca(),
            identities.issue_identities(authority, ["expired"])["expired"],
            cluster.pki.revoked,
            cluster.pki.client,
        )
        for version in TLSVersion
    ]


def test_both_ends_of_every_attempt(etcd_binary: Path) -> None:
    config = ClusterConfig(client_crl_file="crl.der", metrics="https")
    with start_process(config, etcd_binary) as cluster:
        attempts = _attempts(cluster)
        refused = [attempt for attempt in attempts if attempt.ending is not Ending.SERVED]
        log = _log(cluster, len(refused))
    found = match_connections(attempts, log.rejections)
    assert not found.unmatched
    assert not found.unmentioned
    # etcd's goroutines write the lines, so two lines of one second may stand the other way round.
    ours = [our.connection for our in found.ours if isinstance(our.connection, Attempt)]
    assert len(ours) == len(found.ours)
    assert sorted(ours, key=lambda attempt: attempt.started_at) == refused
    comparisons = [
        compare_wire_and_log(our.connection, our.rejection)
        for our in found.ours
        if isinstance(our.connection, Attempt)
    ]
    assert all(compared.agree for compared in comparisons), comparisons


def test_the_last_startup_counts(newest_etcd: Path) -> None:
    with start_process(ClusterConfig(), newest_etcd) as cluster:
        first = cluster.members[0].log()
        cluster.restart()
        log = cluster.members[0].log()
    startup = last_startup(read_entries(log))
    assert startup == last_startup(read_entries(first))
    assert startup.urls["listen-client-urls"] == (cluster.members[0].client_url,)
