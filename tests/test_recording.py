"""The recording of conforming etcds: it is clean as a whole, says what it lacks, and is what etcd answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from conforming import roles_of
from msgspec.structs import replace
from record_conforming import VERSION, record

from pytest_etcdtls.checks.registry import catalogue, select
from pytest_etcdtls.checks.results import Outcome
from pytest_etcdtls.facts.api import ClientExchange
from pytest_etcdtls.facts.fact import Need
from pytest_etcdtls.run.conforming import (
    CLUSTERS,
    FILE,
    conforming,
    observers,
)
from pytest_etcdtls.run.judge import Judge

DOCUMENT = json.loads(FILE.read_text(encoding="utf-8"))


def test_the_recorded_cluster_is_clean() -> None:
    observer = observers()[0]
    judge, outcomes = Judge(observer), dict[str, Outcome]()
    for check in select(["!lifecycle"]):
        for role in roles_of(check):
            here = observer.target.first_of(role)
            if here is not None or role is None:
                result = judge.result(check, here)
                assert result.outcome in (Outcome.CONFORMS, Outcome.NOT_APPLICABLE, Outcome.NOT_VERIFIED), (
                    result
                )
                assert not result.findings, result
                outcomes[check.id] = result.outcome
    assert sum(outcome is Outcome.CONFORMS for outcome in outcomes.values()) > 100


def test_the_file_has_no_key_and_no_path_of_the_recording_machine() -> None:
    text = FILE.read_text(encoding="utf-8")
    assert "PRIVATE KEY" not in text
    assert "/tmp" not in text  # noqa: S108
    assert str(Path.home()) not in text
    assert FILE.stat().st_size < 300_000


def test_a_request_without_an_answer_is_named_with_the_command_that_records_it() -> None:
    unknown = replace(
        catalogue()["api.version-body"], needs={"exchange": Need(ClientExchange, "GET /nothing")}
    )
    said = (
        r"api\.version-body \(.*\): ClientExchange: the recording has no request 'GET /nothing, as client "
        r"over http/1\.1': record it again with 'PYTHONPATH=tests python -m record_conforming', "
        r"or return with @check\(\.\.\., "
        r"conforming=\.\.\.\) what etcd answers"
    )
    with pytest.raises(AssertionError, match=said):
        conforming(unknown)


@pytest.mark.etcd_version(VERSION)
def test_a_new_recording_has_the_same_requests_and_endings(etcd_binary: Path) -> None:
    fresh = record(etcd_binary)
    assert fresh["etcd"] == DOCUMENT["etcd"]
    for name in CLUSTERS:
        kept, new = _endings(DOCUMENT["clusters"][name]), _endings(fresh["clusters"][name])
        assert new == kept, "run python -m record_conforming, and look at the difference"


def _endings(cluster: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    """Return how each connection ended, by label and request; of usual ports, whatever listens there."""
    return {
        (label, key): tuple(answer.get(name) for name in ("ending", "alert", "reply", "version"))
        for label, of_label in cluster["answers"].items()
        for key, answer in of_label.items()
        if label.endswith(("-m0", "-m1", "-m2"))
    }
