"""The log of a live etcd, while it is written: rotated, removed, of several members."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from starting import start_process

from etcd_log.conftest import Logged
from pytest_etcdtls.etcd.cluster import Cluster
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd_log.parse import LogSource, log_file
from pytest_etcdtls.facts.etcd_log import EtcdLogs, ReadLog
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer


def _read(cluster: Cluster, logs: dict[str, LogSource]) -> tuple[ReadLog, ...]:
    """Judge the cluster as somebody's, with these logs, and return what is read of them."""
    observer = Observer(replace(cluster.target(), origin="live", logs=logs))
    run_checks(observer, ["mtls"])
    return observer.get(EtcdLogs).logs


@pytest.mark.parametrize("how", ["renamed", "truncated"])
def test_a_log_that_is_rotated_meanwhile(etcd: Logged, how: str, tmp_path: Path) -> None:
    path = tmp_path / "etcd.log"
    path.write_text(etcd.file.read_text(encoding="utf-8"), encoding="utf-8")
    source = log_file(path)
    if how == "renamed":
        path.rename(tmp_path / "etcd.log.1")
    else:
        os.truncate(path, 0)
    path.touch()
    last = etcd.file.read_text(encoding="utf-8").splitlines(keepends=True)[-1]
    path.write_text(last, encoding="utf-8")
    assert source.read() == (last, False)


def test_a_log_that_is_removed_during_the_run(etcd: Logged, tmp_path: Path) -> None:
    path = tmp_path / "etcd.log"
    path.write_text(etcd.file.read_text(encoding="utf-8"), encoding="utf-8")
    source = log_file(path)
    path.unlink()
    [log] = _read(etcd.cluster, {"": source})
    assert (log.problem, log.members) == ("does not exist", ("m0",))


def test_each_member_has_its_own_log(newest_etcd: Path) -> None:
    with start_process(ClusterConfig(size=3), newest_etcd) as cluster:
        files = [log_file(member.server.log_file) for member in cluster.members]  # type: ignore[union-attr]
        read = _read(cluster, {"m0": files[0], "m1": files[1], "": files[2]})
        # A log of another member has no line of ours: each port of this machine is used once at a time.
        [of_another] = _read(cluster, {"m0": files[1]})
    assert [log.members for log in read] == [("m0",), ("m1",), ("m2",)]
    assert all(log.ours and not log.others for log in read), [log.others for log in read]
    assert of_another.others
