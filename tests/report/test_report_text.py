"""Results and certificates as text, wrapped for a terminal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from made import made_result
from msgspec.structs import replace

from pytest_etcdtls.checks.results import Ancestor, CheckResult, Finding, Outcome
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.profile import KeyType, Profile
from pytest_etcdtls.report.text import (
    certificate_card,
    certificate_facts,
    days_left,
    full_result,
    result_lines,
    wrapped,
)

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


NOW = datetime.now(UTC)


def _issue(profile: Profile) -> x509.Certificate:
    return CertificateAuthority.create("a CA", KeyType.ECDSA_P256).issue(profile, name="leaf").chain[0]


SERVER = Profile(
    common_name="etcd",
    subject_alt_names=("localhost", "10.0.0.11", "fd00::11"),
    key_usage=frozenset({"digitalSignature", "keyEncipherment"}),
    extended_key_usage=("serverAuth", "clientAuth"),
    valid_for=timedelta(days=90),
)
BARE = Profile(
    common_name=None,
    subject_alt_names=(),
    key_usage=frozenset(),
    extended_key_usage=None,
    valid_for=timedelta(days=1),
)


def test_the_facts_are_those_of_the_certificate() -> None:
    certificate = _issue(SERVER)
    facts = certificate_facts(certificate)
    assert facts["subject"] == "CN=etcd"
    assert facts["issuer"] == "CN=a CA"
    assert facts["serial_number"] == f"{certificate.serial_number:x}"
    assert facts["not_after"].endswith("Z")
    assert facts["key"] == "ECDSA P-256"
    assert facts["subject_alt_names"] == ["DNS:localhost", "IP:10.0.0.11", "IP:fd00::11"]
    assert facts["key_usage"] == ["digitalSignature", "keyEncipherment"]
    assert facts["extended_key_usage"] == ["serverAuth", "clientAuth"]
    assert len(facts["sha256"]) == 64


def test_the_card_has_names_validity_and_fingerprint_and_names_missing_extensions() -> None:
    card = dict(certificate_card(_issue(SERVER), NOW))
    assert card["names"] == "DNS:localhost IP:10.0.0.11 IP:fd00::11"
    assert len(card["SHA-256"]) == 64
    assert "days left" in card["until"]
    card = dict(certificate_card(_issue(BARE), NOW))
    assert card["subject"] == "(empty name)"
    assert card["names"] == "no subjectAltName"
    assert card["extended"] == "no such extension"


@pytest.mark.parametrize(
    ("away", "words"),
    [
        (timedelta(days=30, hours=1), "30 days left"),
        (timedelta(days=1, hours=1), "25 hours left"),
        (timedelta(hours=1), "1 hour left"),
        (timedelta(minutes=59), "less than an hour left"),
        (timedelta(minutes=-59), "expired less than an hour ago"),
        (timedelta(days=-1, hours=-23), "expired 47 hours ago"),
        (timedelta(days=-2, hours=-3), "expired 2 days ago"),
    ],
)
def test_the_remaining_days_are_counted(away: timedelta, words: str) -> None:
    certificate = _issue(SERVER)
    assert days_left(certificate, certificate.not_valid_after_utc - away) == words
