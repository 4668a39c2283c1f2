"""Reports of earlier runs: valid ones, and files that are not."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made import made_report, made_result
from msgspec.structs import replace

from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.facts.behaviour import Behaviour
from pytest_etcdtls.facts.recording import Recording
from pytest_etcdtls.report import baseline, render
from pytest_etcdtls.report.baseline import (
    CheckOutcome,
    Snapshot,
    pairs,
    read_baseline,
    written,
)
from pytest_etcdtls.role import Role
from pytest_etcdtls.target import Listener, Target

LABEL = "client-10.0.0.11-2379"
LISTENER = Listener(role=Role.CLIENT, scheme="https", host="10.0.0.11", port=2379, member="m0", label=LABEL)
RECORDED = Recording(target=Target(label="live", origin="live", listeners=(LISTENER,), etcd_version="3.5.33"))
REPORT: dict[str, Any] = json.loads(
    render(
        made_report(made_result(Outcome.CONFORMS, "mtls.no-certificate", listener=LABEL), seen=(RECORDED,)),
        ".json",
    )
)
REPORT["targets"][0]["behaviour"] = [
    {"listener": LABEL, "topic": "access", "subject": "none", "detail": "TLS 1.3", "value": "refused"}
]


def write(directory: Path, content: object) -> Path:
    path = directory / "report.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def changed(**values: object) -> dict[str, Any]:
    return {**REPORT, **values}


def test_a_report_is_read(tmp_path: Path) -> None:
    read = read_baseline(write(tmp_path, REPORT))
    assert read.snapshots == (
        Snapshot(
            label="live",
            etcd_version="3.5.33",
            listeners=((LABEL, "client"),),
            live=True,
            outcomes={(LABEL, "mtls.no-certificate"): CheckOutcome(Outcome.CONFORMS)},
            behaviour=(Behaviour(LABEL, "access", "none", "TLS 1.3", "refused"),),
        ),
    )
    assert not read.partial


SNAPSHOTS = (
    Snapshot(
        label="etcd-3.5.33",
        etcd_version="3.5.33",
        listeners=(("client-m0", "client"), ("peer-m0", "peer")),
        outcomes={
            ("client-m0", "mtls.no-certificate"): CheckOutcome(Outcome.VIOLATES, follows=True),
            ("peer-m0", "mtls.no-certificate"): CheckOutcome(Outcome.CONFORMS),
            ("cluster", "config.starts"): CheckOutcome(Outcome.CONFORMS),
        },
        behaviour=(
            Behaviour("client-m0", "access", "none", "TLS 1.3", "refused"),
            Behaviour("peer-m0", "access", "none", "TLS 1.3", "refused"),
            Behaviour("client-m0", "build", "Go", "", "go1.25.12"),
        ),
    ),
    Snapshot(label="etcd-3.6.16", outcomes={}),
)


def test_a_baseline_file_has_the_snapshots_a_line_for_each_check_and_behaviour(tmp_path: Path) -> None:
    text = written(SNAPSHOTS, partial=True)
    read = read_baseline(write(tmp_path, text.encode()))
    assert read.snapshots == SNAPSHOTS
    assert read.partial
    first, *_ = SNAPSHOTS
    other = replace(
        first,
        outcomes=dict(reversed(list(first.outcomes.items())))
        | {("cluster", "config.starts"): CheckOutcome(Outcome.WARNS)},
        behaviour=first.behaviour[::-1],
    )
    lines = [text.splitlines(), written([other, *SNAPSHOTS[1:]], partial=True).splitlines()]
    changed = [new for old, new in zip(*lines, strict=True) if old != new]
    assert changed == ['  "config.starts": {"warns": ["cluster"]},']


def test_a_report_from_before_behaviour_was_recorded_is_read(tmp_path: Path) -> None:
    target = {name: value for name, value in REPORT["targets"][0].items() if name != "behaviour"}
    later = ("verdict", "metadata", "differences", "profiles", "attempts")
    before = {name: value for name, value in changed(targets=[target]).items() if name not in later}
    (snapshot,) = read_baseline(write(tmp_path, before)).snapshots
    assert snapshot.behaviour == ()
    assert snapshot.outcomes


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no JSON"),
        (b"\x00\xff\xfe", "no UTF-8"),
        (b"[" * 100_000, "nested deeper"),
        (b'{"schema_version": ' + b"9" * 5000 + b"}", "a number of 5000 characters"),
        ([], "no report of pytest-etcdtls"),
        (changed(schema_version=2), "it has schema version 2 and was written by pytest-etcdtls "),
        (changed(targets=[]), "it has no target"),
        (changed(targets=REPORT["targets"] * 2), "two of its targets have one label"),
        (changed(results={}), "results: a list is expected"),
        (changed(results=[{**REPORT["results"][0], "listener": 3}]), "results[0].listener: a text"),
        (changed(results=[{**REPORT["results"][0], "outcome": "fine"}]), "results[0].outcome: unknown value"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, content: object, said: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(UsageError) as raised:
        read_baseline(path)
    assert str(raised.value).startswith(f"--etcd-baseline {path}: ")
    assert said in str(raised.value)
    assert str(raised.value).endswith("Pass a report that --etcd-report=NAME.baseline or NAME.json wrote.")


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline, "MAXIMUM_SIZE", 1024 * 1024)
    with pytest.raises(UsageError, match="is larger than 1 MiB"):
        read_baseline(write(tmp_path, b" " * (1024 * 1024 + 1)))


def _with_something_else(value: Any) -> Iterator[Any]:
    """Yield the document with each of its values replaced by values of other types, one at a time."""
    others: tuple[Any, ...] = (None, True, -1, 1.5, "x", "\x1b[31m\udc80", [], [[]], {}, {"a": {}})
    yield from others
    places = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for place, item in places:
        for other in _with_something_else(item):
            made = copy.copy(value)
            made[place] = other
            yield made
    if isinstance(value, dict):
        yield from ({name: kept for name, kept in value.items() if name != gone} for gone in value)


@pytest.mark.parametrize("whole", [REPORT, json.loads(written(SNAPSHOTS, partial=False))])
def test_values_of_wrong_types_anywhere_are_read_or_refused(tmp_path: Path, whole: Any) -> None:
    tried = refused = 0
    for document in _with_something_else(whole):
        tried += 1
        try:
            read = read_baseline(write(tmp_path, document))
        except UsageError:
            refused += 1
        else:
            texts = [(snapshot.label, snapshot.etcd_version or "") for snapshot in read.snapshots]
            assert all(text.isprintable() for pair in texts for text in pair)
    assert tried > 250
    assert refused > 100


def test_matching_of_results() -> None:
    assert pairs(["a", "b"], ["b", "c"], str) == [("b", "b")]
    assert pairs(["a", "b"], ["c", "d", "e"], str) == [("a", "c"), ("b", "d")]
    assert pairs([], ["c"], str) == []
