from __future__ import annotations

import ipaddress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pytest_etcdtls.checks.cert_form import state_of
from pytest_etcdtls.pki.authority import CertificateAuthority
from pytest_etcdtls.pki.bundle import encode_certificates
from pytest_etcdtls.pki.identities import (
    ISSUED_NAMES,
    VALID_COUNTERPARTS,
    foreign_ca,
    issue_identities,
    lookalike_ca,
    revoked,
    self_signed,
)
from pytest_etcdtls.pki.profile import AUTHORITY, Identity, KeyType, generate_key

from .conftest import OpenSSL


def facts(identity: Identity) -> dict[str, object]:
    """Return the facts that distinguish issued identities."""
    leaf, now = identity.chain[0], datetime.now(UTC)
    extensions = leaf.extensions
    names = [e.value for e in extensions if isinstance(e.value, x509.SubjectAlternativeName)]
    return {
        "subject": leaf.subject.rfc4514_string(),
        "names": [str(name.value) for name in names[0]] if names else None,
        "usages": list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value),
        "key usage": extensions.get_extension_for_class(x509.KeyUsage).value,
        "ca": extensions.get_extension_for_class(x509.BasicConstraints).value.ca,
        "started": leaf.not_valid_before_utc <= now,
        "ended": leaf.not_valid_after_utc <= now,
        "sent": len(identity.chain),
    }


DIFFERENCES: dict[str, dict[str, object]] = {
    "expired": {"ended": True},
    "not-yet-valid": {"started": False},
    "server-auth-only": {"usages": [ExtendedKeyUsageOID.SERVER_AUTH]},
    "wrong-cn": {"subject": "CN=pytest-etcdtls-wrong-cn"},
    "wrong-hostname": {"names": None},
    "wrong-san": {"names": ["192.0.2.1"]},
    "intermediate-missing": {"sent": 1},
}


@pytest.mark.parametrize("name", VALID_COUNTERPARTS)
def test_bad_identity_differs_from_its_valid_counterpart_in_one_point(
    authority: CertificateAuthority, name: str
) -> None:
    issued = issue_identities(authority, subject_alt_names=("allowed.example",))
    bad, valid_counterpart = facts(issued[name]), facts(issued[VALID_COUNTERPARTS[name]])
    assert {key: value for key, value in bad.items() if value != valid_counterpart[key]} == DIFFERENCES[name]


_YEAR = timedelta(days=365)


@pytest.mark.parametrize(
    ("begins", "lasts"),
    [
        (datetime.now(UTC) - _YEAR, 10 * _YEAR),
        (datetime.now(UTC) - 2 * _YEAR, _YEAR),
        (datetime.now(UTC) + _YEAR, _YEAR),
        (datetime(1950, 1, 1, tzinfo=UTC), 8049 * _YEAR),
    ],
    ids=["now", "expired", "later", "always"],
)
def test_validity_does_not_depend_on_the_servers_clock(begins: datetime, lasts: timedelta) -> None:
    """Whenever a server takes the CA for valid, the bad ones are bad and the good ones good."""
    profile = replace(AUTHORITY, valid_from=begins - datetime.now(UTC), valid_for=lasts)
    ca = CertificateAuthority.create("CA", profile=profile)
    issued = issue_identities(ca)
    issued["revoked"] = revoked(ca, serial=7, ca_files=("ca.crt", "ca.key"))
    ends = ca.certificate.not_valid_after_utc
    for now in (begins + timedelta(days=3), begins + lasts / 2, ends - timedelta(days=3)):
        for name, identity in issued.items():
            states = {state_of(certificate, now) for certificate in identity.chain}
            faulty = {"expired": "has expired", "not-yet-valid": "is not yet valid"}.get(name, "")
            assert states == {faulty}, (name, now)


def test_identities_of_other_cas_are_always_valid(ca: CertificateAuthority) -> None:
    """They must be refused for their CA, so nothing else may be wrong with them."""
    for identity in (self_signed(), foreign_ca(), lookalike_ca([], [ca.certificate])):
        for year in (1970, 2020, 2060, 9000):
            assert not state_of(identity.chain[0], datetime(year, 1, 1, tzinfo=UTC))


def test_all_identities_have_one_key(ca: CertificateAuthority) -> None:
    issued = issue_identities(ca)
    assert set(issued) == set(ISSUED_NAMES)
    public_keys = [identity.chain[0].public_key() for identity in issued.values()]
    assert all(key == public_keys[0] for key in public_keys)
    missing, sent = issued["intermediate-missing"].chain[0], issued["intermediate-sent"].chain
    assert missing.issuer == sent[0].issuer
    missing.verify_directly_issued_by(sent[1])


def test_one_identity_is_issued_with_the_key_of_the_caller(ca: CertificateAuthority) -> None:
    key = generate_key(KeyType.ED25519)
    identity = issue_identities(ca, ["wrong-san"], key=key, common_name="allowed.example")["wrong-san"]
    leaf = identity.chain[0]
    assert (identity.name, identity.key) == ("wrong-san", key)
    assert leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "allowed.example"
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.IPAddress(ipaddress.ip_address("192.0.2.1"))]


def test_unknown_name_is_an_error(ca: CertificateAuthority) -> None:
    with pytest.raises(ValueError, match="unknown identity 'nobody', known are issued, expired"):
        issue_identities(ca, ["nobody"])


def test_openssl_agrees(ca: CertificateAuthority, tmp_path: Path, openssl: OpenSSL) -> None:
    faults = {
        "expired": "certificate has expired",
        "not-yet-valid": "certificate is not yet valid",
        "server-auth-only": "certificate purpose",
        "intermediate-missing": "unable to get local issuer certificate",
    }
    (tmp_path / "ca.crt").write_bytes(encode_certificates([ca.certificate]))
    verify = ("verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", tmp_path / "ca.crt")
    for name, identity in issue_identities(ca).items():
        (tmp_path / "leaf.crt").write_bytes(encode_certificates(identity.chain))
        leaf = tmp_path / "leaf.crt"
        result = openssl(*verify, "-untrusted", leaf, leaf, check=False)
        assert (result.returncode == 0) is (name not in faults), name
        assert faults.get(name, "") in result.stderr
