"""Every format of the report, from runs of every kind, read by its own parser."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from plugin.live_etcd import Live
from plugin.runs import Runner
from report import valid

from pytest_etcdtls.report import FORMATS
from pytest_etcdtls.settings.read import REPORT_SUFFIXES

SOME = "--etcd-check=listener,mtls,cert,api.version-body"


def judge(run: Runner, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run pytest; return its exit code and the content of every format."""
    ran = run(*valid.options(run.directory), *arguments, report=False)
    assert "INTERNALERROR" not in ran.out
    assert "is without" not in ran.out
    return ran.exit_code, valid.read(run.directory)


def agree(found: dict[str, Any]) -> None:
    """Assert that all formats have the same faults, by number and by name."""
    document, run = found[".json"], found[".sarif"]
    faults = [(fault["check"], fault["outcome"]) for fault in document["faults"]]
    levels = {"violates": "error", "warns": "warning"}
    assert [(check, levels[outcome]) for check, outcome in faults] == [
        (result["ruleId"], result["level"])
        for result in run["results"]
        if result["properties"]["outcome"] in levels
    ]
    number = document["summary"]["faults"]
    said = f"NOT CLEAN {number} fault" if number else ""
    assert said in found[".html"].replace(": ", " ").replace("  ", " ")
    assert said.replace("CLEAN", "CLEAN:", 1) in found[".md"]
    for fault in document["faults"]:
        assert fault["check"] in found[".html"]


def test_the_suffixes_are_those_of_the_formats() -> None:
    assert set(REPORT_SUFFIXES) == set(FORMATS) == set(valid.VALID)


def test_an_unknown_suffix_is_a_usage_error_that_lists_the_formats(run: Runner) -> None:
    ran = run("--etcd-endpoint=https://127.0.0.1:1", "--etcd-report=report.txt", report=False)
    assert ran.exit_code == 4
    assert "the suffix selects the format: use .json, .html, .md, .sarif, .prom, .baseline" in " ".join(
        ran.err.split()
    )


def test_a_clean_cluster(run: Runner, live: Live) -> None:
    code, found = judge(run, *live.options, SOME)
    assert code == 0
    agree(found)
    assert re.search(r"\d+ OF \d+ CHECKS CLEAN \(.*\) · etcd TLS of ", found[".html"])
    assert found[".html"].count("✗") == 1  # in the legend
    assert "CLEAN" in found[".md"]
    assert found[".sarif"]["invocations"][0]["executionSuccessful"] is True


def test_a_broken_cluster_and_its_consequences(run: Runner, open_etcd: Live) -> None:
    code, found = judge(run, *open_etcd.options)
    assert code == 1
    agree(found)
    [fault] = [one for one in found[".json"]["faults"] if one["outcome"] == "violates"]
    [result] = [one for one in found[".sarif"]["results"] if one["level"] == "error"]
    assert fault["check"] == result["ruleId"] == "mtls.no-certificate"
    assert len(fault["consequences"]) == len(result["relatedLocations"]) > 5
    place = result["locations"][0]["physicalLocation"]["artifactLocation"]
    assert place["description"]["text"] == open_etcd.client
    assert place["uri"] == f"live/{open_etcd.client_label}"
    assert "✗ accepted (not as expected)" in found[".html"]


def test_the_sections_of_a_profile(run: Runner, live: Live) -> None:
    code, found = judge(run, *live.options, "--etcd-profile=cis-kubernetes", "--etcd-check=cis")
    assert code == 0
    [profile] = found[".json"]["profiles"]
    assert {section["section"] for section in profile["sections"]} >= {"2.1", "2.7"}
    for section in profile["sections"]:
        assert f"{section['section']} {section['title']}" in found[".html"]
        assert f": {section['outcome']}" in found[".md"]
    assert "profile cis-kubernetes: " in found[".html"]


def test_an_endpoint_without_an_answer(run: Runner) -> None:
    code, found = judge(run, "--etcd-endpoint=https://127.0.0.1:1")
    assert code == 1
    for suffix in (".html", ".md"):
        assert "NO VERDICT" in found[suffix]
        assert "Without evidence" in found[suffix]
    assert [result["level"] for result in found[".sarif"]["results"]] == ["note"]
    assert found[".sarif"]["invocations"][0]["executionSuccessful"] is False


STOP = """
def pytest_runtest_logreport(report):
    if report.when == "teardown":
        raise KeyboardInterrupt
"""


def test_an_interrupted_run(run: Runner, live: Live) -> None:
    run.write(stopping=STOP)
    run.pytester.syspathinsert()
    # In a process of its own, as Runner does for -W: pytester raises the interrupt again in this one.
    code, found = judge(run, "-Wdefault", "-p", "stopping", *live.options, SOME)
    assert code == 2
    assert found[".json"]["partial"]
    assert "partial" in found[".html"]
    assert "The run ended before every check was judged" in found[".md"]
    assert found[".sarif"]["invocations"][0]["executionSuccessful"] is False


def test_several_targets(run: Runner, etcd_binaries: dict[str, Path]) -> None:
    binaries = list(etcd_binaries.values())[-2:]
    options = [f"--etcd-binary={binary}" for binary in binaries]
    code, found = judge(run, "--etcd-conformance", *options, "--etcd-check=listener,mtls.no-certificate")
    assert code == 0
    agree(found)
    for target in found[".json"]["targets"]:
        assert target["label"] in found[".html"]
    assert len(found[".json"]["targets"]) == len(binaries)


def test_a_fault_is_located_at_the_declared_setting(run: Runner, open_etcd: Live) -> None:
    pki, url = open_etcd.files, open_etcd.client
    declared = run.directory / "etcd.yaml"
    declared.write_text(
        f"name: m0\nlisten-client-urls: {url}\nadvertise-client-urls: {url}\n"
        "client-transport-security:\n  client-cert-auth: true\n"
        f"  trusted-ca-file: {pki / 'client-ca.crt'}\n"
        f"  cert-file: {pki / 'm0' / 'server.crt'}\n  key-file: {pki / 'm0' / 'server.key'}\n",
        encoding="utf-8",
    )
    check = "--etcd-check=listener,mtls,config.client-auth-in-force"
    _, found = judge(run, f"--etcd-config={declared}", check)
    [fault] = [
        result for result in found[".sarif"]["results"] if result["ruleId"] == "config.client-auth-in-force"
    ]
    place = fault["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": "etcd.yaml"}, "region": {"startLine": 5}}


def test_fingerprints_are_the_same_in_another_run(run: Runner, live: Live) -> None:
    def prints() -> list[str]:
        code, found = judge(run, *live.wrong_anchor, "--etcd-check=listener,cert.trusted,tls")
        assert code == 1
        return sorted(json.dumps(result["partialFingerprints"]) for result in found[".sarif"]["results"])

    first = prints()
    assert len(first) > 1
    assert prints() == first
