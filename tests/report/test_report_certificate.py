"""A certificate as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.profile import KeyType, Profile
from pytest_etcdtls.report.text import certificate_card, certificate_facts, days_left

NOW = datetime.now(UTC)


def issue(profile: Profile, key_type: KeyType = KeyType.ECDSA_P256) -> x509.Certificate:
    return CertificateAuthority.create("a CA", key_type).issue(profile, name="leaf").chain[0]


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
    certificate = issue(SERVER)
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
    card = dict(certificate_card(issue(SERVER), NOW))
    assert card["names"] == "DNS:localhost IP:10.0.0.11 IP:fd00::11"
    assert len(card["SHA-256"]) == 64
    assert "days left" in card["until"]
    card = dict(certificate_card(issue(BARE), NOW))
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
    certificate = issue(SERVER)
    assert days_left(certificate, certificate.not_valid_after_utc - away) == words
