"""Every defect can be requested in a profile, and etcd serves it."""

from __future__ import annotations

import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import ClusterPKI, encode_certificates, encode_key, write_files
from pytest_etcdtls.pki.profile import AUTHORITY, SERVER, KeyType, MemberNames, PKIPlan, Profile

from .conftest import EtcdStarter

DAY = timedelta(days=1)
LEAVES = {
    "expired": replace(SERVER, valid_from=-2 * DAY, valid_for=DAY),
    "not yet valid": replace(SERVER, valid_from=DAY),
    "long lifetime": replace(SERVER, valid_for=3650 * DAY),
    "wrong name": replace(SERVER, subject_alt_names=("wrong.example",)),
    "no name": replace(SERVER, subject_alt_names=()),
    "address as DNS name": replace(SERVER, subject_alt_names=(), dns_names=("127.0.0.1",)),
    "wildcard": replace(SERVER, subject_alt_names=("*.example", "127.0.0.1")),
    "serverAuth only": replace(SERVER, extended_key_usage=("serverAuth",)),
    "clientAuth only": replace(SERVER, extended_key_usage=("clientAuth",)),
    "no extended key usage": replace(SERVER, extended_key_usage=None),
    "a CA": replace(SERVER, ca=True),
    "key usage": replace(SERVER, key_usage=frozenset({"keyAgreement"})),
    "weak key": replace(SERVER, rsa_bits=1024),
    "SHA-1": replace(SERVER, signature_hash="sha1"),
    "unknown critical extension": replace(SERVER, unknown_critical_extension="1.3.6.1.4.1.55555.1"),
    "no key identifiers": replace(SERVER, subject_key_identifier=False, authority_key_identifier=False),
    "long serial": replace(SERVER, serial_number=2**168),
    "self-signed": replace(SERVER, self_signed=True),
}


def _extension(
    certificate: x509.Certificate, kind: type[x509.ExtensionType]
) -> x509.Extension[x509.ExtensionType] | None:
    found = [extension for extension in certificate.extensions if isinstance(extension.value, kind)]
    return found[0] if found else None


def _names(certificate: x509.Certificate) -> list[x509.GeneralName]:
    extension = _extension(certificate, x509.SubjectAlternativeName)
    return [] if extension is None else list(extension.value)  # type: ignore[call-overload]


def _usages(certificate: x509.Certificate) -> list[x509.ObjectIdentifier] | None:
    extension = _extension(certificate, x509.ExtendedKeyUsage)
    return None if extension is None else list(extension.value)  # type: ignore[call-overload]


def _is_ca(certificate: x509.Certificate) -> bool:
    return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def _has(name: str, certificate: x509.Certificate) -> bool:
    """Whether the certificate shows the defect."""
    now = datetime.now(UTC)
    match name:
        case "expired":
            return certificate.not_valid_after_utc < now
        case "not yet valid":
            return certificate.not_valid_before_utc > now
        case "long lifetime":
            return certificate.not_valid_after_utc > now + 3000 * DAY
        case "wrong name":
            return _names(certificate) == [x509.DNSName("wrong.example")]
        case "no name":
            return _extension(certificate, x509.SubjectAlternativeName) is None
        case "address as DNS name":
            return _names(certificate) == [x509.DNSName("127.0.0.1")]
        case "wildcard":
            return x509.DNSName("*.example") in _names(certificate)
        case "serverAuth only":
            return _usages(certificate) == [ExtendedKeyUsageOID.SERVER_AUTH]
        case "clientAuth only":
            return _usages(certificate) == [ExtendedKeyUsageOID.CLIENT_AUTH]
        case "no extended key usage":
            return _usages(certificate) is None
        case "a CA":
            return _is_ca(certificate)
        case "key usage":
            usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
            return usage.key_agreement and not usage.digital_signature
        case "weak key":
            key = certificate.public_key()
            return isinstance(key, rsa.RSAPublicKey) and key.key_size == 1024
        case "SHA-1":
            algorithm = certificate.signature_hash_algorithm
            return algorithm is not None and algorithm.name == "sha1"
        case "unknown critical extension":
            extension = _extension(certificate, x509.UnrecognizedExtension)
            return extension is not None and extension.critical
        case "no key identifiers":
            kinds = (x509.SubjectKeyIdentifier, x509.AuthorityKeyIdentifier)
            return not any(_extension(certificate, kind) for kind in kinds)
        case "long serial":
            return certificate.serial_number == 2**168
        case "self-signed":
            return certificate.issuer == certificate.subject
    raise AssertionError(name)


@pytest.mark.parametrize("name", LEAVES)
def test_leaf_has_its_defect_and_no_other(ca: CertificateAuthority, name: str) -> None:
    leaf = ca.issue(LEAVES[name], name="server", hosts=("localhost", "127.0.0.1")).chain[0]
    assert [defect for defect in LEAVES if _has(defect, leaf)] == [name]


@pytest.mark.etcd_version("3.6")
def test_etcd_serves_each_defect(etcd_binary: Path, tmp_path: Path, start_etcd: EtcdStarter) -> None:
    """One etcd and one leaf after the other: it reads the pair at every handshake."""
    member = MemberNames("m0")
    pki = ClusterPKI.generate(PKIPlan(), [member])
    pki.write(tmp_path / "pki")
    paths = pki.paths("m0")
    etcd = start_etcd(etcd_binary, tmp_path / "pki", paths)
    for name, profile in LEAVES.items():
        identity = pki.authorities.server_issuer.issue(profile, name="server", hosts=member.hosts)
        assert identity.key is not None
        pair = {
            paths["server.crt"]: encode_certificates(identity.chain),
            paths["server.key"]: encode_key(identity.key),
        }
        write_files(tmp_path / "pki", pair)
        served = ssl.get_server_certificate(("127.0.0.1", etcd.client_port))
        assert x509.load_pem_x509_certificate(served.encode()) == identity.chain[0], name


AUTHORITIES = {
    "expired": replace(AUTHORITY, valid_from=-2 * DAY, valid_for=DAY),
    "not a CA": replace(AUTHORITY, ca=False),
    "no keyCertSign": replace(AUTHORITY, key_usage=frozenset({"digitalSignature"})),
    "weak key": replace(AUTHORITY, rsa_bits=1024),
}


def _authority_has(name: str, certificate: x509.Certificate) -> bool:
    match name:
        case "not a CA":
            return not _is_ca(certificate)
        case "no keyCertSign":
            return not certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    return _has(name, certificate)


@pytest.mark.parametrize("name", AUTHORITIES)
def test_authority_has_its_defect_and_no_other(name: str) -> None:
    pki = ClusterPKI.generate(PKIPlan(client_authority=AUTHORITIES[name]), [MemberNames("m0")])
    ca = pki.client_ca.certificate
    assert [defect for defect in AUTHORITIES if _authority_has(defect, ca)] == [name]
    pki.servers["m0"].chain[0].verify_directly_issued_by(ca)
    assert not any(_authority_has(defect, pki.peer_ca.certificate) for defect in AUTHORITIES)


def test_weak_authority_does_not_make_weak_leaves() -> None:
    pki = ClusterPKI.generate(PKIPlan(client_authority=AUTHORITIES["weak key"]), [MemberNames("m0")])
    assert pki.client_ca.key_type is KeyType.ECDSA_P256
    assert not _has("weak key", pki.servers["m0"].chain[0])


@pytest.mark.parametrize("profile", [SERVER, AUTHORITY])
def test_profiles_can_be_compared_and_kept_in_sets(profile: Profile) -> None:
    assert len({profile, replace(profile), replace(profile, organization="x")}) == 2
