"""Certificates and keys have what their profile says."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtensionOID

from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.profile import AUTHORITY, CLIENT, SERVER, KeyType, Profile, generate_key

HOSTS = ("localhost", "127.0.0.1", "::1", "etcd-0.example")


def leaf(ca: CertificateAuthority, profile: Profile, hosts: tuple[str, ...] = ()) -> x509.Certificate:
    return ca.issue(profile, name="leaf", hosts=hosts).chain[0]


def extensions(certificate: x509.Certificate) -> dict[x509.ObjectIdentifier, bool]:
    return {extension.oid: extension.critical for extension in certificate.extensions}


def key_usages(certificate: x509.Certificate) -> set[str]:
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    names = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
        *("key_agreement", "key_cert_sign", "crl_sign"),
    )
    return {name for name in names if getattr(usage, name)}


def test_criticality_of_a_leaf(ca: CertificateAuthority) -> None:
    assert extensions(leaf(ca, SERVER, HOSTS)) == {
        ExtensionOID.BASIC_CONSTRAINTS: True,
        ExtensionOID.KEY_USAGE: True,
        ExtensionOID.EXTENDED_KEY_USAGE: False,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME: False,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER: False,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER: False,
    }


def test_addresses_and_names_are_distinguished(ca: CertificateAuthority) -> None:
    names = leaf(ca, SERVER, HOSTS).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "etcd-0.example"]
    assert names.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address("127.0.0.1"),
        ipaddress.ip_address("::1"),
    ]


def test_empty_subject_makes_the_names_critical(ca: CertificateAuthority) -> None:
    certificate = leaf(ca, replace(SERVER, common_name=None), HOSTS)
    assert not list(certificate.subject)
    assert extensions(certificate)[ExtensionOID.SUBJECT_ALTERNATIVE_NAME] is True


def test_name_that_is_not_ascii_is_an_error(ca: CertificateAuthority) -> None:
    with pytest.raises(ValueError, match="A-label"):
        leaf(ca, SERVER, ("größe.example",))


def test_key_usage_fits_the_key(authority: CertificateAuthority) -> None:
    expected = {"digital_signature"}
    if authority.key_type in {KeyType.RSA_2048, KeyType.RSA_4096}:
        expected.add("key_encipherment")
    certificate = authority.issue(CLIENT, name="client", key=authority.key).chain[0]
    assert key_usages(certificate) == expected


def test_key_usage_of_a_ca(ca: CertificateAuthority) -> None:
    assert key_usages(ca.certificate) == {"key_cert_sign", "crl_sign"}


def test_unknown_key_usage_is_an_error(ca: CertificateAuthority) -> None:
    with pytest.raises(ValueError, match="unknown key usage nonRepudiation, known are digitalSignature"):
        leaf(ca, replace(CLIENT, key_usage=frozenset({"nonRepudiation"})))


def test_serial_numbers_are_positive_short_and_different(ca: CertificateAuthority) -> None:
    serials = {leaf(ca, CLIENT).serial_number for _ in range(200)}
    assert len(serials) == 200
    # 20 octets with the sign bit clear (RFC 5280 section 4.1.2.2).
    assert all(0 < serial < 1 << 159 for serial in serials)


def test_validity_counts_from_an_hour_ago(ca: CertificateAuthority) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    certificate = leaf(ca, replace(CLIENT, valid_for=timedelta(days=3)))
    start = certificate.not_valid_before_utc
    assert before - timedelta(hours=1) <= start <= datetime.now(UTC) - timedelta(hours=1)
    assert certificate.not_valid_after_utc - start == timedelta(days=3)


def test_not_before_can_be_given(ca: CertificateAuthority) -> None:
    start = datetime(2024, 2, 29, 12, tzinfo=UTC)
    certificate = ca.issue(CLIENT, name="client", not_before=start).chain[0]
    assert certificate.not_valid_before_utc == start
    assert certificate.not_valid_after_utc == start + CLIENT.valid_for


def test_unknown_signature_hash_is_an_error(ca: CertificateAuthority) -> None:
    with pytest.raises(ValueError, match="unknown signature hash 'md4', known are sha1"):
        leaf(ca, replace(CLIENT, signature_hash="md4"))


def test_path_length_of_a_ca() -> None:
    profile = replace(AUTHORITY, path_length=0)
    constraints = (
        CertificateAuthority.create("CA", profile=profile)
        .certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        .value
    )
    assert (constraints.ca, constraints.path_length) == (True, 0)


KINDS = {
    KeyType.ECDSA_P256: (ec.EllipticCurvePrivateKey, 256),
    KeyType.ECDSA_P384: (ec.EllipticCurvePrivateKey, 384),
    KeyType.RSA_2048: (rsa.RSAPrivateKey, 2048),
    KeyType.RSA_4096: (rsa.RSAPrivateKey, 4096),
    KeyType.ED25519: (ed25519.Ed25519PrivateKey, None),
}


@pytest.mark.parametrize("key_type", list(KeyType))
def test_key_is_of_its_kind(key_type: KeyType) -> None:
    kind, size = KINDS[key_type]
    key = generate_key(key_type)
    assert isinstance(key, kind)
    assert getattr(key, "key_size", None) == size


def test_key_below_1024_bits_is_an_error() -> None:
    with pytest.raises(ValueError, match="1024"):
        generate_key(KeyType.RSA_2048, rsa_bits=512)


def test_key_types_are_named_as_on_the_command_line() -> None:
    assert [str(key_type) for key_type in KeyType] == [
        "ecdsa-p256",
        "ecdsa-p384",
        "rsa-2048",
        "rsa-4096",
        "ed25519",
    ]
