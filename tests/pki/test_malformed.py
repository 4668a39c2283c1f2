"""Malformed certificates: those that Go refuses are known, others are read, and nothing raises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates
from pytest_etcdtls.pki.certificate import (
    extension,
    is_for,
    key_usages,
    load,
    load_trust,
    unparsable,
)
from pytest_etcdtls.pki.go_parser import children, encode, parse_error, unjudged
from pytest_etcdtls.pki.go_verify import names_host, subject_alt_names
from pytest_etcdtls.pki.profile import AUTHORITY, SERVER, OtherExtension, Profile
from pytest_etcdtls.report.text import certificate_card, certificate_facts

CA = CertificateAuthority.create("CA")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SAN, CONSTRAINTS = "2.5.29.17", "2.5.29.30"
Edit = Callable[[list[bytes]], list[bytes]]


def issued(profile: Profile = SERVER, *others: OtherExtension) -> bytes:
    profile = replace(profile, other_extensions=others)
    return CA.issue(profile, name="leaf", hosts=("localhost",)).chain[0].public_bytes(Encoding.DER)


def with_value(oid: str, value: str) -> bytes:
    return issued(SERVER, OtherExtension(oid, bytes.fromhex(value)))


def edited(edit: Edit) -> bytes:
    """Return a certificate with other fields in TBSCertificate (RFC 5280 section 4.1)."""
    tbs, *rest = children(issued())
    return encode(0x30, encode(0x30, b"".join(edit(children(tbs)))) + b"".join(rest))


def with_times(*times: bytes) -> bytes:
    validity = encode(0x30, b"".join(encode(0x17, time) for time in times))
    return edited(lambda fields: [*fields[:4], validity, *fields[5:]])


def with_key(parameters: str) -> bytes:
    """Return one with other parameters of its EC key."""

    def edit(fields: list[bytes]) -> list[bytes]:
        algorithm, key = children(fields[6])
        changed = encode(0x30, children(algorithm)[0] + bytes.fromhex(parameters)) + key
        return [*fields[:6], encode(0x30, changed), *fields[7:]]

    return edited(edit)


REFUSED = {
    "no certificate": (b"", "not DER"),
    "trailing": (issued() + b"\0", "after the certificate"),
    "version 4": (edited(lambda fields: [bytes.fromhex("a003020103"), *fields[1:]]), "version is 4"),
    "long form of a length": (b"\x30\x83\0" + issued()[2:], "not DER"),
    "local time": (with_times(b"2601010000", b"310101000000Z"), "notBefore is no UTCTime"),
    "30 February": (with_times(b"260230000000Z", b"310101000000Z"), "notBefore is no UTCTime"),
    "subject is no UTF-8": (
        edited(lambda fields: [*fields[:5], fields[5].replace(b"etcd", b"\xff" * 4), *fields[6:]]),
        "not UTF-8",
    ),
    "explicit EC parameters": (with_key("3003020101"), "explicit"),
    "unsupported curve": (with_key("06052b8104000a"), "1.3.132.0.10"),
    "address of 5 octets": (with_value(SAN, "300787057f00000100"), "has 5 octets"),
    "address with mask": (with_value(SAN, "300a87087f000001ffffffff"), "has 8 octets"),
    "name is not ASCII": (with_value(SAN, "30048202c3a9"), "not ASCII"),
    "constraint without mask": (with_value(CONSTRAINTS, "300aa008300687047f000001"), "has 4 octets"),
    "constraint with bad mask": (
        with_value(CONSTRAINTS, "300ea00c300a87087f000001ff00ff00"),
        "mask of an address",
    ),
    "constraints are empty": (with_value(CONSTRAINTS, "3000"), "nothing in it"),
    "key usage": (with_value("2.5.29.15", "0500"), "malformed keyUsage"),
    "key identifier": (with_value("2.5.29.14", "0500"), "malformed subjectKeyIdentifier"),
    "policy twice": (with_value("2.5.29.32", "300a300306012a300306012a"[:24]), "occurs twice"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_go_refuses(name: str) -> None:
    der, reason = REFUSED[name]
    assert reason in parse_error(der)


UNJUDGED = {
    "URI is none": (with_value(SAN, "300486023a2f"), "the unusual URI :/"),
    "URI without a host": (with_value(SAN, "300a" + "8608" + b"urn:etcd".hex()), "the unusual URI urn:etcd"),
    "mailboxes": (with_value(CONSTRAINTS, "300ba0093007" + "8105" + b"a@b.c".hex()), "mailboxes or URIs"),
    "URIs": (with_value(CONSTRAINTS, "3009a0073005" + "8603" + b"b.c".hex()), "mailboxes or URIs"),
    "mapped policies": (with_value("2.5.29.33", "3000"), "policyMappings"),
    "required policies": (with_value("2.5.29.36", "3003800100"), "policyConstraints"),
    "any policy": (with_value("2.5.29.54", "020100"), "inhibitAnyPolicy"),
    "DSA": (
        edited(
            lambda fields: [
                *fields[:6],
                encode(0x30, bytes.fromhex("3009") + bytes.fromhex("06072a8648ce380401") + b"\3\2\0\0"),
                *fields[7:],
            ]
        ),
        "a DSA key",
    ),
}


@pytest.mark.parametrize("name", UNJUDGED)
def test_what_is_not_judged_is_named(name: str) -> None:
    der, what = UNJUDGED[name]
    assert parse_error(der) == ""
    assert what in unjudged(der)


def test_what_a_pki_of_etcd_has_is_judged() -> None:
    spiffe = with_value(SAN, f"30{len(SPIFFE) + 2:02x}86{len(SPIFFE):02x}" + SPIFFE.hex())
    for der in (issued(), spiffe, with_value("2.5.29.32", "3006300406022a03")):
        assert (parse_error(der), unjudged(der)) == ("", "")


SPIFFE = b"spiffe://cluster.local/ns/kube-system/sa/etcd"


TOLERATED = {
    "issuerAltName": (with_value("2.5.29.18", "0500"), "extension issuerAltName"),
    "distribution point": (with_value("2.5.29.31", "30023000"), "extension cRLDistributionPoints"),
    "policy qualifier": (
        with_value("2.5.29.32", "300a300806012a3003300101"),
        "extension certificatePolicies",
    ),
    "x400Address": (with_value(SAN, "300d8209" + b"localhost".hex() + "a300"), "extension subjectAltName"),
    "key usage, trailing": (with_value("2.5.29.15", "030207800500"), "extension keyUsage"),
    "constraints, CA:FALSE": (with_value("2.5.29.19", "3003010100"), "extension basicConstraints"),
    "path length, CA:FALSE": (with_value("2.5.29.19", "3003020100"), "extension basicConstraints"),
    "usage, trailing": (
        with_value("2.5.29.37", "300a06082b060105050703010500"),
        "extension extendedKeyUsage",
    ),
    "authority, serial alone": (with_value("2.5.29.35", "3003820101"), "extension authorityKeyIdentifier"),
}


@pytest.mark.parametrize("name", TOLERATED)
def test_certificates_that_go_accepts_are_read(name: str) -> None:
    der, part = TOLERATED[name]
    assert not parse_error(der)
    certificate = load(der)
    assert [found for found, _ in unparsable(certificate)] == [part]
    assert names_host(certificate, "localhost")
    assert is_for(certificate, "serverAuth")
    assert key_usages(certificate) == frozenset({"digitalSignature"})
    constraints = extension(certificate, x509.BasicConstraints)
    assert constraints is not None
    assert not constraints.ca
    assert certificate_facts(certificate)["subject_alt_names"] == ["DNS:localhost"]


def test_a_clean_certificate_is_parsed_whole() -> None:
    for der in (issued(), CA.certificate.public_bytes(Encoding.DER)):
        assert not parse_error(der)
        assert not list(unparsable(load(der)))


def test_names_with_nul_and_without_labels_are_read() -> None:
    profile = replace(SERVER, dns_names=("", "two..dots", "b" * 64, "nul\0.example"))
    certificate = load(issued(profile))
    assert not parse_error(issued(profile))
    assert names_host(certificate, "localhost")
    assert len(subject_alt_names(certificate)) == 5


MALFORMED_CA = CertificateAuthority.create(
    "bad CA",
    profile=replace(
        AUTHORITY,
        other_extensions=(OtherExtension(CONSTRAINTS, bytes.fromhex("300aa008300687047f000001"), True),),
    ),
).certificate


def test_a_ca_with_a_malformed_extension_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(encode_certificates([CA.certificate, MALFORMED_CA]))
    assert load_trust(tmp_path / "ca.crt") == (CA.certificate, MALFORMED_CA)


@pytest.mark.parametrize("name", ["version 4", "30 February", "subject is no UTF-8"])
def test_a_ca_that_cannot_be_parsed_is_named(name: str, tmp_path: Path) -> None:
    der, reason = REFUSED[name]
    (tmp_path / "ca.crt").write_bytes(der)
    with pytest.raises(UsageError, match=r"--etcd-cacert .*ca\.crt"):
        load_trust(tmp_path / "ca.crt", option="--etcd-cacert")
    with pytest.raises(ValueError, match=reason):
        load(der)


def test_a_negative_serial_number_in_the_key_identifier_is_not_a_warning() -> None:
    value = encode(0x30, encode(0x80, b"\x01") + encode(0xA1, encode(0x82, b"a")) + encode(0x82, b"\xff"))
    certificate = load(issued(SERVER, OtherExtension("2.5.29.35", value)))
    assert certificate_facts(certificate)
    assert list(certificate_card(certificate, NOW))
