"""Certificate revocation lists as Go reads them for etcd.

etcd reads its CRL file at each connection (``checkCRL`` in client/pkg/transport/listener_tls.go), and refuses
every client that presents a certificate if it cannot. Of the list it uses the serial numbers alone, without
their sign: no signature, no issuer, no date. Which function of Go's ``crypto/x509`` reads the file depends on
the version of etcd:

- up to 3.5 ``ParseCRL``: PEM if the data begins with ``-----BEGIN X509 CRL``, of which the first block
  counts, else DER. It decodes by ``encoding/asn1``, which ignores further elements at the end of a SEQUENCE.
  Lists of every version are read, data after the list is refused.
- since 3.6 ``ParseRevocationList``: DER in version 2 (RFC 5280 section 5.1.2.1). It decodes by
  ``cryptobyte``. Data after the list is ignored.

Both are the same in every release of Go that builds these versions of etcd, except that from 1.25 on some
characters of a BMPString in the issuer's name are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from msgspec import Struct

from pytest_etcdtls.pki.go_parser import (
    AUTHORITY_KEY_IDENTIFIER,
    BIT_STRING,
    BOOLEAN,
    GENERALIZED_TIME,
    INTEGER,
    OBJECT_IDENTIFIER,
    OCTET_STRING,
    SEQUENCE,
    SET,
    UTC_TIME,
    MalformedError,
    Reader,
    algorithm_identifier,
    authority_key_identifier,
    check_name,
    encode,
    read_extension,
    read_time,
    string_problem,
)
from pytest_etcdtls.pki.go_pem import decode

_PEM_PREFIX: Final = b"-----BEGIN X509 CRL"
_PEM_LABEL: Final = "X509 CRL"
_CRL_NUMBER: Final = "2.5.29.20"
_REASON_CODE: Final = "2.5.29.21"
_ENUMERATED: Final = 0x0A
_EXTENSIONS: Final = 0xA0
_EXTENSIONS_PRIMITIVE: Final = 0x80
_VERSION_2: Final = 1
_STRINGS: Final = (0x0C, 0x12, 0x13, 0x14, 0x16, 0x1E)
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
        for parse in (_parse_der, parse_revocation_list):
            try:
                lists.append(parse(content))
            except MalformedError:
                continue
            break
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
    return _parse_der(data)


def parse_revocation_list(data: bytes) -> RevocationList:
    """Return the list that ``x509.ParseRevocationList`` reads.

    Raises:
        MalformedError: if it refuses the data.
    """
    der = Reader(data).element(SEQUENCE, "malformed crl")
    outer = Reader(der).inside(SEQUENCE, "malformed crl")
    tbs = outer.inside(SEQUENCE, "malformed tbs crl")
    if not tbs.at(INTEGER) or tbs.integer("malformed crl", bits=64) != _VERSION_2:
        raise MalformedError("the list is not of version 2")
    inner = tbs.content(SEQUENCE, "malformed signature algorithm identifier")
    if outer.content(SEQUENCE, "malformed algorithm identifier") != inner:
        raise MalformedError("inner and outer signature algorithm identifiers don't match")
    algorithm_identifier(Reader(inner), "malformed signature algorithm identifier")
    outer.bit_string("malformed signature")
    check_name(Reader(tbs.element(SEQUENCE, "malformed issuer")), "issuer")
    read_time(tbs, "thisUpdate")
    next_update = read_time(tbs, "nextUpdate") if any(map(tbs.at, _TIMES)) else None
    serial_numbers = set()
    if tbs.at(SEQUENCE):
        for entry in tbs.inside(SEQUENCE, "malformed crl").sequences("malformed crl"):
            serial_numbers.add(abs(entry.integer("malformed serial number")))
            read_time(entry, "revocationDate")
            content = entry.optional(SEQUENCE, "malformed extensions")
            for oid, _, value in _extensions(Reader(content or b"")):
                if oid == _REASON_CODE:
                    Reader(value).integer("malformed reasonCode extension", tag=_ENUMERATED, bits=64)
    content = tbs.optional(_EXTENSIONS, "malformed extensions")
    if content is not None:
        for oid, critical, value in _extensions(Reader(content).inside(SEQUENCE, "malformed extensions")):
            if oid == AUTHORITY_KEY_IDENTIFIER:
                if critical:
                    raise MalformedError("authority key identifier incorrectly marked critical")
                authority_key_identifier(value)
            elif oid == _CRL_NUMBER:
                Reader(value).integer("malformed crl number")
    return RevocationList(der=der, serial_numbers=frozenset(serial_numbers), next_update=next_update)


def _extensions(reader: Reader) -> Iterator[tuple[str, bool, bytes]]:
    for fields in reader.sequences("malformed extension"):
        yield read_extension(fields)


# -- x509.ParseDERCRL: encoding/asn1 decodes it into pkix.CertificateList -------------------------


def _parse_der(data: bytes) -> RevocationList:
    whole = Reader(data)
    der = whole.element(SEQUENCE, "the data is not one list in DER")
    if whole:
        raise MalformedError("there is data after the list")
    outer = Reader(der).inside(SEQUENCE, "malformed CRL")
    tbs = outer.inside(SEQUENCE, "malformed tbsCertList")
    if _next_is(tbs, INTEGER):
        tbs.integer("malformed version", bits=64)
    _algorithm(tbs.inside(SEQUENCE, "malformed signature"))
    _name(tbs.inside(SEQUENCE, "malformed issuer"))
    _time(tbs, "thisUpdate")
    next_update = _time(tbs, "nextUpdate") if any(_next_is(tbs, tag) for tag in _TIMES) else None
    serial_numbers = set()
    if _next_is(tbs, SEQUENCE):
        for entry in tbs.inside(SEQUENCE, "malformed revokedCertificates").sequences("malformed entry"):
            serial_numbers.add(abs(entry.integer("malformed serial number")))
            _time(entry, "revocationDate")
            if _next_is(entry, SEQUENCE):
                _skip_extensions(entry)
    _explicit_extensions(tbs)
    _algorithm(outer.inside(SEQUENCE, "malformed signatureAlgorithm"))
    outer.bit_string("malformed signatureValue")
    return RevocationList(der=der, serial_numbers=frozenset(serial_numbers), next_update=next_update)


def _next_is(reader: Reader, tag: int) -> bool:
    """Return whether an optional element is there. Another one in its place must have a tag and length."""
    if reader:
        _header(reader)
    return reader.at(tag)


def _header(reader: Reader) -> tuple[int, int]:
    """Return the offset and length of the next element's content. The length may exceed the data."""
    data, begin = reader.rest, 1
    if data[0] & 0x1F == 0x1F:  # a tag above 30 takes several octets, in base 128
        while begin < len(data) and data[begin] & 0x80:
            begin += 1
        number = int.from_bytes(data[1:2], "big")
        begin += 1
        if begin > 6 or number == 0x80 or (begin == 2 and number < 0x1F):
            raise MalformedError("malformed tag")
    octets = data[begin : begin + 1]
    if not octets:
        raise MalformedError("truncated tag or length")
    begin += 1
    if octets[0] < 0x80:
        return begin, octets[0]
    octets = data[begin : begin + (octets[0] & 0x7F)]
    length = int.from_bytes(octets, "big")
    if len(octets) < data[begin - 1] & 0x7F or not 0x80 <= length < 1 << 31 or not octets[0]:
        raise MalformedError("malformed length")
    return begin + len(octets), length


def _explicit_extensions(tbs: Reader) -> None:
    if not tbs:
        return
    tag, (begin, length) = tbs.rest[0], _header(tbs)
    if begin == len(tbs.rest):
        raise MalformedError("explicit tag has no child")
    if tag == _EXTENSIONS or (tag == _EXTENSIONS_PRIMITIVE and not length):
        if not length:
            raise MalformedError("explicit tag of length zero")
        # An explicit tag around something else counts as absent.
        inner = Reader(tbs.rest[begin:])
        if _next_is(inner, SEQUENCE):
            _skip_extensions(inner)


def _skip_extensions(reader: Reader) -> None:
    for fields in reader.inside(SEQUENCE, "malformed extensions").sequences("malformed extension"):
        fields.object_identifier("malformed OID of an extension")
        if _next_is(fields, BOOLEAN):
            fields.boolean("malformed critical field of an extension")
        fields.content(OCTET_STRING, "malformed value of an extension")


def _algorithm(fields: Reader) -> None:
    fields.object_identifier("malformed algorithm")
    if fields:
        _any(fields, "malformed parameters")


def _any(reader: Reader, message: str) -> tuple[int, bytes]:
    """Return the identifier octet and the content of an element of any type."""
    tag, (begin, length) = reader.rest[0], _header(reader)
    content = reader.rest[begin : begin + length]
    if len(content) < length:
        raise MalformedError(message)
    reader.rest = reader.rest[begin + length :]
    return tag, content


def _name(sets: Reader) -> None:
    message = "malformed issuer"
    while sets:
        for attribute in sets.inside(SET, message).sequences(message):
            attribute.object_identifier(message)
            if not attribute:
                raise MalformedError(message)
            tag, value = _any(attribute, message)
            _check_value(tag, value)


def _check_value(tag: int, value: bytes) -> None:
    """Check a value of the Go type ``any``, of which ``encoding/asn1`` decodes the types that it knows."""
    message, element = "malformed issuer", Reader(encode(tag, value))
    if tag in _STRINGS:
        if string_problem(tag, value):
            raise MalformedError(message)
    elif tag == BOOLEAN:
        element.boolean(message)
    elif tag == INTEGER:
        element.integer(message, bits=64)
    elif tag == BIT_STRING:
        element.bit_string(message)
    elif tag == OBJECT_IDENTIFIER:
        element.object_identifier(message)
    elif tag in _TIMES:
        _time(element, message)


def _time(reader: Reader, which: str) -> datetime | None:
    return read_time(reader, which, fraction=True)
