"""The CRL files that a declaration names: encoding and serial numbers for etcd, dates for people.

Reads files; judges nothing. etcd checks neither signature nor issuer nor date of a CRL.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cryptography import x509

from pytest_etcdtls.declared.declaration import Setting
from pytest_etcdtls.declared.files import Whereabouts


class Encoding(StrEnum):
    """How a CRL is encoded."""

    PEM = "PEM"
    DER = "DER"
    NEITHER = "neither PEM nor DER"


@dataclass(frozen=True, slots=True, kw_only=True)
class CRLFile:
    """A CRL file that was looked at.

    Attributes:
        declared: its path as it is declared.
        found: its path here; ``None`` if it is not here.
        encoding: ``None`` if it is not here, or could not be read.
        issuer: of the list, RFC 4514; empty if it cannot be decoded.
        next_update: when the list should be replaced, aware UTC; ``None`` if it does not say.
        serial_numbers: of the revoked certificates.
    """

    declared: str
    found: str | None = None
    encoding: Encoding | None = None
    issuer: str = ""
    next_update: datetime | None = None
    serial_numbers: frozenset[int] = frozenset()


def read_crl(setting: Setting, where: Whereabouts) -> CRLFile:
    """Return what a CRL file is, whatever is wrong with it."""
    path = where.find(setting.value)
    if path is None:
        return CRLFile(declared=setting.value)
    try:
        data = path.read_bytes()
    except OSError:
        return CRLFile(declared=setting.value, found=str(path))
    for encoding, load in (
        (Encoding.PEM, x509.load_pem_x509_crl),
        (Encoding.DER, x509.load_der_x509_crl),
    ):
        try:
            crl = load(data)
            return CRLFile(
                declared=setting.value,
                found=str(path),
                encoding=encoding,
                issuer=crl.issuer.rfc4514_string(),
                next_update=crl.next_update_utc,
                serial_numbers=frozenset(one.serial_number for one in crl),
            )
        except ValueError:
            continue
    return CRLFile(declared=setting.value, found=str(path), encoding=Encoding.NEITHER)
