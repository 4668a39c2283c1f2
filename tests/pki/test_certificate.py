from __future__ import annotations

import ipaddress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtensionOID

from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.profile import AUTHORITY, CLIENT, SERVER, KeyType, Profile

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


def test_client_has_no_subject_alt_name_extension(ca: CertificateAuthority) -> None:
    assert ExtensionOID.SUBJECT_ALTERNATIVE_NAME not in extensions(leaf(ca, CLIENT, HOSTS))


def test_a_profile_without_hosts_has_no_subject_alt_name_extension(ca: CertificateAuthority) -> None:
    assert ExtensionOID.SUBJECT_ALTERNATIVE_NAME not in extensions(leaf(ca, SERVER))


def test_addresses_and_names_are_distinguished(ca: CertificateAuthority) -> None:
    names = leaf(ca, SERVER, HOSTS).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "etcd-0.example"]
    assert names.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address("127.0.0.1"),
        ipaddress.ip_address("::1"),
    ]


def test_names_of_the_profile_replace_the_hosts(ca: CertificateAuthority) -> None:
    certificate = leaf(ca, replace(SERVER, subject_alt_names=("other.example",)), HOSTS)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName("other.example")]


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


def test_a_profile_without_key_usage_has_no_such_extension(ca: CertificateAuthority) -> None:
    assert ExtensionOID.KEY_USAGE not in extensions(leaf(ca, replace(CLIENT, key_usage=frozenset())))


def test_unknown_key_usage_is_an_error(ca: CertificateAuthority) -> None:
    with pytest.raises(ValueError, match="unknown key usage nonRepudiation, known are digitalSignature"):
        leaf(ca, replace(CLIENT, key_usage=frozenset({"nonRepudiation"})))


def test_extended_key_usage_may_be_any_oid(ca: CertificateAuthority) -> None:
    certificate = leaf(ca, replace(CLIENT, extended_key_usage=("clientAuth", "1.3.6.1.5.5.7.3.3")))
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [usage.dotted_string for usage in usages] == ["1.3.6.1.5.5.7.3.2", "1.3.6.1.5.5.7.3.3"]


def test_key_identifiers_link_leaf_and_ca(ca: CertificateAuthority) -> None:
    own = ca.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    certificate = leaf(ca, CLIENT)
    authority = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert authority.key_identifier == own.digest
    expected = x509.SubjectKeyIdentifier.from_public_key(ca.certificate.public_key())
    assert own == expected


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


@pytest.mark.parametrize(
    ("key_type", "expected"),
    [
        (KeyType.ECDSA_P256, "sha256"),
        (KeyType.ECDSA_P384, "sha384"),
        (KeyType.RSA_2048, "sha256"),
        (KeyType.ED25519, None),
    ],
)
def test_signature_hash_fits_the_signing_key(key_type: KeyType, expected: str | None) -> None:
    algorithm = CertificateAuthority.create("CA", key_type).certificate.signature_hash_algorithm
    assert (algorithm.name if algorithm else None) == expected


def test_signature_hash_can_be_chosen(ca: CertificateAuthority) -> None:
    certificate = leaf(ca, replace(CLIENT, signature_hash="sha512"))
    assert isinstance(certificate.signature_hash_algorithm, hashes.SHA512)


def test_unknown_signature_hash_is_an_error(ca: CertificateAuthority) -> None:
    with pytest.raises(ValueError, match="unknown signature hash 'md4', known are sha1"):
        leaf(ca, replace(CLIENT, signature_hash="md4"))


def test_self_signed_leaf_is_its_own_issuer(ca: CertificateAuthority) -> None:
    identity = ca.issue(replace(SERVER, self_signed=True), name="server", hosts=HOSTS)
    certificate = identity.chain[0]
    assert identity.chain == (certificate,)
    assert certificate.issuer == certificate.subject
    certificate.verify_directly_issued_by(certificate)


def test_path_length_of_a_ca() -> None:
    profile = replace(AUTHORITY, path_length=0)
    constraints = (
        CertificateAuthority.create("CA", profile=profile)
        .certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        .value
    )
    assert (constraints.ca, constraints.path_length) == (True, 0)
