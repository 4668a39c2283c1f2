"""Files of revocation lists by name."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pytest_etcdtls.pki.authority import CertificateAuthority, signature_hash
from pytest_etcdtls.pki.go_parser import SEQUENCE, children, encode

ISSUED = datetime(2024, 1, 1, tzinfo=UTC)
NEXT = datetime(2034, 1, 1, tzinfo=UTC)
REASON = x509.CRLReason(x509.ReasonFlags.key_compromise)


def signed(
    authority: CertificateAuthority,
    *serials: int,
    number: bool = True,
    next_update: datetime = NEXT,
    critical: bool = False,
) -> bytes:
    """Return a list of version 2 in DER, signed by the authority."""
    issuer = authority.certificate
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(ISSUED)
        .next_update(next_update)
    )
    if number:
        key = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
        builder = builder.add_extension(x509.CRLNumber(1), critical=False)
        builder = builder.add_extension(key, critical=critical)
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(ISSUED)
        builder = builder.add_revoked_certificate(entry.add_extension(REASON, critical=False).build())
    return builder.sign(authority.key, signature_hash(authority.key)).public_bytes(Encoding.DER)


def with_fields(der: bytes, change: Mapping[int, bytes | None], *, after: bytes = b"") -> bytes:
    """Return a list with fields of its TBSCertList replaced by their number, or removed (``None``).

    The signature no longer fits, which etcd does not check.
    """
    tbs, *others = children(der)
    fields = [change.get(number, field) for number, field in enumerate(children(tbs))]
    content = b"".join(field for field in fields if field is not None) + after
    return encode(SEQUENCE, b"".join([encode(SEQUENCE, content), *others]))


def version_1(der: bytes) -> bytes:
    """Return a list of version 1: no version, no extensions."""
    count = len(children(children(der)[0]))
    return with_fields(der, {0: None, count - 1: None}) if children(children(der)[0])[-1][0] == 0xA0 else der


def pem(der: bytes, label: str = "X509 CRL") -> bytes:
    """Return data as PEM."""
    text = base64.encodebytes(der).decode()
    return f"-----BEGIN {label}-----\n{text}-----END {label}-----\n".encode()


def files(authority: CertificateAuthority, serial: int, other: int) -> dict[str, bytes]:
    """Return files by name. The lists have the first serial number, and a second list the other one."""
    der = signed(authority, serial)
    plain = signed(authority, serial, number=False)
    second = signed(authority, other)
    (entry,) = children(children(children(der)[0])[5])
    negative = encode(SEQUENCE, encode(2, (-serial).to_bytes(21, "big", signed=True).lstrip(b"\xff")) + entry)
    return {
        "DER": der,
        "DER without extensions": plain,
        "DER, version 1": version_1(der),
        "DER, version 1 with extensions": with_fields(der, {0: None}),
        "DER, version 3": with_fields(der, {0: b"\x02\x01\x02"}),
        "DER without nextUpdate": with_fields(der, {4: None}),
        "DER that is out of date": signed(authority, serial, next_update=datetime(2024, 2, 1, tzinfo=UTC)),
        "DER with a critical key identifier": signed(authority, serial, critical=True),
        "DER with more at the end of tbsCertList": with_fields(der, {}, after=b"\x05\x00"),
        "DER without entries": signed(authority),
        "DER with two entries": signed(authority, serial, other),
        "DER with a newline after it": der + b"\n",
        "DER with another list after it": der + second,
        "DER without its last octet": der[:-1],
        "DER with a malformed entry": with_fields(der, {5: encode(SEQUENCE, negative)}),
        "PEM": pem(der),
        "PEM, version 1": pem(version_1(der)),
        "PEM with CRLF": pem(der).replace(b"\n", b"\r\n"),
        "PEM with text before it": b"Certificate Revocation List (CRL):\n" + pem(der),
        "PEM with an empty line before it": b"\n" + pem(der),
        "PEM with a byte order mark": b"\xef\xbb\xbf" + pem(der),
        "PEM with text after it": pem(der) + b"the end\n",
        "PEM with headers": pem(der).replace(b"CRL-----\n", b"CRL-----\nName: value\n\n", 1),
        "PEM without a newline at its end": pem(der).rstrip(),
        "PEM without END": pem(der).partition(b"-----END")[0],
        "PEM with blanks before it": b"  " + pem(der),
        "PEM with blanks after BEGIN": pem(der).replace(b"-----\n", b"-----  \n", 1),
        "PEM of another label": pem(der, "CRL"),
        "PEM, two lists": pem(der) + pem(second),
        "PEM, two lists, the first cut off": pem(der).partition(b"-----END")[0] + pem(second),
        "PEM, a certificate before the list": pem(
            authority.certificate.public_bytes(Encoding.DER), "CERTIFICATE"
        )
        + pem(der),
        "PEM, the list before a certificate": pem(der)
        + pem(authority.certificate.public_bytes(Encoding.DER), "CERTIFICATE"),
        "PEM of a certificate": pem(authority.certificate.public_bytes(Encoding.DER), "CERTIFICATE"),
        "PEM of DER with a newline after it": pem(der + b"\n"),
        "empty": b"",
        "a newline": b"\n",
        "junk": b"this is no list\n",
    }
