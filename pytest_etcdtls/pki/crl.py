"""Builds and signs one certificate revocation list (RFC 5280 section 5); keeps no account of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pytest_etcdtls.pki.certificate import Issuer, signature_hash


def build_crl(
    issuer: Issuer,
    revoked: Mapping[int, datetime],
    *,
    number: int,
    encoding: Literal["der", "pem"],
    valid_for: timedelta,
) -> bytes:
    """Return a signed list.

    Args:
        issuer: the CA that signs it.
        revoked: time of revocation by serial number; aware.
        number: the CRL number, which grows from list to list (section 5.2.3).
        encoding: of what is returned.
        valid_for: from thisUpdate, one hour ago, to nextUpdate.
    """
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.name)
        .last_update(start)
        .next_update(start + valid_for)
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    if issuer.key_identifier is not None:
        identifier = x509.AuthorityKeyIdentifier(issuer.key_identifier, None, None)
        builder = builder.add_extension(identifier, critical=False)
    for serial_number, since in revoked.items():
        entry = x509.RevokedCertificateBuilder().serial_number(serial_number).revocation_date(since)
        builder = builder.add_revoked_certificate(entry.build())
    crl = builder.sign(issuer.key, signature_hash(issuer.key))
    return crl.public_bytes(Encoding.DER if encoding == "der" else Encoding.PEM)
