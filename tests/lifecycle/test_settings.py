"""Which clusters are started for experiments, when, and that they are removed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from unruly.programs import changed_flags, recorded

from lifecycle.targets import of_binary, of_etcd
from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.lifecycle.changes import settings_for
from pytest_etcdtls.report.model import jsonable
from pytest_etcdtls.results import CheckResult, Outcome
from pytest_etcdtls.run.judge import Judge, run_checks
from pytest_etcdtls.run.observer import Observer
from pytest_etcdtls.target import Target

DEADLINE = 60.0


def _judged(target: Target, *patterns: str) -> list[CheckResult]:
    return run_checks(Observer(target), select(patterns or ("lifecycle",)))


def _started(record: Path) -> list[int]:
    return [int(line) for line in record.read_text(encoding="utf-8").split()] if record.exists() else []


def _await(reached: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + DEADLINE
    while not reached() and time.monotonic() < deadline:
        time.sleep(0.02)
    return reached()


def _alive(pid: int) -> bool:
    # A zombie, whose parent was killed before it, is no process any more.
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_nothing_is_started_for_a_live_target(newest_etcd: Path, tmp_path: Path) -> None:
    record = tmp_path / "record"
    program = recorded(record)(newest_etcd, tmp_path)
    target = of_etcd(str(program), "3.7.3", "live")
    assert _judged(target) == []
    judge = Judge(Observer(target))
    results = [judge.result(check, None) for check in select(["lifecycle"])]
    assert {result.outcome for result in results} == {Outcome.NOT_APPLICABLE}
    assert {result.reason for result in results} == {
        "only on a cluster of our own: it restarts etcd and changes its files"
    }
    assert _started(record) == []


def test_one_check_starts_one_cluster_once(newest_etcd: Path, tmp_path: Path) -> None:
    record = tmp_path / "record"
    target = of_binary(recorded(record)(newest_etcd, tmp_path))
    observer = Observer(target)
    for _ in range(2):
        results = run_checks(observer, select(["lifecycle.allowed-hostname", "lifecycle.peer-san"]))
        assert [result.outcome for result in results] == [Outcome.CONFORMS] * 2
    assert len(_started(record)) == 1
    assert not any(map(_alive, _started(record)))


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
    needs = [(need.type, need.key) for check in select(patterns) for need in check.needs.values()]
    assert len(settings_for(of_binary(newest_etcd), needs)) == clusters


def test_connections_of_experiments_are_not_counted_for_the_target(newest_etcd: Path) -> None:
    observer = Observer(of_binary(newest_etcd))
    run_checks(observer, select(["lifecycle.leaf-reload"]))
    assert (observer.connections, dict(observer.used)) == ([], {})


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


def test_an_etcd_that_does_not_start_is_inconclusive(newest_etcd: Path, tmp_path: Path) -> None:
    target = of_binary(changed_flags(listen_client_urls="nonsense")(newest_etcd, tmp_path))
    results = _judged(target, "lifecycle.allowed-hostname", "lifecycle.peer-san")
    assert [result.outcome for result in results] == [Outcome.INCONCLUSIVE] * 2
    assert all("did not start" in result.reason for result in results)


def test_a_missing_binary_is_inconclusive(tmp_path: Path) -> None:
    (result,) = _judged(of_etcd(str(tmp_path / "etcd"), "3.7.3"), "lifecycle.leaf-reload")
    assert result.outcome is Outcome.INCONCLUSIVE
    assert str(tmp_path / "etcd") in result.reason


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill-9"])
def test_no_process_outlives_the_run(newest_etcd: Path, tmp_path: Path, number: signal.Signals) -> None:
    record, clusters = tmp_path / "record", tmp_path / "clusters"
    clusters.mkdir()
    program = recorded(record)(newest_etcd, tmp_path)
    owner = subprocess.Popen(
        [sys.executable, "-m", "lifecycle.owner", str(program)],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "TMPDIR": str(clusters)},
        stderr=subprocess.DEVNULL,
    )
    try:
        assert _await(lambda: len(_started(record)) >= 4)
    finally:
        owner.send_signal(number)
        owner.wait(DEADLINE)
    assert _await(lambda: not any(map(_alive, _started(record))))
    assert _await(lambda: list(clusters.glob("pytest-etcdtls-*/pki")) == [])
