"""Results as text, wrapped for a terminal."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pytest_etcdtls.report.text import full_result, result_lines, wrapped
from pytest_etcdtls.results import Ancestor, CheckResult, Finding, Level, Outcome, Severity

LONG = "a finding that takes more than one line of a terminal, since it has a lot to say about what is wrong"
PASTE = "curl --cacert /etc/etcd/pki/ca.crt --cert client.crt --key client.key https://h:2379/version"


def result(*findings: Finding, check: str = "cert.trusted") -> CheckResult:
    return CheckResult(
        check=check,
        level=Level.MUST,
        severity=Severity.HIGH,
        target="live",
        listener="client-m0",
        role="client",
        url="https://10.0.0.11:2379",
        outcome=Outcome.VIOLATES if findings else Outcome.INCONCLUSIVE,
        reason="" if findings else "no answer in time",
        findings=findings,
        remediation="renew it" if findings else "",
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


def test_every_finding_is_shown() -> None:
    text = "\n".join(line.text for line in result_lines(result(FINDING, FINDING)))
    assert text.count("observed:") == 2


def test_a_consequence_is_one_line_without_evidence() -> None:
    follows = replace(result(FINDING), cause=Ancestor("mtls.no-certificate", "client-m0"))
    text = "\n".join(line.text for line in result_lines(follows))
    assert text == "follows from mtls.no-certificate on client-m0"
    assert "curl" not in text


def test_without_a_finding_the_reason_is_shown() -> None:
    assert [line.text for line in full_result(result())] == ["inconclusive: no answer in time"]


def test_an_unknown_check_has_no_requirement() -> None:
    text = "\n".join(line.text for line in full_result(result(FINDING, check="gone.check")))
    assert "why:" in text or "RFC 5280" in text


def test_line_breaks_and_long_words_are_kept() -> None:
    lines = [line.text for line in wrapped("one\n" + "x" * 50 + "\n\nlast", 20, "- ")]
    assert lines == ["- one", "  " + "x" * 50, "", "  last"]
