"""A fault with consequences, as waivers and JUnit count it: once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from plugin.live_etcd import Live
from plugin.runs import Runner
from starting import start_process

from pytest_etcdtls.etcd.config import ClusterConfig


@pytest.fixture(scope="module")
def open_etcd(newest_etcd: Path) -> Iterator[Live]:
    """An etcd that accepts clients without a certificate."""
    with start_process(ClusterConfig(client_cert_auth=False, trusted_ca_file=None), newest_etcd) as cluster:
        yield Live.of(cluster)


def test_one_waiver_accepts_a_fault_with_what_follows_from_it(run: Runner, open_etcd: Live) -> None:
    ran = run(*open_etcd.options, "--etcd-write-waivers=waivers.toml")
    [fault] = [one for one in ran.report["faults"] if one["check"] == "mtls.no-certificate"]
    assert len(fault["consequences"]) > 5
    proposed = run.directory / "waivers.toml"
    text = proposed.read_text(encoding="utf-8")
    assert text.count("[[waiver]]") == 1
    proposed.write_text(text.replace('reason = ""', 'reason = "open until Monday"'), encoding="utf-8")

    ran = run(*open_etcd.options, "--etcd-waivers=waivers.toml")
    assert ran.exit_code == 0
    assert "violates" not in ran.counts
    waived = [result for result in ran.report["results"] if result["outcome"] == "waived"]
    assert len(waived) == 1 + len(fault["consequences"])
    assert all("open until Monday" in result["reason"] for result in waived)
    [summary] = re.findall(r"^waived\n(.*?)\n\n", ran.out, re.MULTILINE | re.DOTALL)
    assert f"so are {len(waived) - 1} results that follow from it" in " ".join(summary.split())
    assert summary.count("mtls.no-certificate on") == 1


def test_a_waiver_of_a_consequence_accepts_that_alone(run: Runner, open_etcd: Live) -> None:
    (run.directory / "waivers.toml").write_text(
        '[[waiver]]\ncheck = "mtls.self-signed"\nreason = "known"\nexpires = 2099-12-31\n', encoding="utf-8"
    )
    ran = run(*open_etcd.options, "--etcd-check=mtls", "--etcd-waivers=waivers.toml")
    assert ran.exit_code == 1
    assert [result["check"] for result in ran.report["results"] if result["outcome"] == "waived"] == [
        "mtls.self-signed"
    ]
    assert ran.outcomes[f"{open_etcd.client_label}::mtls.foreign-ca"] == "violates"


def test_junit_has_one_failure_and_skipped_consequences(run: Runner, open_etcd: Live) -> None:
    run.write(test_user="def test_user(): assert not 'of the user'")
    ran = run(*open_etcd.options, "--junitxml=junit.xml", "-p", "no:randomly")
    [fault] = [one for one in ran.report["faults"] if one["check"] == "mtls.no-certificate"]
    root = ElementTree.parse(run.directory / "junit.xml").getroot()  # noqa: S314 - written just now
    [suite] = root.iter("testsuite")
    failed = [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None]
    assert sorted(map(str, failed)) == ["mtls.no-certificate", "test_user"]
    assert suite.get("failures") == "2"
    skipped = [one for case in suite.iter("testcase") if (one := case.find("skipped")) is not None]
    assert suite.get("skipped") == str(len(skipped))
    messages = [one.get("message", "") for one in skipped]
    following = [text for text in messages if text.startswith("follows from ")]
    assert len(following) == len(fault["consequences"])
    assert set(following) >= {f"follows from mtls.no-certificate on {open_etcd.client_label}"}
