"""A violation in other reporters: a failed assertion with the finding, a path and a line; --junitxml."""

from __future__ import annotations

import json
import os
import stat
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from plugin.live_etcd import Live
from plugin.runs import Runner

from pytest_etcdtls.suite.junit import CAUSE, is_replaceable, skip_consequences

READER = """
import json
import pytest

found = []

@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    # Other plugins read a report here, before or after ours has seen it.
    report = yield
    if call.excinfo is not None and report.longrepr is not None and not report.skipped:
        crash = report.longrepr.reprcrash
        found.append({
            "assertion": isinstance(call.excinfo.value, AssertionError),
            "when": report.when,
            "text": report.longreprtext,
            "path": crash.path,
            "lineno": crash.lineno,
            "message": crash.message,
        })
    return report

def pytest_sessionfinish():
    with open("found.json", "w", encoding="utf-8") as file:
        json.dump(found, file)
"""


def read(run: Runner, *arguments: str) -> list[dict[str, object]]:
    """Return what a reporter reads in a run."""
    run.write(reading=READER)
    run.pytester.syspathinsert()
    run("-p", "reading", "--junitxml=junit.xml", *arguments, report=False)
    found: list[dict[str, object]] = json.loads((run.directory / "found.json").read_text(encoding="utf-8"))
    return found


def test_a_violation_is_a_failed_assertion_with_the_finding(run: Runner, live: Live) -> None:
    run.ini("")
    [found] = read(run, *live.wrong_anchor, "--etcd-check=cert.trusted")
    assert (found["assertion"], found["when"]) == (True, "call")
    assert "peer-ca.crt verifies the served certificate" in " ".join(str(found["text"]).split())
    assert "Traceback" not in str(found["text"])
    assert "runtest" not in str(found["text"])
    assert (found["path"], found["lineno"]) == (str(run.directory / "pytest.ini"), 1)
    assert str(found["message"]).startswith("violates: no CA of /")


def test_no_evidence_is_an_error_in_set_up(run: Runner) -> None:
    [found] = read(run, "--etcd-endpoint=https://127.0.0.1:1", "--etcd-check=listener.answers")
    assert (found["assertion"], found["when"]) == (False, "setup")
    assert str(found["text"]).startswith("inconclusive: https://127.0.0.1:1 does not answer")
    assert found["path"] == str(run.directory)


def test_junit_has_check_listener_cause_and_fault(run: Runner, live: Live) -> None:
    read(run, *live.wrong_anchor, "--etcd-check=cert.trusted,mtls.no-certificate")
    cases = ET.parse(run.directory / "junit.xml").getroot().iter("testcase")  # noqa: S314 - pytest wrote it
    found = {
        (case.get("name"), properties["etcdtls.listener"]): properties
        for case in cases
        if (properties := {one.get("name", ""): one.get("value", "") for one in case.iter("property")})
    }
    violated = found["cert.trusted", live.client_label]
    assert violated["etcdtls.check"] == "cert.trusted"
    assert violated["etcdtls.target"] == "live"
    assert violated["etcdtls.severity"] == "high"
    assert violated["etcdtls.level"] == "MUST"
    assert violated["etcdtls.fault"] == f"cert.trusted on {live.client_label}"
    assert "etcdtls.fault" not in found["mtls.no-certificate", live.client_label]


WRITTEN = f"""<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite failures="2" skipped="0">
<testcase name="kůň"><failure message="it fails" /></testcase>
<testcase name="b">
<properties><property name="{CAUSE}" value="a on m0" /></properties><failure message="f">x</failure>
</testcase>
</testsuite></testsuites>"""


def test_consequences_are_skipped() -> None:
    suite = ET.fromstring(skip_consequences(WRITTEN))[0]  # noqa: S314 - made here
    assert (suite.get("failures"), suite.get("skipped")) == ("1", "1")
    assert [case[-1].tag for case in suite] == ["failure", "skipped"]
    assert suite[0].get("name") == "kůň"


@pytest.mark.parametrize("text", [WRITTEN.replace(CAUSE, "another"), WRITTEN[:-20]], ids=["whole", "part"])
def test_a_file_without_consequences_is_as_pytest_wrote_it(text: str) -> None:
    assert skip_consequences(text) == text


def test_the_junit_file_has_the_mode_that_pytest_gives_it_and_keeps_it(run: Runner, live: Live) -> None:
    path = run.directory / "junit.xml"
    before = os.umask(0o027)
    try:
        for mode in (0o640, 0o604):
            out = run(*live.options, "--etcd-check=listener", f"--junitxml={path}", report=False).out
            assert f"generated xml file: {path} " in out
            assert stat.S_IMODE(path.stat().st_mode) == mode
            path.chmod(0o604)
    finally:
        os.umask(before)


def test_a_pipe_and_a_device_are_not_replaced(run: Runner, live: Live) -> None:
    pipe = run.directory / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    run(*live.options, "--etcd-check=listener.answers", "--junitxml=pipe", report=False)
    with open(reader, encoding="utf-8") as file:
        assert "<testsuites" in file.read()
    assert pipe.is_fifo()
    places = {"/dev/null": False, "/dev/stdout": False, "/dev/fd/1": False, "/dev/shm/new.xml": True}  # noqa: S108
    assert {place: is_replaceable(Path(place)) for place in places} == places
