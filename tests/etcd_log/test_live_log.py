"""The log of a live etcd, while it is written: rotated, removed, of several members."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from starting import start_process

from etcd_log.conftest import Logged
from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.checks.results import CheckResult, Outcome
from pytest_etcdtls.etcd.config import ClusterConfig
from pytest_etcdtls.etcd_log.parse import LogSource, log_file
from pytest_etcdtls.facts.etcd_log import EtcdLogs
from pytest_etcdtls.run.judge import Judge
from pytest_etcdtls.run.observer import Observer

CHECK = catalogue()["mtls.log-tells-the-same"]


def _observer(etcd: Logged, log: LogSource) -> Observer:
    return Observer(replace(etcd.cluster.target(), origin="live", logs={"": log}))


def _all_agree(observer: Observer, outcome: Outcome = Outcome.CONFORMS) -> list[CheckResult]:
    judge = Judge(observer)
    results = [judge.result(CHECK, listener) for listener in observer.target.listeners]
    assert {result.outcome for result in results} == {outcome}, results
    return results


@pytest.mark.parametrize("how", ["renamed", "truncated"])
def test_a_log_that_is_rotated_meanwhile(etcd: Logged, how: str, tmp_path: Path) -> None:
    path = tmp_path / "etcd.log"
    path.write_text(etcd.file.read_text(encoding="utf-8"), encoding="utf-8")
    source = log_file(path)
    assert source.read_new() == ""
    if how == "renamed":
        path.rename(tmp_path / "etcd.log.1")
    else:
        os.truncate(path, 0)
    path.touch()
    last = etcd.file.read_text(encoding="utf-8").splitlines(keepends=True)[-1]
    path.write_text(last, encoding="utf-8")
    assert source.read_new() == last


def test_a_log_that_is_removed_during_the_run(etcd: Logged, tmp_path: Path) -> None:
    path = tmp_path / "etcd.log"
    path.write_text(etcd.file.read_text(encoding="utf-8"), encoding="utf-8")
    observer = _observer(etcd, log_file(path))
    path.unlink()
    results = _all_agree(observer, Outcome.INCONCLUSIVE)
    assert {result.reason for result in results} == {
        f"etcd's log, {path}, cannot be read any more: No such file or directory"
    }
    [log] = observer.get(EtcdLogs).logs
    assert (log.problem, log.members) == ("does not exist", ("m0",))


def test_only_lines_since_the_start_are_compared(etcd: Logged) -> None:
    before = _observer(etcd, log_file(etcd.file))
    _all_agree(before)
    source = log_file(etcd.file)
    assert source.read_new() == ""
    whole, truncated = source.read()
    assert not truncated
    assert "rejected connection" in whole


def test_each_member_has_its_own_log(newest_etcd: Path) -> None:
    with start_process(ClusterConfig(size=3), newest_etcd) as cluster:
        target = cluster.target()
        files = [log_file(member.server.log_file) for member in cluster.members]  # type: ignore[union-attr]
        logs: dict[str, LogSource] = {"m0": files[0], "m1": files[1], "": files[2]}
        observer = Observer(replace(target, origin="live", logs=logs))
        _all_agree(observer)
        read = observer.get(EtcdLogs).logs
        # From here on: a port of the first run may be used again within the time that clocks may differ.
        swapped = Observer(replace(target, origin="live", logs={"m0": log_file(Path(files[1].name))}))
        of_another = Judge(swapped).result(CHECK, target.listeners[0])
    assert [log.members for log in read] == [("m0",), ("m1",), ("m2",)]
    assert all(log.ours and not log.others for log in read), [log.others for log in read]
    assert of_another.outcome is Outcome.NOT_VERIFIED
    assert "the log that this member is writing now" in of_another.reason
