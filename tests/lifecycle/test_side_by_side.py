"""Experiments run concurrently, and an interrupted run leaves nothing of them."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from unruly.programs import recorded

from lifecycle.targets import of_binary
from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.lifecycle.changes import settings_for
from pytest_etcdtls.results import Outcome
from pytest_etcdtls.run.collector import AT_ONCE, Experiments
from pytest_etcdtls.run.judge import run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.run.workers import SharedLock
from pytest_etcdtls.target import Target

DEADLINE = 60.0


def _started(record: Path) -> list[int]:
    return [int(line) for line in record.read_text(encoding="utf-8").split()] if record.exists() else []


def _settings(target: Target, *patterns: str) -> list[str]:
    needs = ((need.type, need.key) for one in select(patterns) for need in one.needs.values())
    return settings_for(target, needs)


@pytest.mark.etcd_version("3.5.33", "3.6", "3.7")
def test_concurrent_experiments_give_the_same_results(newest_etcd: Path, tmp_path: Path) -> None:
    record, patterns = tmp_path / "record", ["lifecycle.version-*", "lifecycle.cipher-suites"]
    observer = Observer(of_binary(recorded(record)(newest_etcd, tmp_path)))
    experiments = Experiments(observer, _settings(observer.target, *patterns))
    results = run_checks(observer, select(patterns))
    experiments.end()
    assert {result.outcome for result in results} == {Outcome.CONFORMS}
    assert len(_started(record)) == 3
    assert not [pid for pid in _started(record) if Path(f"/proc/{pid}/cmdline").exists()]


def test_an_abandoned_experiment_removes_its_clusters_and_starts_no_other(
    newest_etcd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, clusters = tmp_path / "record", tmp_path / "clusters"
    clusters.mkdir()
    program = recorded(record)(newest_etcd, tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(clusters))
    observer = Observer(of_binary(program))
    settings = _settings(observer.target, "lifecycle")
    experiments = Experiments(observer, settings)
    deadline = time.monotonic() + DEADLINE
    while not _started(record) and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    experiments.end()
    assert list(clusters.iterdir()) == []
    assert 0 < len(_started(record)) <= AT_ONCE + 2 < len(settings) + 2  # one cluster has three members


def test_an_experiment_that_runs_alone_excludes_others() -> None:
    lock, order = SharedLock(), list[str]()
    started, alone, may_end = threading.Event(), threading.Event(), threading.Event()

    def work_with_others() -> None:
        with lock.shared():
            started.set()
            may_end.wait(DEADLINE)
            order.append("shared")

    def work_alone() -> None:
        started.wait(DEADLINE)
        with lock.shared(), lock.exclusive():
            order.append("alone")
            alone.set()

    threads = [threading.Thread(target=work) for work in (work_with_others, work_alone)]
    for thread in threads:
        thread.start()
    started.wait(DEADLINE)
    assert not alone.is_set()
    may_end.set()
    for thread in threads:
        thread.join(DEADLINE)
    assert order == ["shared", "alone"]
