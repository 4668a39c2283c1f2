"""Unusual and malformed certificates are read without errors and warnings, or what Go refuses is named."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates
from pytest_etcdtls.pki.certificate import (
    describe_key,
    is_generated,
    is_strong,
    key_usages,
    load,
    load_trust,
    public_key,
    purposes,
    shown,
    signature_hash,
    unparsable,
)
from pytest_etcdtls.pki.go_parser import children, details, encode, parse_error, unjudged
from pytest_etcdtls.pki.go_verify import allows, names_host
from pytest_etcdtls.pki.profile import AUTHORITY, SERVER, KeyType, OtherExtension, Profile, generate_key
from pytest_etcdtls.report.text import certificate_facts

CA = CertificateAuthority.create("CA")
SAN, CONSTRAINTS = "2.5.29.17", "2.5.29.30"
Edit = Callable[[list[bytes]], list[bytes]]


def issued(profile: Profile = SERVER, *others: OtherExtension) -> bytes:
    profile = replace(profile, other_extensions=others or profile.other_extensions)
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
    "local time": (with_times(b"2601010000", b"310101000000Z"), "notBefore is no UTCTime"),
    "subject is no UTF-8": (
        edited(lambda fields: [*fields[:5], fields[5].replace(b"etcd", b"\xff" * 4), *fields[6:]]),
        "not UTF-8",
    ),
    "explicit EC parameters": (with_key("3003020101"), "explicit"),
    "unsupported curve": (with_key("06052b8104000a"), "1.3.132.0.10"),
    "address of 5 octets": (with_value(SAN, "300787057f00000100"), "has 5 octets"),
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
    "unusual URI": (with_value(SAN, "300486023a2f"), "the unusual URI :/"),
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
    own = CA.certificate.public_bytes(Encoding.DER)
    for der in (issued(), own, spiffe, with_value("2.5.29.32", "3006300406022a03")):
        assert (parse_error(der), unjudged(der), [*unparsable(load(der))]) == ("", "", [])


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
    assert allows(certificate)
    assert key_usages(certificate) == frozenset({"digitalSignature"})
    assert details(certificate).is_ca is False
    assert certificate_facts(certificate)["subject_alt_names"] == ["DNS:localhost"]


def test_bundles_with_malformed_certificates(tmp_path: Path) -> None:
    """One that can be loaded is; one that cannot is named."""
    no_mask = OtherExtension(CONSTRAINTS, bytes.fromhex("300aa008300687047f000001"), critical=True)
    bad = CertificateAuthority.create("bad CA", profile=replace(AUTHORITY, other_extensions=(no_mask,)))
    file = tmp_path / "ca.crt"
    file.write_bytes(encode_certificates([CA.certificate, bad.certificate]))
    assert load_trust(file) == (CA.certificate, bad.certificate)
    for name in ("version 4", "local time", "subject is no UTF-8"):
        der, reason = REFUSED[name]
        file.write_bytes(der)
        with pytest.raises(UsageError, match=r"--etcd-cacert .*ca\.crt"):
            load_trust(file, option="--etcd-cacert")
        with pytest.raises(ValueError, match=reason):
            load(der)


def loaded(profile: Profile) -> x509.Certificate:
    return load(issued(profile))


def test_threads_leave_the_filters_of_warnings_as_they_were() -> None:
    der = CA.certificate.public_bytes(Encoding.DER)
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as threads:
        assert len({*threads.map(load, [der] * 2000)}) == 1
    assert warnings.filters == before


def test_usages() -> None:
    for given, expected in (
        (None, {"digitalSignature"}),
        (frozenset(), None),
        (frozenset({"keyAgreement", "encipherOnly"}), {"keyAgreement", "encipherOnly"}),
    ):
        assert key_usages(loaded(replace(SERVER, key_usage=given))) == expected
    for usages, names, server in (
        (None, None, True),
        (("clientAuth", "1.2.3"), ("clientAuth", "1.2.3"), False),
        (("2.5.29.37.0",), ("anyExtendedKeyUsage",), True),
    ):
        certificate = loaded(replace(SERVER, extended_key_usage=usages))
        assert (purposes(certificate), allows(certificate)) == (names, server)
    certificate = loaded(replace(SERVER, subject_alt_names=()))
    assert details(certificate).names == ()
    assert signature_hash(certificate) == "sha256"
    assert signature_hash(CertificateAuthority.create("CA", KeyType.ED25519).certificate) is None
    assert shown(loaded(replace(SERVER, common_name=None))) == "(empty subject)"


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (generate_key(KeyType.RSA_2048, rsa_bits=2047).public_key(), "RSA 2047 bits"),
        (ec.generate_private_key(ec.SECP256K1()).public_key(), "ECDSA secp256k1"),
        (ed448.Ed448PrivateKey.generate().public_key(), "Ed448"),
        (dsa.generate_private_key(1024).public_key(), "DSA"),  # noqa: S505 - quickly made
        (rsa.RSAPublicNumbers(65537, (1 << 8192) + 1).public_key(), "RSA 8193 bits"),
        (None, "a key of unknown kind"),
    ],
)
def test_other_keys_are_not(key: object, words: str) -> None:
    assert not is_strong(key)  # type: ignore[arg-type]
    assert is_strong(public_key(loaded(SERVER)))
    assert describe_key(key) == words  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("profile", "generated"),
    [
        (replace(SERVER, common_name=None, organization="etcd", self_signed=True), True),
        (replace(SERVER, common_name=None, organization="etcd", self_signed=True, ca=True), True),
        (replace(SERVER, common_name=None, organization="etcd"), False),
        (replace(SERVER, common_name="etcd", organization="etcd", self_signed=True), False),
        (replace(SERVER, common_name=None, organization="Etcd", self_signed=True), False),
        (replace(SERVER, common_name=None, self_signed=True), False),
        (SERVER, False),
    ],
)
def test_certificates_that_etcd_generated_are_recognised(profile: Profile, generated: bool) -> None:
    assert is_generated(loaded(profile)) is generated
