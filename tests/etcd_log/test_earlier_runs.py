"""Rejected connections of earlier runs in the log of a real etcd, and similar ones of other clients."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace
from starting import start_process

from etcd_log.conftest import Logged, logged
from pytest_etcdtls.cluster.config import ClusterConfig
from pytest_etcdtls.etcd_log.parse import Cause, FileLog, Rejection
from pytest_etcdtls.etcd_log.reasons import OWN_MARKS, earlier_runs
from pytest_etcdtls.facts.alternatives import UNKNOWN_NAME
from pytest_etcdtls.facts.etcd_log import EtcdLogs, ReadLog
from pytest_etcdtls.facts.protocol import UNKNOWN_ALPN
from pytest_etcdtls.judge import run_checks
from pytest_etcdtls.observer import Observer
from pytest_etcdtls.registry import select

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
OURS = [
    Rejection(line=0, time=NOW, remote_address="10.0.0.5:1", error="", cause=cause, endpoint="client")
    for cause in (Cause.NO_CERTIFICATE, Cause.UNKNOWN_CA, Cause.PLAINTEXT, Cause.CIPHER_SUITE)
]


@pytest.fixture
def fresh(etcd_binary: Path) -> Iterator[Logged]:
    """An etcd to which nobody has connected."""
    with start_process(ClusterConfig(), etcd_binary) as cluster:
        yield logged(cluster)


def ran(etcd: Logged, *patterns: str) -> ReadLog:
    """Run these checks on the etcd, and return what its log says in the end."""
    target = dataclasses.replace(etcd.cluster.target(), origin="live", logs={"": FileLog.of(etcd.file)})
    observer = Observer(target)
    run_checks(observer, select((*patterns, "mtls.log-tells-the-same")))
    [log] = observer.get(EtcdLogs).logs
    return log


def about(log: ReadLog, number: int) -> bool:
    """Whether so many lines are said to be of earlier runs, but for some.

    Lines may be written after the run before has read the log, more of them on a busy machine, and a port may
    be used again at once.
    """
    return abs(sum(run.count for run in log.earlier) - number) <= max(5, number // 10)


@pytest.mark.etcd_version("3.4", "3.5.1", "3.6")
def test_a_second_run_recognises_the_first(fresh: Logged) -> None:
    first = ran(fresh, "mtls", "tls", "cert")
    assert (first.earlier, first.others) == ((), ())
    second = ran(fresh, "mtls", "tls", "cert")
    assert second.others == ()
    assert about(second, first.ours)
    assert {run.host for run in second.earlier} == {"127.0.0.1"}


def test_another_client_of_this_machine_is_no_earlier_run(fresh: Logged) -> None:
    host, port = fresh.cluster.members[0].client_url.partition("://")[2].split(":")
    with socket.create_connection((host, int(port))) as plain:
        plain.sendall(b"GET /health HTTP/1.1\r\nHost: etcd\r\n\r\n")
        assert plain.recv(1) == b""
    log = ran(fresh, "mtls")
    assert log.earlier == ()
    [other] = log.others
    assert (other.cause, other.count, other.from_here) == (Cause.PLAINTEXT, 1, True)


def test_the_marks_of_a_run_are_names_that_it_sends() -> None:
    assert (*UNKNOWN_ALPN, UNKNOWN_NAME) == OWN_MARKS


def _of(host: str, *, after: timedelta = timedelta(), kinds: int = 4) -> list[Rejection]:
    """Return lines like ours from a host, an hour before."""
    time = NOW - timedelta(hours=1) + after
    return [
        replace(one, line=number + 1, time=time + timedelta(seconds=number / 10), remote_address=f"{host}:2")
        for number, one in enumerate(OURS[:kinds])
    ]


def test_similar_lines_are_no_earlier_run_without_our_names() -> None:
    lines = _of("10.0.0.7")
    assert earlier_runs(lines, OURS) == ()
    [run] = earlier_runs([*lines[:-1], replace(lines[-1], server_name=UNKNOWN_NAME)], OURS)
    assert len(run.lines) == 4


def test_a_health_check_during_an_earlier_run_is_another_client() -> None:
    marked = [
        replace(line, error=f"unsupported application protocols ([{UNKNOWN_ALPN[0]}])")
        for line in _of("10.0.0.5")
    ]
    checks = [
        replace(OURS[0], line=100 + number, time=NOW - timedelta(hours=2, seconds=number))
        for number in range(1000)
    ]
    [run] = earlier_runs([*marked, *checks], OURS)
    assert {line.line for line in run.lines} == {1, 2, 3, 4}
