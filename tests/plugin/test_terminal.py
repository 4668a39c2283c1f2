"""The output of a run: the header, the certificates, the summary, and no secret."""

from __future__ import annotations

import re

import pytest
from plugin.live_etcd import Live
from plugin.runs import Ran, Runner

from pytest_etcdtls.checks.registry import select

SOME = "--etcd-check=listener,cert.trusted,cert.valid-now,mtls.no-certificate"


def summary(ran: Ran) -> str:
    return ran.out.partition("= etcd TLS conformance =")[2]


def test_the_header_names_listeners_and_credentials(run: Runner, live: Live) -> None:
    head = run(*live.options, SOME).out.partition("collected")[0]
    assert re.search(r"^etcd TLS: pytest-etcdtls \S+, OpenSSL \d\S* .*, \d+ checks$", head, re.MULTILINE)
    for words in (live.client, live.peer, "client.crt", "server-ca.crt", "peer-client.crt"):
        assert words in head
    assert "client.key" not in head


def test_the_verdict_names_each_certificate(run: Runner, live: Live) -> None:
    text = " ".join(run(*live.options, SOME).out.split())
    for side in ("server", "peer"):
        assert re.search(
            rf"serves CN=etcd-{side} by CN=etcd [\w-]+ CA, SHA-256 [0-9a-f]{{16}}, "
            r"until \d{4}-\d\d-\d\d \(\d+ days\)",
            text,
        )


def test_verbose_shows_each_certificate(run: Runner, live: Live) -> None:
    text = summary(run(*live.options, SOME, "-v"))
    assert re.search(r"  client-\S+: CN=etcd-server, issued by CN=etcd client-port CA\n +\d{4}-", text)
    assert "ECDSA P-256, sha256; digitalSignature; serverAuth, clientAuth\n" in text
    assert re.search(r"SHA-256 [0-9a-f]{64}\s+on\s+https://", text)


def test_quiet_shows_failures(run: Runner, live: Live) -> None:
    _, _, text = run(*live.wrong_anchor, SOME, "-q").out.partition("short test summary info")
    assert "SHA-256" in text
    ran = run(*live.wrong_anchor, SOME, "-qq")
    _, _, text = ran.out.partition("short test summary info")
    assert "1. cert.trusted (high) on client-" in text
    assert "SHA-256" not in text
    assert "not verified\n" not in text
    assert ran.verdict.startswith(f"etcd TLS: NOT CLEAN: 1 fault (1 check) ({live.client}")


def test_each_finding_is_shown_once_and_the_verdict_is_the_last(run: Runner, live: Live) -> None:
    ran = run(*live.wrong_anchor)
    assert ran.out.count("expected: a certificate with a path to") == 1
    last = ran.out.rstrip().splitlines()[-32:]  # an old etcd has six warnings more
    assert ran.verdict.startswith(f"etcd TLS: NOT CLEAN: 1 fault (1 check) ({live.client}, etcd 3.")
    assert any(line.startswith("live (live, etcd ") for line in last)
    assert any("exit code 1: 1 fault" in line for line in last)


def test_a_ca_that_was_passed_is_not_asked_for(run: Runner, live: Live) -> None:
    passed = " ".join(run(*live.wrong_anchor).out.split())
    assert "--etcd-cacert (" not in passed
    without = " ".join(run(f"--etcd-endpoint={live.client}").out.split())
    assert "--etcd-cacert (" in without


def test_the_verdict_on_a_clean_cluster_is_clean(run: Runner, live: Live) -> None:
    ran = run(*live.options)
    assert ran.exit_code == 0
    assert ran.verdict.startswith(f"etcd TLS: CLEAN ({live.client}, etcd 3.")


def test_a_label_names_the_cluster(run: Runner, live: Live) -> None:
    check = f"etcdtls::prod-1::{live.client_label}::mtls.no-certificate"
    ran = run(*live.options, "--etcd-label=prod-1", check, "-v", "--etcd-report=r.md")
    assert ran.exit_code == 0
    assert f"{check} PASSED" in ran.out
    clean = f"1 OF {len(select())} CHECKS CLEAN (mtls.no-certificate; not on every listener)"
    assert ran.verdict == f"etcd TLS: {clean} (prod-1: {live.client})"
    assert [target["label"] for target in ran.report["targets"]] == ["prod-1"]
    title = (run.directory / "r.md").read_text(encoding="utf-8").splitlines()[0]
    assert (
        f"{clean.replace('mtls.no-certificate', '`mtls.no-certificate`')} (`prod-1`: `{live.client}`" in title
    )


@pytest.mark.parametrize("label", ["", "a::b", "a/b", "x" * 101])
def test_a_label_that_cannot_be_in_a_node_id_is_refused(run: Runner, live: Live, label: str) -> None:
    ran = run(*live.options, f"--etcd-label={label}", report=False)
    assert ran.exit_code == 4
    assert "a label has letters, digits" in ran.err


@pytest.mark.parametrize(
    "arguments", [["--tb=no"], ["-q", "--tb=no"], ["-p", "no:terminalreporter"], ["-n1"]]
)
def test_a_fault_is_shown_with_any_option(run: Runner, live: Live, arguments: list[str]) -> None:
    ran = run(*live.wrong_anchor, SOME, *arguments)
    assert ran.exit_code == 1
    if "no:terminalreporter" not in arguments:
        assert "1. cert.trusted (high) on client-" in ran.out
        assert ran.verdict.startswith("etcd TLS: NOT CLEAN: 1 fault (1 check) (https")


@pytest.mark.parametrize(
    "arguments", [["--no-header"], ["-q"], ["-qq"], ["-vv"], ["--color=no"]], ids=" ".join
)
def test_no_line_but_a_command_is_wider_than_80(run: Runner, live: Live, arguments: list[str]) -> None:
    run.with_house()
    ran = run(*live.options, "--etcd-check=house", *arguments)
    text = summary(ran).partition("= short test summary info =")[0]
    pasted = {
        line
        for result in ran.report["results"]
        for finding in result["findings"]
        for command in finding["reproduce"]
        for line in command.splitlines()
    }
    wide = [
        line
        for line in text.splitlines()
        if len(line) > 80 and line.strip() not in pasted and "/" not in line
    ]
    assert not wide


def test_colours_follow_the_option(run: Runner, live: Live) -> None:
    assert "\x1b" not in run(*live.wrong_anchor, SOME).out
    assert "\x1b" in run(*live.wrong_anchor, SOME, "--color=yes").out


def test_the_worst_outcome_is_shown_first(run: Runner, live: Live) -> None:
    run.with_house()
    text = run(*live.options, "--etcd-check=house", "-p", "no:randomly").out
    expected = (
        "= ERRORS =",
        "broken: the check house.broken itself failed",
        "ZeroDivisionError",
        "inconclusive: nobody answered the door",
        "= FAILURES =",
        "house.violates on client-",
        "the house is on fire",
        "expected: no fire",
        "observed: fire",
        "colour: orange",
        "curl https://house/fire",
        "requires: The house does not burn.",
        "why:      Fire destroys houses.",
        "remedy:   put it out with --water-file.",
        "see:      House rules, 2",
        "1 violates, 1 inconclusive, 1 broken, 1 warns, 1 not verified, 1 not applicable,",
        "2 conform; ",
        "warnings",
        "there is smoke (observed: some)",
        "1. house.violates (critical) on client-",
        "remedy: put it out with --water-file.",
        "! house.warns on client-",
        "exit code 1: 1 fault, 2 checks without evidence",
        "etcd TLS: NOT CLEAN: 1 fault (1 check)",
    )
    position = 0
    for words in expected:
        assert words in text[position:], words
        position = text.index(words, position) + len(words)


def test_not_verified_results_are_grouped_by_reason(run: Runner, live: Live) -> None:
    ran = run(f"--etcd-endpoint={live.client}", "--etcd-check=mtls.expired,mtls.not-yet-valid", "-vv")
    text = summary(ran).partition("\nnot verified\n")[2].partition("\n\n")[0]
    assert text.count("--etcd-cert") + text.count("--etcd-ca-key") == 1
    assert text.startswith("  2: needs the key of the CA")
    assert re.search(
        r"mtls\.(expired|not-yet-valid), mtls\.(expired|not-yet-valid) on", " ".join(text.split())
    )


def test_no_secret_is_shown_or_written(run: Runner, live: Live) -> None:
    password = run.directory / "password"
    password.write_text("correct horse battery staple\n", encoding="utf-8")
    options = (
        "--etcd-user=root",
        f"--etcd-password-file={password}",
        "-vv",
        "--showlocals",
        "--setup-show",
        "-rA",
    )
    ran = run(*live.wrong_anchor, *options)
    key = "".join((live.files / "client.key").read_text(encoding="utf-8").split("\n")[1:-2])
    for text in (ran.out, ran.err, str(ran.written)):
        assert "correct horse" not in text
        assert "PRIVATE KEY" not in text
        assert key[:40] not in text


def test_without_a_terminal_reports_are_written(run: Runner, live: Live) -> None:
    ran = run(*live.options, SOME, "-p", "no:terminal")
    assert ran.exit_code == 0
    assert ran.out.strip() == ""
    assert ran.counts["conforms"]


def test_several_reports_are_the_same(run: Runner, live: Live) -> None:
    ran = run(*live.options, SOME, "--etcd-report=again.json")
    assert (run.directory / "again.json").read_text(encoding="utf-8") == ran.written


def test_paths_of_reports_are_lines_of_their_own(run: Runner) -> None:
    report = "r\n::error::x\x1b[2J\u202e.json"
    dead = ("--etcd-endpoint=https://127.0.0.1:1", "--etcd-timeout=1", "--etcd-check=listener")
    ran = run("--pyargs", "pytest_etcdtls", *dead, f"--etcd-report={report}", report=False)
    assert (run.directory / report).exists()
    assert r"r\n::error::x\x1b[2J\u202e.json" in ran.out
    assert not [line for line in ran.out.splitlines() if line.startswith("::") or not line.isprintable()]
