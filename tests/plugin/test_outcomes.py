"""The outcome of an item and the exit code of a run for each result."""

from __future__ import annotations

import json
import re

import pytest
from plugin.live_etcd import Live
from plugin.runs import Runner

EVERY_OUTCOME = {
    "house.conforms": "conforms",
    "house.violates": "violates",
    "house.warns": "warns",
    "house.not-applicable": "not-applicable",
    "house.not-verified": "not-verified",
    "house.inconclusive": "inconclusive",
    "house.broken": "broken",
    "house.waits": "conforms",
}


@pytest.fixture
def house(run: Runner) -> Runner:
    run.with_house()
    return run


LOG = """
import json
import pytest

def pytest_configure(config):
    class Log:
        def pytest_runtest_logreport(self, report):
            data = config.hook.pytest_report_to_serializable(config=config, report=report)
            with open("log", "a", encoding="utf-8") as file:
                file.write(json.dumps(data) + "\\n")

    config.pluginmanager.register(Log())
"""
"""Writes each report to a file, as pytest-reportlog does."""


def test_every_outcome_has_its_place_in_pytest(house: Runner, live: Live) -> None:
    house.write(conftest=LOG)
    ran = house(*live.options, "--etcd-check=house", "-v")
    assert ran.exit_code == 1
    assert dict(ran.outcomes) == {
        f"{live.client_label}::{check}": out for check, out in EVERY_OUTCOME.items()
    }
    ran.result.assert_outcomes(passed=3, failed=1, skipped=2, errors=2)
    words = {
        "house.conforms": "PASSED",
        "house.violates": "FAILED",
        "house.warns": "WARNS",
        "house.broken": "ERROR",
    }
    for check, word in words.items():
        ran.result.stdout.fnmatch_lines([f"{live.node_id(check)} {word} *"])
    assert "ZeroDivisionError" in ran.result_of("house.broken")["reason"]
    assert "not of the cluster" in " ".join(ran.out.split())
    logged = [json.loads(line) for line in house.read("log").splitlines()]
    carried = [data["etcdtls"] for data in logged if data.get("etcdtls")]
    assert {result["check"]: result["outcome"] for result in carried} == EVERY_OUTCOME


def test_a_result_without_a_verdict_is_one_line_without_traceback(house: Runner, live: Live) -> None:
    ran = house(*live.options, "--etcd-check=house.inconclusive")
    assert ran.exit_code == 1
    _, heading, text, *_ = [line for line in ran.out.partition("= ERRORS =")[2].splitlines() if line]
    assert f"ERROR at setup of house.inconclusive on {live.client_label}" in heading
    assert text == "inconclusive: nobody answered the door"
    assert "Traceback" not in ran.out
    assert "nodes.py" not in ran.out


@pytest.mark.parametrize(
    ("check", "options", "code"),
    [
        ("house.conforms", (), 0),
        ("house.warns", (), 0),
        ("house.warns", ("--etcd-strict",), 1),
        ("house.violates", (), 1),
        ("house.broken", (), 1),
        ("house.not-verified", (), 1),
        ("house.not-applicable", (), 0),
    ],
)
def test_the_exit_code_is_as_documented(
    house: Runner, live: Live, check: str, options: tuple[str, ...], code: int
) -> None:
    ran = house(*live.options, f"--etcd-check={check}", *options)
    assert ran.exit_code == code
    assert ran.result_of(check)["outcome"] == ("violates" if options else EVERY_OUTCOME[check])


def test_a_violation_ends_with_1_and_is_shown_in_full(run: Runner, live: Live) -> None:
    ran = run(*live.wrong_anchor)
    assert ran.exit_code == 1
    violating = [place for place, outcome in ran.outcomes.items() if outcome == "violates"]
    assert violating == [f"{live.client_label}::cert.trusted"]
    found = ran.result_of("cert.trusted", live.client_label)
    (finding,) = found["findings"]
    assert finding["expected"]
    assert finding["observed"]
    summary = ran.out.partition("= FAILURES =")[2].partition("= etcd TLS conformance =")[0]
    for words in ("expected:", "observed:", "why:", "remedy:", "see:"):
        assert words in summary
    assert all(line in summary for command in finding["reproduce"] for line in command.splitlines())
    assert ran.out.count("expected: a certificate with a path to") == 1
    assert "--etcd-cacert (" not in ran.out, "what was passed is not asked for"
    text = " ".join(ran.out.split())
    for side in ("server", "peer"):
        assert re.search(
            rf"serves CN=etcd-{side} by CN=etcd [\w-]+ CA, SHA-256 [0-9a-f]{{16}}, "
            r"until \d{4}-\d\d-\d\d \(\d+ days\)",
            text,
        )
    last = ran.out.rpartition("short test summary info")[2].splitlines()
    assert ran.verdict.startswith(f"etcd TLS: NOT CLEAN: 1 fault (1 check) ({live.client}, etcd 3.")
    assert any(line.startswith("live (live, etcd ") for line in last)
    assert any("exit code 1: 1 fault" in line for line in last)


def test_a_waived_finding_is_expected_to_fail_and_no_other_outcome(house: Runner, live: Live) -> None:
    found = ["house.violates", "house.warns"]
    unjudged = ["house.inconclusive", "house.broken"]
    option = house.waive(*found, *unjudged)
    ran = house(*live.options, f"--etcd-check={','.join(found)},house.conforms", option)
    assert ran.exit_code == 0
    ran.result.assert_outcomes(passed=1, xfailed=2)
    assert "we know" in ran.result_of("house.violates")["reason"]
    assert ran.result_of("house.violates")["findings"]
    ran = house(*live.options, f"--etcd-check={','.join(unjudged)}", option)
    assert ran.exit_code == 1
    ran.result.assert_outcomes(errors=2)
    ran = house(*live.options, "--etcd-check=house.violates", option, "--runxfail")
    assert (ran.exit_code, ran.result_of("house.violates")["outcome"]) == (1, "violates")


def test_a_stale_waiver_ends_with_1_and_an_unused_one_is_listed(house: Runner, live: Live) -> None:
    options = (*live.options, "--etcd-check=house.conforms,house.not-verified")
    ran = house(*options, house.waive("house.typo"))
    assert (ran.exit_code, "'house.typo' matches no check" in ran.err) == (4, True)
    ran = house(*options, house.waive("house.conforms"))
    assert ran.exit_code == 1
    assert "NO VERDICT: Stale waiver: house.conforms on *: the check conforms now (" in ran.verdict
    ran = house(*options, house.waive("house.not-verified", expires="2020-01-01"))
    assert ran.exit_code == 1
    assert "it expired on 2020-01-01" in ran.out
    ran = house(*options, house.waive("house.conforms", "house.not-verified", listener="peer-*"), "-q")
    assert ran.exit_code == 0
    assert "unused waivers" in ran.out


def test_a_listener_without_a_verdict_about_mutual_tls_ends_with_1(run: Runner, live: Live) -> None:
    options = (f"--etcd-endpoint={live.client}", "--etcd-check=mtls.expired,cert.valid-now")
    ran = run(*options)
    assert ran.counts == {"conforms": 1, "not-verified": 1}
    assert ran.exit_code == 1
    assert f"{live.client} of live: no check about mutual TLS has a verdict" in ran.out.replace("\n", " ")
    assert run(*options, "--etcd-allow-unverified").exit_code == 0


def test_an_endpoint_that_does_not_answer_is_inconclusive_once(run: Runner) -> None:
    ran = run("--etcd-endpoint=https://127.0.0.1:1")
    assert ran.exit_code == 1
    assert ran.counts["inconclusive"] == 1
    assert set(ran.counts) == {"inconclusive", "not-verified", "not-applicable"}
    assert ran.result_of("listener.answers")["outcome"] == "inconclusive"
    of_it = [result for result in ran.report["results"] if result["listener"] != "cluster"]
    assert len({result["reason"] for result in of_it if result["outcome"] == "not-verified"}) == 1
    ran = run("--etcd-endpoint=https://127.0.0.1:1", "--etcd-check=cert")
    assert set(ran.counts) <= {"not-verified", "not-applicable"}
    assert ran.exit_code == 1


def test_checks_that_options_exclude_are_counted_and_not_collected(run: Runner, live: Live) -> None:
    ran = run(*live.options, "--etcd-check=config,lifecycle,cluster,cert.trusted", "-v")
    judged = {result["check"] for result in ran.report["results"]}
    assert "cert.trusted" in judged
    assert "cluster.peer-urls-https" in judged
    assert not [check for check in judged if check.startswith("lifecycle.")]
    assert judged & {"config.served-file", "cluster.same-ca", "cluster.discovered"} == set()
    assert ran.report["summary"]["not-collected"] > 50
    for reason in (
        "pass --etcd-config",
        "needs an etcd that the run starts",
        "one member to judge",
    ):
        assert reason in ran.out
    ran = run(*live.options, "--etcd-check=config.served-file,config.peer-served-file")
    assert ran.exit_code == 1
    said = " ".join(ran.out.split())
    assert "none of its checks ran: there is no declaration: pass --etcd-config" in said
