"""Runs are recorded by verdict, and differences are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_etcdtls.errors import ClusterStartError, UsageError
from pytest_etcdtls.results import CheckResult, Finding, Level, Outcome, Severity
from stability.record import Judgement, Record
from stability.run import main
from stability.subjects import subjects


def result(check: str, outcome: Outcome, reason: str = "") -> CheckResult:
    found = (Finding(message="wrong", expected="right", observed="left"),) if outcome is Outcome.WARNS else ()
    return CheckResult(
        check=check,
        level=Level.SHOULD,
        severity=Severity.LOW,
        target="etcd",
        listener="client-m0",
        role="client",
        url="https://127.0.0.1:1",
        outcome=outcome,
        reason=reason,
        findings=found,
    )


def judgement(*results: CheckResult, subject: str = "default") -> Judgement:
    return Judgement.of(subject, results, 0.5)


CLEAN = judgement(result("a.b", Outcome.CONFORMS), result("a.c", Outcome.NOT_VERIFIED, "a key"))


def recorded(*runs: list[Judgement]) -> Record:
    record = Record(about={})
    for number, judgements in enumerate(runs, 1):
        record.add(number, judgements, 0.1)
    return record


def test_equal_runs_do_not_differ() -> None:
    record = recorded([CLEAN], [CLEAN], [CLEAN])
    assert list(record.differences()) == []
    assert record.counted() == 6
    value = json.loads(record.to_json())
    assert [entry["verdicts"] for run in value["runs"] for entry in run["subjects"]] == [
        *value["verdicts"]
    ] * 3
    assert list(value["verdicts"].values()) == [
        {"client-m0 a.b": "conforms", "client-m0 a.c": "not-verified"},
    ]


def test_a_verdict_that_differs_is_named_with_its_runs_and_reasons() -> None:
    different = judgement(result("a.b", Outcome.WARNS), result("a.c", Outcome.NOT_VERIFIED, "another"))
    record = recorded([CLEAN], [different], [CLEAN])
    [difference] = record.differences()
    assert difference.runs == {"conforms": [1, 3], "warns": [2]}
    assert str(difference) == ("default: client-m0 a.b: conforms in run 1, 3; warns in run 2 (wrong: left)")
    assert json.loads(record.to_json())["differences"][0]["verdict"] == "client-m0 a.b"


def test_a_verdict_that_is_missing_differs() -> None:
    [difference] = recorded([CLEAN], [judgement(result("a.b", Outcome.CONFORMS))]).differences()
    assert difference.runs == {"not-verified": [1], "none": [2]}


def test_a_cluster_that_did_not_start_differs_from_one_that_did() -> None:
    failed = Judgement.failed("default", ClusterStartError("no port"), 0.1)
    differences = list(recorded([CLEAN], [failed]).differences())
    assert {d.verdict for d in differences} == {"cluster starts", "client-m0 a.b", "client-m0 a.c"}
    assert "ClusterStartError: no port" in str(differences[-1])


def test_other_subjects_are_not_compared_with_each_other() -> None:
    other = judgement(result("a.b", Outcome.WARNS), subject="other")
    assert list(recorded([CLEAN, other], [CLEAN, other]).differences()) == []


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UsageError, match="zoo 'nowhere' does not exist"):
        subjects({"3.6.16": Path("etcd")}, zoo=["nowhere"])


def test_clusters_are_judged_twice_on_an_available_etcd(
    etcd_binaries: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "stability.json"
    version = list(etcd_binaries)[-1]
    arguments = ["--runs=2", f"--etcd={version}", "--preset=default", "--zoo=client-no-auth", "--check=mtls"]
    assert main([*arguments, f"--output={output}"]) == 0
    value = json.loads(output.read_text(encoding="utf-8"))
    names = [[entry["subject"] for entry in run["subjects"]] for run in value["runs"]]
    assert names == [[f"preset default on etcd {version}", f"zoo client-no-auth on etcd {version}"]] * 2
    judged = list(value["verdicts"].values())
    assert {verdicts["client-m0 mtls.no-certificate"] for verdicts in judged} == {"conforms", "violates"}
    assert "0 differ" in capsys.readouterr().out
