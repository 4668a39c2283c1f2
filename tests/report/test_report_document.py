"""The JSON report: it always conforms to its schema, and is written completely or not at all."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conforming import sample
from made import made_report, made_result
from msgspec.structs import replace

from pytest_etcdtls.checks.registry import catalogue
from pytest_etcdtls.checks.results import CheckResult, Finding, Outcome
from pytest_etcdtls.facts.listener import ServedChain
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.facts.stopping import SecondLook
from pytest_etcdtls.report import render, write_document, write_file
from pytest_etcdtls.report.document import SCHEMA_VERSION, schema
from pytest_etcdtls.report.json import document, encoded
from pytest_etcdtls.report.model import Report
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener, Target

TARGET = Target(
    label="live",
    origin="live",
    listeners=(
        Listener(
            role=Role.CLIENT,
            scheme="https",
            host="10.0.0.11",
            port=2379,
            member="10.0.0.11",
            label="client-10.0.0.11-2379",
        ),
    ),
    user=("root", "s3cret"),
)


def result(outcome: Outcome, role: str = "client") -> CheckResult:
    return made_result(
        outcome,
        listener="client-10.0.0.11-2379",
        role=role,
        reason="why",
        findings=(Finding("m", "e", "o", {"a": "b"}, ("curl",)),),
        references=("RFC 5280",),
        seconds=0.5,
    )


def report(*results: CheckResult, partial: bool = False) -> Report:
    label = TARGET.listeners[0].label
    judging = [check for check in catalogue().values() if not check.roles or Role.CLIENT in check.roles]
    needs = {(need.type, need.key): need for check in judging for need in check.needs.values()}
    facts: list[tuple[str | None, str | None, Any]] = [
        (label, key, sample(need, Role.CLIENT))
        for (_, key), need in needs.items()
        if need.type is not SecondLook  # which is made where a member may be stopping
    ]
    facts.append((None, None, facts[0][2]))
    return made_report(
        *results, partial=partial, seen=(Recording(target=TARGET, facts=tuple(facts)),), seconds=1.5
    )


def test_the_shipped_schema_is_that_of_the_document() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    shipped = files("pytest_etcdtls.report") / f"schema-v{SCHEMA_VERSION}.json"
    assert json.loads(shipped.read_text(encoding="utf-8")) == json.loads(json.dumps(schema()))


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_result_of_every_outcome_keeps_the_schema_and_is_counted(outcome: Outcome) -> None:
    found = json.loads(encoded(document(report(result(outcome)))))
    jsonschema.validate(found, schema())
    assert found["summary"][outcome] == 1
    faults = found["summary"].pop("faults")
    assert faults == (outcome is Outcome.VIOLATES)
    assert sum(found["summary"].values()) == 1


def test_an_empty_report_and_a_check_of_the_whole_target_keep_the_schema() -> None:
    found = document(
        Report(started_at=datetime(2030, 1, 1, tzinfo=UTC), seconds=0.0, partial=True, seen=(), results=())
    )
    jsonschema.validate(json.loads(encoded(found)), schema())
    assert found.partial
    whole = document(report(result(Outcome.WARNS, role="cluster")))
    jsonschema.validate(json.loads(encoded(whole)), schema())


def test_observations_have_their_place_and_the_numbers_of_attempts_and_no_secret() -> None:
    made = document(report())
    assert "s3cret" not in encoded(made)
    entries = made.observations
    assert {(entry["target"], entry["role"]) for entry in entries} == {
        ("live", "client"),
        ("live", "cluster"),
    }
    identities = {entry["key"] for entry in entries if entry["kind"] == "access-matrix"}
    assert {"foreign-ca", "self-signed"} <= identities
    assert [entry["attempt"] for entry in made.attempts] == [*range(len(made.attempts))]
    [matrix] = [entry for entry in made.observations if entry.get("key") == "foreign-ca"]
    numbers = {attempt["attempt"] for case in matrix["cases"] for attempt in case["tries"]}
    assert {made.attempts[number]["identity"] for number in numbers} == {"foreign-ca"}
    assert '"phase"' not in encoded(made.observations)


@pytest.mark.parametrize(("suffix", "mode"), [(".json", 0o600), (".prom", 0o644)])
def test_a_new_file_is_private_but_metrics_and_a_replaced_one_keeps_its_mode(
    tmp_path: Path, suffix: str, mode: int
) -> None:
    path = tmp_path / f"report{suffix}"
    write_document(made_report(), path)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    path.write_text("old", encoding="utf-8")
    path.chmod(0o640)
    write_document(made_report(), path)
    assert path.read_text(encoding="utf-8")[:3] != "old"
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_file_or_link_of_another_user_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim, file, link = tmp_path / "victim", tmp_path / "a.json", tmp_path / "b.json"
    for path in (victim, file):
        path.write_text("theirs", encoding="utf-8")
        path.chmod(0o666)
    link.symlink_to(victim)
    monkeypatch.setattr("os.geteuid", lambda: victim.stat().st_uid + 1)
    for path in (file, link):
        with path.open(encoding="utf-8") as theirs:
            write_file(path, ["new"])
            assert theirs.read() == "theirs"
        assert (path.read_text(encoding="utf-8"), stat.S_IMODE(path.stat().st_mode)) == ("new", 0o600)
    monkeypatch.undo()
    link.unlink()
    link.symlink_to(victim)
    write_file(link, ["new"])
    assert stat.S_IMODE(link.lstat().st_mode) == 0o600, "not the mode behind the link"
    assert victim.read_text(encoding="utf-8") == "theirs"


@pytest.mark.parametrize("suffix", [".html", ".md"])
def test_a_part_that_cannot_be_encoded_is_omitted(suffix: str) -> None:
    whole = report(result(Outcome.VIOLATES))
    broken = ServedChain(
        certificates=(object(),),  # type: ignore[arg-type]
        observed_at=whole.started_at,
    )
    facts = ((TARGET.listeners[0].label, None, broken),)
    lost: list[str] = []
    text = render(replace(whole, seen=(Recording(target=TARGET, facts=facts),)), suffix, lost)
    assert "could not be shown" in text
    assert lost
    assert "cert.trusted" in text
    assert "curl" in text


def test_a_file_that_cannot_be_replaced_is_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.mkdir()
    (path / "kept").touch()
    with pytest.raises(OSError, match=r"report\.json"):
        write_document(made_report(), path)
    with pytest.raises(OSError, match="missing"):
        write_document(made_report(), tmp_path / "missing" / "report.json")
    assert [found.name for found in tmp_path.iterdir()] == ["report.json"]
