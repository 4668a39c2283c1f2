"""Certificate revocation lists as Go reads them for etcd.

etcd reads its CRL file at each connection (``checkCRL`` in client/pkg/transport/listener_tls.go), and refuses
every client that presents a certificate if it cannot. Of the list it uses the serial numbers alone, without
their sign: no signature, no issuer, no date. Which function of Go's ``crypto/x509`` reads the file depends on
the version of etcd:

- up to 3.5 ``ParseCRL``: PEM if the data begins with ``-----BEGIN X509 CRL``, of which the first block
  counts, else DER. Lists of every version are read, data after the list is refused. It decodes by
  ``encoding/asn1``, which is more lenient than what is read here: what is malformed is called unreadable,
  and later etcds do not read it either.
- since 3.6 ``ParseRevocationList``: DER in version 2 (RFC 5280 section 5.1.2.1). It decodes by
  ``cryptobyte``. Data after the list is ignored.

From Go 1.25 on some characters of a BMPString in the issuer's name are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import Final

from msgspec import Struct

from pytest_etcdtls.pki.go_parser import (
    AUTHORITY_KEY_IDENTIFIER,
    GENERALIZED_TIME,
    INTEGER,
    SEQUENCE,
    UTC_TIME,
    MalformedError,
    Reader,
    algorithm_identifier,
    authority_key_identifier,
    check_name,
    read_extension,
    read_time,
)
from pytest_etcdtls.pki.go_pem import decode

_PEM_PREFIX: Final = b"-----BEGIN X509 CRL"
_PEM_LABEL: Final = "X509 CRL"
_CRL_NUMBER: Final = "2.5.29.20"
_REASON_CODE: Final = "2.5.29.21"
_ENUMERATED: Final = 0x0A
_EXTENSIONS: Final = 0xA0
_VERSION_2: Final = 1
_MALFORMED: Final = "malformed crl"
_TIMES: Final = (UTC_TIME, GENERALIZED_TIME)


class RevocationList(Struct, frozen=True, kw_only=True):
    """What is read of a list.

    Attributes:
        der: the list.
        serial_numbers: the serial numbers without their sign, as etcd compares them.
        next_update: its nextUpdate, aware UTC; ``None`` if it has none that Python can represent.
    """

    der: bytes
    serial_numbers: frozenset[int]
    next_update: datetime | None


def is_pem(data: bytes) -> bool:
    """Return whether there is a PEM block of a CRL anywhere in the data, as a user understands the file."""
    return any(block.label == _PEM_LABEL for block in decode(data))


def lists_in(data: bytes) -> tuple[RevocationList, ...]:
    """Return every list in a file that one of the two functions reads, whatever text surrounds it."""
    contents = [block.content for block in decode(data) if block.label == _PEM_LABEL] or [data]
    lists = []
    for content in contents:
        with suppress(MalformedError):
            lists.append(_list(Reader(content, _MALFORMED)))
    return tuple(lists)


def parse_crl(data: bytes) -> RevocationList:
    """Return the list that ``x509.ParseCRL`` reads.

    Raises:
        MalformedError: if it refuses the data.
    """
    if data.startswith(_PEM_PREFIX):
        block = next(decode(data), None)
        if block is None or block.label != _PEM_LABEL:
            raise MalformedError("the first PEM block is no CRL")
        data = block.content
    elif is_pem(data):
        raise MalformedError("there is something before the PEM block")
    whole = Reader(data, _MALFORMED)
    crl = _list(whole)
    if whole:
        raise MalformedError("there is data after the list")
    return crl


def parse_revocation_list(data: bytes) -> RevocationList:
    """Return the list that ``x509.ParseRevocationList`` reads.

    Raises:
        MalformedError: if it refuses the data.
    """
    return _list(Reader(data, _MALFORMED), version_2=True)


def _list(whole: Reader, *, version_2: bool = False) -> RevocationList:
    """Return the next list; ``version_2``: with what ParseRevocationList requires besides DER."""
    der = whole.element(SEQUENCE)
    outer = Reader(der, _MALFORMED).inside(SEQUENCE)
    tbs = outer.inside(SEQUENCE)
    version = tbs.integer(bits=64) if tbs.at(INTEGER) else 0
    inner = tbs.content(SEQUENCE, "malformed signature algorithm identifier")
    outer_too = outer.content(SEQUENCE, "malformed algorithm identifier")
    if version_2 and version != _VERSION_2:
        raise MalformedError("the list is not of version 2")
    if version_2 and outer_too != inner:
        raise MalformedError("inner and outer signature algorithm identifiers don't match")
    for algorithm in (inner, outer_too):
        algorithm_identifier(Reader(algorithm, "malformed signature algorithm identifier"))
    outer.bit_string("malformed signature")
    check_name(tbs, "issuer")
    read_time(tbs, "thisUpdate")
    next_update = read_time(tbs, "nextUpdate") if any(map(tbs.at, _TIMES)) else None
    serial_numbers = set()
    if tbs.at(SEQUENCE):
        for entry in tbs.inside(SEQUENCE).sequences():
            serial_numbers.add(abs(entry.integer("malformed serial number")))
            read_time(entry, "revocationDate")
            content = entry.optional(SEQUENCE, "malformed extensions")
            for oid, _, value in _extensions(Reader(content or b"")):
                if oid == _REASON_CODE:
                    Reader(value).integer("malformed reasonCode extension", tag=_ENUMERATED, bits=64)
    content = tbs.optional(_EXTENSIONS, "malformed extensions")
    if content is not None:
        for oid, critical, value in _extensions(Reader(content, "malformed extensions").inside(SEQUENCE)):
            if oid == AUTHORITY_KEY_IDENTIFIER:
                if critical and version_2:
                    raise MalformedError("authority key identifier incorrectly marked critical")
                authority_key_identifier(value)
            elif oid == _CRL_NUMBER:
                Reader(value).integer("malformed crl number")
    while tbs and not version_2:
        tbs.any_element()
    return RevocationList(der=der, serial_numbers=frozenset(serial_numbers), next_update=next_update)


def _extensions(reader: Reader) -> Iterator[tuple[str, bool, bytes]]:
    for fields in reader.sequences("malformed extension"):
        yield read_extension(fields)
