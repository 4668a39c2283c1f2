"""A part of a report that cannot be written, shown or reached does not affect the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile.hostile_servers import Hostile, Judging, hostile, judge

__all__ = ["hostile", "judge"]

SOME = ("--etcd-check=cert.trusted,mtls.no-certificate,api.version-body", "--etcd-timeout=5")

GONE = """
import shutil

def pytest_sessionstart(session):
    shutil.rmtree("gone")
"""
NO_FACT = """
import pytest_etcdtls.report.json as report

kind = report.kind

def refusing(fact):
    if type(fact).__name__ == "ServedChain":
        raise RecursionError("nested")
    return kind(fact)

report.kind = refusing
"""
NO_ENCODING = """
import pytest_etcdtls.report.json as report

connection = report._connection

def odd(attempt):
    odd.calls += 1
    if odd.calls == 2:
        raise ValueError("Out of range float")
    return connection(attempt)

odd.calls = 0
report._connection = odd
"""
NO_CARD = """
import pytest_etcdtls.report.terminal as terminal

def refusing(*_):
    raise UnicodeError("no text\\x1b")

terminal.certificate_card = refusing
"""
NO_FORMAT = """
import pytest_etcdtls.suite.session as session

write = session.write_document

def refusing(report, path):
    if path.name == "other.json":
        raise RecursionError("maximum recursion depth exceeded")
    return write(report, path)

session.write_document = refusing
"""


def test_a_good_server_is_clean(hostile: Hostile, judge: Judging) -> None:
    judged = judge(*hostile.options(hostile.etcd()), *SOME)
    assert judged.exit_code == 0, judged.out.decode()
    assert not judged.report["partial"]


def test_a_report_path_that_was_removed(hostile: Hostile, judge: Judging, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    reports = (tmp_path / "report.json", tmp_path / "gone" / "first.json")
    judged = judge(*hostile.options(hostile.etcd()), *SOME, reports=reports, plugin=GONE)
    assert judged.exit_code == 1
    assert list(judged.written) == [reports[0]]
    assert not judged.report["partial"]
    said = " ".join(judged.out.decode().split())
    assert f"{reports[1]} could not be written: No such file or directory." in said
    assert "Traceback" not in said


def test_a_format_that_fails(hostile: Hostile, judge: Judging, tmp_path: Path) -> None:
    reports = (tmp_path / "other.json", tmp_path / "report.json")
    judged = judge(*hostile.options(hostile.etcd()), *SOME, reports=reports, plugin=NO_FORMAT)
    assert judged.exit_code == 1
    assert list(judged.written) == [reports[1]]
    assert not judged.report["partial"]
    said = " ".join(judged.out.decode().split())
    assert "other.json could not be written: RecursionError: maximum recursion depth exceeded." in said


@pytest.mark.parametrize(
    ("plugin", "part"),
    [(NO_FACT, "RecursionError: nested"), (NO_ENCODING, "connection 2: ValueError: Out of range float")],
)
def test_a_part_that_cannot_be_encoded(hostile: Hostile, judge: Judging, plugin: str, part: str) -> None:
    url = hostile.etcd()
    judged = judge(*hostile.options(url), *SOME, plugin=plugin)
    assert judged.exit_code == 1
    assert judged.report["partial"]
    assert len(judged.outcomes(url)) == 3
    assert judged.report["observations"]
    assert judged.report["connections"]
    said = " ".join(judged.out.decode().split())
    assert "is without" in said
    assert part in said
    assert "Traceback" not in said


def test_a_part_of_the_summary_that_cannot_be_shown(hostile: Hostile, judge: Judging) -> None:
    judged = judge(*hostile.options(hostile.etcd()), *SOME, "-v", plugin=NO_CARD)
    assert judged.exit_code == 1
    assert not judged.report["partial"]
    said = judged.out.decode()
    assert "This part could not be shown: UnicodeError: no text" in said
    assert "3 conform" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("shell", ["| head -1", ">&-", ">&- 2>&-", ">/dev/full"])
def test_a_standard_output_that_is_closed(hostile: Hostile, judge: Judging, shell: str) -> None:
    url = hostile.etcd()
    judged = judge(*hostile.options(url), *SOME, shell=shell)
    assert judged.written, judged.out.decode()
    assert not judged.report["partial"]
    assert set(judged.outcomes(url).values()) == {"conforms"}
    assert b"INTERNALERROR" not in judged.out
