"""Results as text, wrapped for a terminal."""

from __future__ import annotations

import pytest
from made import made_result
from msgspec.structs import replace

from pytest_etcdtls.checks.results import Ancestor, CheckResult, Finding, Outcome
from pytest_etcdtls.report.text import full_result, result_lines, wrapped

LONG = "a finding that takes more than one line of a terminal, since it has a lot to say about what is wrong"
PASTE = "curl --cacert /etc/etcd/pki/ca.crt --cert client.crt --key client.key https://h:2379/version"


def result(*findings: Finding, check: str = "cert.trusted") -> CheckResult:
    return made_result(
        Outcome.VIOLATES if findings else Outcome.INCONCLUSIVE,
        check,
        reason="" if findings else "no answer in time",
        findings=findings,
        remedies=("renew it",) if findings else (),
        references=("RFC 5280 section 6.1",),
    )


FINDING = Finding(LONG, LONG, LONG, {"alert": "48 unknown_ca"}, (f"{PASTE}\n  --http1.1", PASTE, PASTE))


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_but_a_command_is_wider(width: int) -> None:
    lines = [line.text for line in full_result(result(FINDING), width)]
    assert all(len(line) <= width for line in lines if "curl" not in line)
    assert f"    {PASTE}" in lines
    assert "      --http1.1" in lines
    assert lines.count(f"    {PASTE}") == 1
    assert "    2 more commands in the reports that" in "\n".join(lines)


def test_a_result_is_shown_in_order() -> None:
    text = "\n".join(line.text for line in full_result(result(FINDING)))
    words = ["a finding", "expected:", "observed:", "alert: 48", "reproduce:", "why:", "remedy:", "see:"]
    places = [text.index(word) for word in words]
    assert places == sorted(places)


def test_members_that_differ_in_their_names_have_one_entry() -> None:
    found = [
        Finding(f"{name}: /etc/{name}.yml is ignored", "renew it", f"/etc/{name}.yml", {"member": name})
        for name in ("m0", "m1", "m2")
    ]
    lines = [line.text for line in full_result(result(*found))]
    assert lines[:3] == [
        "m0: /etc/m0.yml is ignored",
        "  observed: /etc/m0.yml",
        "    member: m0; the same of m1, m2",
    ]
    assert sum("observed:" in line.text for line in full_result(result(found[0], FINDING))) == 2


def test_a_result_leaves_out_what_the_verdict_shows() -> None:
    text = "\n".join(line.text for line in full_result(result(FINDING), in_verdict=FINDING.commands[0]))
    assert not [word for word in (FINDING.commands[0], "reproduce:", "remedy:") if word in text]
    assert text.startswith("  expected:")


def test_a_consequence_is_one_line_without_evidence() -> None:
    follows = replace(result(FINDING), cause=Ancestor("mtls.no-certificate", "client-m0"))
    text = "\n".join(line.text for line in result_lines(follows))
    assert text == "follows from mtls.no-certificate on client-m0"
    assert "curl" not in text


def test_line_breaks_and_long_words_are_kept() -> None:
    lines = [line.text for line in wrapped("one\n" + "x" * 50 + "\n\nlast", 20, "- ")]
    assert lines == ["- one", "  " + "x" * 50, "", "  last"]
