"""A part of a report that cannot be written, shown or reached does not affect the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile.hostile_servers import Hostile, Judging

SOME = ("--etcd-check=cert.trusted,mtls.no-certificate,api.version-body", "--etcd-timeout=5")

FAULTS = """
import shutil
from itertools import count

import pytest_etcdtls.report.json as report
import pytest_etcdtls.report.terminal as terminal
import pytest_etcdtls.suite.session as session

def failing(function, fails, error):
    def call(*given):
        if fails(*given):
            raise error
        return function(*given)
    return call

def served(fact):
    return type(fact).__name__ == "ServedChain"

def second(_, numbers=count(1)):
    return next(numbers) == 2

def pytest_sessionstart():
    shutil.rmtree("gone")

report.kind = failing(report.kind, served, RecursionError("nested"))
report._connection = failing(report._connection, second, ValueError("Out of range float"))
terminal.certificate_card = failing(None, lambda *_: True, UnicodeError("no text\\x1b"))
session.write_document = failing(
    session.write_document, lambda _, path: path.name == "other.json", RecursionError("maximum depth")
)
"""


def test_every_part_may_fail(hostile: Hostile, judge: Judging, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    reports = (tmp_path / "report.json", tmp_path / "gone" / "first.json", tmp_path / "other.json")
    url = hostile.etcd()
    judged = judge(*hostile.options(url), *SOME, "-v", reports=reports, plugin=FAULTS)
    assert judged.exit_code == 1
    assert list(judged.written) == [reports[0]]
    assert judged.report["partial"]
    assert set(judged.outcomes(url).values()) == {"conforms"}
    assert judged.report["observations"]
    assert judged.report["connections"]
    said = " ".join(judged.output.split())
    for text in (
        f"{reports[1]} could not be written: No such file or directory.",
        "other.json could not be written: RecursionError: maximum depth.",
        "is without",
        "RecursionError: nested",
        "connection 2: ValueError: Out of range float",
        "This part could not be shown: UnicodeError: no text",
        "3 conform",
    ):
        assert text in said
    assert "Traceback" not in said


@pytest.mark.parametrize("shell", ["", "| head -1", ">&-", ">&- 2>&-", ">/dev/full"])
def test_a_standard_output_that_is_closed(hostile: Hostile, judge: Judging, shell: str) -> None:
    url = hostile.etcd()
    judged = judge(*hostile.options(url), *SOME, shell=shell)
    assert shell or judged.exit_code == 0, judged.output
    assert judged.written, judged.output
    assert not judged.report["partial"]
    assert set(judged.outcomes(url).values()) == {"conforms"}
    assert b"INTERNALERROR" not in judged.out
