"""Which clusters are started for experiments, side by side, and removed; requests are counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from cluster.conftest import DEADLINE, gone
from judged import judged
from unruly.programs import changed_flags, recorded

from lifecycle.targets import of_binary, of_etcd
from pytest_etcdtls.checks.registry import Check, select
from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.etcd.clocks import until
from pytest_etcdtls.lifecycle.changes import Answer, Client, settings_for
from pytest_etcdtls.report.json import jsonable
from pytest_etcdtls.run.collector import AT_ONCE, experiment
from pytest_etcdtls.run.judge import Judge, run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.run.workers import SharedLock


def _needs(checks: Iterable[Check]) -> list[tuple[type[Any], str | None]]:
    return [(need.type, need.key) for check in checks for need in check.needs.values()]


def _started(record: Path) -> list[int]:
    return [int(line) for line in record.read_text(encoding="utf-8").split()] if record.exists() else []


def test_nothing_is_started_for_a_live_target(newest_etcd: Path, tmp_path: Path) -> None:
    record = tmp_path / "record"
    program = recorded(record)(newest_etcd, tmp_path)
    target = of_etcd(str(program), "3.7.3", "live")
    assert judged(target, "lifecycle") == []
    judge = Judge(Observer(target))
    results = [judge.result(check, None) for check in select(["lifecycle"])]
    assert {result.outcome for result in results} == {Outcome.NOT_APPLICABLE}
    assert {result.reason for result in results} == {
        "only on a cluster of our own: it restarts etcd and changes its files"
    }
    assert _started(record) == []


def test_a_cluster_is_started_once_for_its_checks_and_its_connections_are_not_those_of_the_target(
    newest_etcd: Path, tmp_path: Path
) -> None:
    record = tmp_path / "record"
    observer = Observer(of_binary(recorded(record)(newest_etcd, tmp_path)))
    for _ in range(2):
        results = run_checks(observer, select(["lifecycle.allowed-hostname", "lifecycle.peer-san"]))
        assert [result.outcome for result in results] == [Outcome.CONFORMS] * 2
    assert len(_started(record)) == 1
    assert all(map(gone, _started(record)))
    assert (observer.connections, dict(observer.used)) == ([], {})


@pytest.mark.parametrize("is_there", [True, False])
def test_an_etcd_that_does_not_start_is_inconclusive(
    newest_etcd: Path, tmp_path: Path, *, is_there: bool
) -> None:
    program = tmp_path / "absent" / "etcd"
    if is_there:
        program = changed_flags(listen_client_urls="nonsense")(newest_etcd, tmp_path)
    results = judged(of_etcd(str(program), "3.7.3"), "lifecycle.allowed-hostname", "lifecycle.peer-san")
    assert [result.outcome for result in results] == [Outcome.INCONCLUSIVE] * 2
    assert all("did not start" in result.reason and str(program) in result.reason for result in results)


@pytest.mark.parametrize(
    ("patterns", "clusters"),
    [
        (["lifecycle"], 9),
        (["lifecycle.leaf-reload", "lifecycle.crl-*", "lifecycle.ca-bundle-*"], 2),
        (["lifecycle.cipher-suites", "lifecycle.version-floor", "lifecycle.version-ceiling"], 3),
        (["lifecycle.member-with-foreign-certificate-cannot-join", "cert"], 1),
        (["!lifecycle"], 0),
    ],
)
def test_the_plan_has_the_number_of_clusters(patterns: list[str], clusters: int, newest_etcd: Path) -> None:
    assert len(settings_for(of_binary(newest_etcd), _needs(select(patterns)))) == clusters


def test_no_secret_is_among_the_facts(newest_etcd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    password = "the-password-of-root"
    monkeypatch.setattr("secrets.token_urlsafe", lambda _: password)
    observer = Observer(of_binary(newest_etcd))
    results = run_checks(observer, select(["lifecycle.cn-*"]))
    assert [result.outcome for result in results] == [Outcome.CONFORMS] * 2
    facts = [jsonable(fact) for _, _, fact in observer.facts]
    assert len(facts) == 1
    shown = json.dumps(facts)
    assert password not in shown
    assert "PRIVATE KEY" not in shown


EXPERIMENTS = """
import sys
from pathlib import Path
from judged import judged
from cluster.conftest import DEADLINE, gone
from lifecycle.targets import of_binary
while True:
    judged(of_binary(Path(sys.argv[1])), "lifecycle")
"""


def test_no_process_outlives_a_killed_run(newest_etcd: Path, tmp_path: Path) -> None:
    record, clusters = tmp_path / "record", tmp_path / "clusters"
    clusters.mkdir()
    program = recorded(record)(newest_etcd, tmp_path)
    owner = subprocess.Popen(
        [sys.executable, "-c", EXPERIMENTS, str(program)],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "TMPDIR": str(clusters)},
        stderr=subprocess.DEVNULL,
    )
    try:
        assert until(lambda: len(_started(record)) >= 4, DEADLINE)
    finally:
        owner.kill()
        owner.wait(DEADLINE)
    assert all(map(gone, _started(record)))
    assert until(lambda: list(clusters.glob("pytest-etcdtls-*/pki")) == [], DEADLINE)


@pytest.mark.etcd_version("3.5.33", "3.6", "3.7")
def test_concurrent_experiments_give_the_same_results(newest_etcd: Path, tmp_path: Path) -> None:
    record, checks = tmp_path / "record", select(["lifecycle.version-*", "lifecycle.cipher-suites"])
    observer = Observer(of_binary(recorded(record)(newest_etcd, tmp_path)))
    experiments = experiment(observer, settings_for(observer.target, _needs(checks)))
    results = run_checks(observer, checks)
    experiments.end()
    assert {result.outcome for result in results} == {Outcome.CONFORMS}
    assert len(_started(record)) == 3
    assert all(map(gone, _started(record)))


def test_an_abandoned_experiment_removes_its_clusters_and_starts_no_other(
    newest_etcd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, clusters = tmp_path / "record", tmp_path / "clusters"
    clusters.mkdir()
    program = recorded(record)(newest_etcd, tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(clusters))
    observer = Observer(of_binary(program))
    settings = settings_for(observer.target, _needs(select(["lifecycle"])))
    experiments = experiment(observer, settings)
    assert until(lambda: bool(_started(record)), DEADLINE)
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


def test_every_request_is_counted_by_its_ending_and_few_examples_are_kept() -> None:
    answers: list[Answer] = [("served", "", b"leaf"), ("unclear", "silence", b""), ("lost", "reset", b"")]
    client = Client(lambda: answers.pop(0) if len(answers) > 1 else answers[0], nullcontext())
    client.start()
    while client.requests < 10:
        threading.Event().wait(0.001)
    client.stop()
    assert not client.is_alive()
    assert (client.counts.served, client.counts.unclear, client.leaf) == (1, 1, b"leaf")
    assert client.counts.lost >= 8
    assert client.counts.examples == ("silence", "reset", "reset")
