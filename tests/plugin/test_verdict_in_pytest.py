"""The verdict of a whole run, from outside, in part, and with waived faults: the same in every format."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import pytest
from plugin.live_etcd import Live
from plugin.runs import Ran, Runner

from pytest_etcdtls.checks.registry import select
from pytest_etcdtls.report.overview import FROM_OUTSIDE

EVERY = len(select())
ENDING = "no client certificate was given"
FORMATS = [f"--etcd-report=r.{suffix}" for suffix in ("md", "html", "sarif", "prom")]


def assert_said(run: Runner, ran: Ran, said: str) -> None:
    """Every report has the verdict of the terminal."""
    assert ran.verdict.startswith(f"etcd TLS: {said} (https://")
    assert ran.report["verdict"] == said
    markdown, html, sarif = (run.read(f"r.{suffix}") for suffix in ("md", "html", "sarif"))
    assert f"# etcd TLS: ⚠️ {said.replace('mtls.no-certificate', '`mtls.no-certificate`')} (" in markdown
    assert f"<title>{said} · etcd TLS of " in html
    assert json.loads(sarif)["runs"][0]["properties"]["conclusion"] == said


def test_without_a_client_certificate_no_refusal_has_a_control(run: Runner, live: Live) -> None:
    ran = run(f"--etcd-endpoint={live.client}", f"--etcd-peer-endpoint={live.peer}", *FORMATS)
    assert ran.exit_code == 0, ran.out
    assert_said(run, ran, f"{FROM_OUTSIDE}: {ENDING}, {ran.counts['not-verified']} results not verified")
    assert ran.counts["not-verified"] > 1
    assert "accepts no good client" not in ran.out
    assert ran.result_of("mtls.no-certificate", live.client_label)["outcome"] == "conforms"


@pytest.mark.parametrize(
    ("checks", "code", "said"),
    [
        (
            "mtls.no-certificate,mtls.expired",
            0,
            f"{FROM_OUTSIDE}: {ENDING}, 1 of {EVERY} checks (mtls.no-certificate), 1 result not verified (",
        ),
        ("mtls.trusted-client,mtls.expired", 1, "NO VERDICT"),
        ("cert.trusted,mtls.no-certificate,mtls.expired", 1, "NOT CLEAN"),
        # A check of the whole cluster alone.
        ("advisory.go-runtime", 1, "NO VERDICT: the whole cluster of live: no check has a verdict"),
    ],
)
def test_what_comes_first_without_a_client_certificate(
    run: Runner, live: Live, checks: str, code: int, said: str
) -> None:
    wrong = [f"--etcd-cacert={live.files / 'peer-ca.crt'}"] if "cert.trusted" in checks else []
    ran = run(f"--etcd-endpoint={live.client}", f"--etcd-check={checks}", *wrong)
    assert ran.exit_code == code
    assert ran.verdict.startswith(f"etcd TLS: {said}")


def test_checks_that_were_not_selected_are_not_clean(run: Runner, open_etcd: Live) -> None:
    said = f"1 OF {EVERY} CHECKS CLEAN (tls.cbc-suites)"
    for selection in (("--etcd-check=tls.cbc-suites",), ("-k", "tls.cbc-suites")):
        ran = run(*open_etcd.options, *selection)
        assert ran.exit_code == 0, ran.out
        assert ran.verdict.startswith(f"etcd TLS: {said} (https://")
        assert ran.report["verdict"] == said
        assert "exit code 0: no fault in the selected checks" in ran.out


def test_a_fault_and_what_follows_from_it_need_one_waiver(run: Runner, open_etcd: Live) -> None:
    """The run proposes it; JUnit has one failure, and the consequences as skipped."""
    run.write(test_user="def test_user(): assert not 'of the user'")
    ran = run(*open_etcd.options, "--etcd-write-waivers=w.toml", "--junitxml=junit.xml", "-p", "no:randomly")
    [fault] = [fault for fault in ran.report["faults"] if fault["check"] == "mtls.no-certificate"]
    consequences = len(fault["consequences"])
    assert consequences > 5
    root = ElementTree.parse(run.directory / "junit.xml").getroot()  # noqa: S314 - written just now
    [suite] = root.iter("testsuite")
    failed = [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None]
    assert sorted(map(str, failed)) == ["mtls.no-certificate", "test_user"]
    skipped = [case.get("message", "") for case in suite.iter("skipped")]
    assert (suite.get("failures"), suite.get("skipped")) == ("2", str(len(skipped)))
    following = [text for text in skipped if text.startswith("follows from ")]
    assert len(following) == consequences
    assert f"follows from mtls.no-certificate on {open_etcd.client_label}" in following

    proposed = run.directory / "w.toml"
    text = proposed.read_text(encoding="utf-8")
    assert text.count("[[waiver]]") == 1
    ran = run(*open_etcd.options, "--etcd-waivers=w.toml", report=False)
    assert (ran.exit_code, "reason: a text that is not empty is expected" in ran.err) == (4, True)
    proposed.write_text(text.replace('reason = ""', 'reason = "open until Monday"'), encoding="utf-8")
    (run.directory / "test_user.py").unlink()
    ran = run(*open_etcd.options, "--etcd-waivers=w.toml", *FORMATS)
    assert ran.exit_code == 0
    assert "violates" not in ran.counts
    assert_said(run, ran, "CLEAN BUT FOR 1 WAIVED FAULT (mtls.no-certificate)")
    metrics = run.read("r.prom")
    assert 'etcdtls_clean{target="live"} 0\n' in metrics
    assert 'verdict="CLEAN BUT FOR WAIVED FAULTS"} 1\n' in metrics
    waived = [result for result in ran.report["results"] if result["outcome"] == "waived"]
    assert len(waived) == 1 + consequences
    assert all("open until Monday" in result["reason"] for result in waived)
    [summary] = re.findall(r"^waived\n(.*?)\n\n", ran.out, re.MULTILINE | re.DOTALL)
    assert f"so are {consequences} results that follow from it" in " ".join(summary.split())
    assert summary.count("mtls.no-certificate on") == 1


def test_a_waiver_of_a_consequence_accepts_that_alone(run: Runner, open_etcd: Live) -> None:
    ran = run(*open_etcd.options, "--etcd-check=mtls", run.waive("mtls.self-signed"))
    assert ran.exit_code == 1
    assert ran.found("waived") == {"mtls.self-signed"}
    assert ran.outcomes[f"{open_etcd.client_label}::mtls.foreign-ca"] == "violates"


def test_a_waived_warning_is_a_fault_with_strict_only(run: Runner, live: Live) -> None:
    options = (*live.options, run.waive("tls.cbc-suites"), "--etcd-check=tls.cbc-suites")
    clean = f"1 OF {EVERY} CHECKS CLEAN (tls.cbc-suites)"
    for more, said in (([], clean), (["--etcd-strict"], f"{clean} BUT FOR 1 WAIVED FAULT (tls.cbc-suites)")):
        ran = run(*options, *more)
        assert ran.result_of("tls.cbc-suites", live.client_label)["outcome"] == "waived"
        assert ran.report["verdict"] == said


def test_a_list_of_clusters_says_the_same(run: Runner, live: Live, open_etcd: Live) -> None:
    (run.directory / "clusters.toml").write_text(
        live.table("inside") + live.table("outside", live.options[:1]) + open_etcd.table("waived"),
        encoding="utf-8",
    )
    ran = run(
        *("--etcd-clusters=clusters.toml", "--etcd-check=mtls", run.waive("mtls.no-certificate")),
        *("--etcd-report=r.md", "--etcd-report=r.prom"),
        report=False,
    )
    assert ran.exit_code == 0, ran.out
    assert re.search(rf"outside +{FROM_OUTSIDE}: {ENDING}", ran.out)
    assert re.search(r"inside +\d+ OF \d+ CHECKS CLEAN \(mtls\)$", ran.out, re.MULTILINE)
    assert "CHECKS CLEAN (mtls) BUT FOR 1 WAIVED FAULT" in ran.out
    assert 'verdict="SOME CHECKS CLEAN"} 1\n' in run.read("r.prom")
    said = f"{FROM_OUTSIDE}: 3 clusters: 1 without a client certificate, 2 clean in some checks"
    assert said in run.read("r.md")
