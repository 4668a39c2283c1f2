"""The output of a run: the header, the certificates, the summary, and no secret."""

from __future__ import annotations

import re

import pytest
from plugin.live_etcd import Live
from plugin.runs import Ran, Runner

SOME = "--etcd-check=listener,cert.trusted,cert.valid-now,mtls.no-certificate"


def summary(ran: Ran) -> str:
    return ran.out.partition("= etcd TLS conformance =")[2]


def test_listeners_credentials_and_certificates_are_shown(run: Runner, live: Live) -> None:
    ran = run(*live.options, SOME, "-v")
    head = ran.out.partition("collected")[0]
    assert re.search(r"^etcd TLS: pytest-etcdtls \S+, OpenSSL \d\S* .*, \d+ checks$", head, re.MULTILINE)
    for words in (live.client, live.peer, "client.crt", "server-ca.crt", "peer-client.crt"):
        assert words in head
    assert "client.key" not in head
    text = summary(ran)
    assert re.search(r"  client-\S+: CN=etcd-server, issued by CN=etcd client-port CA\n +\d{4}-", text)
    assert "ECDSA P-256, sha256; digitalSignature; serverAuth, clientAuth\n" in text
    assert re.search(r"SHA-256 [0-9a-f]{64}\s+on\s+https://", text)


@pytest.mark.parametrize("arguments", [["--tb=no"], ["-q"], ["-qq"], ["-n1"], ["--color=yes"]], ids=" ".join)
def test_a_fault_is_shown_with_any_option(run: Runner, live: Live, arguments: list[str]) -> None:
    ran = run(*live.wrong_anchor, SOME, *arguments)
    assert ran.exit_code == 1
    assert "1. cert.trusted (high) on client-" in ran.out
    assert "etcd TLS: NOT CLEAN: 1 fault (1 check) (https" in ran.out
    assert ("SHA-256" in ran.out.partition("short test summary info")[2]) is (arguments != ["-qq"])
    assert ("\x1b" in ran.out) is ("--color=yes" in arguments)


def test_a_ca_that_was_not_passed_is_asked_for(run: Runner, live: Live) -> None:
    assert "--etcd-cacert (" in " ".join(run(f"--etcd-endpoint={live.client}").out.split())


@pytest.mark.parametrize("plugin", ["no:terminal", "no:terminalreporter"])
def test_without_a_terminal_reports_are_written(run: Runner, live: Live, plugin: str) -> None:
    ran = run(*live.options, SOME, "-p", plugin)
    assert ran.exit_code == 0
    assert ran.out.strip() == ""
    assert ran.counts["conforms"]


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
        "1 violates, 1 broken, 1 inconclusive, 1 warns, 1 not verified, 1 not applicable,",
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


def test_paths_of_reports_are_lines_of_their_own(run: Runner) -> None:
    report = "r\n::error::x\x1b[2J\u202e.json"
    dead = ("--etcd-endpoint=https://127.0.0.1:1", "--etcd-timeout=1", "--etcd-check=listener")
    ran = run("--pyargs", "pytest_etcdtls", *dead, f"--etcd-report={report}", report=False)
    assert (run.directory / report).exists()
    assert r"r\n::error::x\x1b[2J\u202e.json" in ran.out
    assert not [line for line in ran.out.splitlines() if line.startswith("::") or not line.isprintable()]
