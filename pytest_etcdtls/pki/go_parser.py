"""The rules of Go's x509.ParseCertificate, and a DER reader.

etcd and its clients in Go parse every certificate that the other side sends before they judge any, and end
the handshake at the first that does not parse. Go's parser is stricter than OpenSSL's in places (negative
serial numbers, octets in names, an extension that occurs twice) and more lenient in others, and the parser of
the cryptography library is a third one. So Go's rules are written out: :func:`parse_error` follows
parseCertificate (crypto/x509/parser.go of Go 1.26) in its order, :class:`Reader` is
golang.org/x/crypto/cryptobyte, and ``READERS`` are the cases of processExtensions. The messages are ours.
``tests/oracle`` compares the results with Go's.

What no PKI of etcd has is not judged: requirements of certificate policies, name constraints on mailboxes and
URIs, unusual URIs, DSA keys. :func:`unjudged` names it, and a run that meets it is inconclusive.
"""

from __future__ import annotations

import calendar
import contextlib
import functools
import ipaddress
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, NoReturn, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec import Struct

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
OBJECT_IDENTIFIER: Final = 0x06
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18
SEQUENCE: Final = 0x30
SET: Final = 0x31

EMAIL, DNS, URI, IP = 0x81, 0x82, 0x86, 0x87
"""Tags of the GeneralName types that Go reads (RFC 5280 section 4.2.1.6)."""
Names = tuple[tuple[int, bytes], ...]
"""Tag and content of each GeneralName."""
_READ = (IP, DNS, URI, EMAIL)

T = TypeVar("T")
U = TypeVar("U")

RSA_KEY: Final = "1.2.840.113549.1.1.1"
EC_KEY: Final = "1.2.840.10045.2.1"
ED25519: Final = "1.3.101.112"
"""The key, and its signature algorithm too (RFC 8410 section 3)."""

SUBJECT_KEY_IDENTIFIER: Final = "2.5.29.14"
KEY_USAGE: Final = "2.5.29.15"
SUBJECT_ALT_NAME: Final = "2.5.29.17"
BASIC_CONSTRAINTS: Final = "2.5.29.19"
NAME_CONSTRAINTS: Final = "2.5.29.30"
POLICIES: Final = "2.5.29.32"
AUTHORITY_KEY_IDENTIFIER: Final = "2.5.29.35"
EXTENDED_KEY_USAGE: Final = "2.5.29.37"

_VERSION, _EXTENSIONS = 0xA0, 0xA3
VERSION_WITH_EXTENSIONS: Final = 3
_FIELD = {number: 0x80 | number for number in range(3)}
_NESTED = {number: 0xA0 | number for number in range(2)}

_CURVES: dict[str, type[ec.EllipticCurve]] = {
    "1.3.132.0.33": ec.SECP224R1,
    "1.2.840.10045.3.1.7": ec.SECP256R1,
    "1.3.132.0.34": ec.SECP384R1,
    "1.3.132.0.35": ec.SECP521R1,
}
_ADDRESS_LENGTHS = (4, 16)
_PRINTABLE = re.compile(rb"[A-Za-z0-9'()+,\-./ :=?*&]*\Z")
_NUMERIC = re.compile(rb"[0-9 ]*\Z")


class MalformedError(ValueError):
    """The data is malformed; the message names the malformed part."""


class UnjudgedError(MalformedError):
    """There is something that is not judged here, so Go may refuse it; the message names it."""


class Reader:
    """Reads DER elements in sequence, as strictly as Go's ``cryptobyte``.

    Args:
        data: the elements.
        what: the message of errors, unless a method that reads is given another; elements inside keep it.
    """

    def __init__(self, data: bytes, what: str = "malformed DER") -> None:
        self.rest, self.what = data, what

    def __bool__(self) -> bool:
        return bool(self.rest)

    def at(self, tag: int) -> bool:
        """Return whether the next element has the tag."""
        return self.rest[:1] == bytes((tag,))

    def any_element(self, what: str = "") -> tuple[int, bytes, bytes]:
        """Return the tag, the content and the whole of the next element.

        Raises:
            MalformedError: if there is no DER element.
        """
        data, what = self.rest, what or self.what
        # Tags above 30 take several octets; certificate fields do not use them.
        if len(data) < 2 or data[0] & 0x1F == 0x1F:
            raise MalformedError(what)
        tag, length, begin = data[0], data[1], 2
        if length >= 0x80:
            begin = 2 + (length & 0x7F)
            octets = data[2:begin]
            length = int.from_bytes(octets, "big")
            shortest = octets and octets[0] and length >= 0x80
            if not shortest or len(octets) > 4 or len(octets) != begin - 2:
                raise MalformedError(what)
        end = begin + length
        if len(data) < end:
            raise MalformedError(what)
        self.rest = data[end:]
        return tag, data[begin:end], data[:end]

    def element(self, tag: int, what: str = "") -> bytes:
        """Return the whole of the next element, which must have the tag."""
        before = self.rest
        self.content(tag, what)
        return before[: len(before) - len(self.rest)]

    def content(self, tag: int, what: str = "") -> bytes:
        """Return the content of the next element, which must have the tag."""
        next_tag, content, _ = self.any_element(what)
        if next_tag != tag:
            raise MalformedError(what or self.what)
        return content

    def inside(self, tag: int, what: str = "") -> Reader:
        """Return a reader of the content of the next element, which must have the tag."""
        return Reader(self.content(tag, what), what or self.what)

    def elements(self) -> Iterator[tuple[int, bytes, bytes]]:
        """Yield each further element, as :meth:`any_element` returns it."""
        while self:
            yield self.any_element()

    def sequences(self, what: str = "") -> Iterator[Reader]:
        """Yield a reader of the content of each further element, all of which must be SEQUENCEs."""
        while self:
            yield self.inside(SEQUENCE, what)

    def optional(self, tag: int, what: str = "") -> bytes | None:
        """Return the content of the next element if it has the tag; else return ``None`` and read nothing."""
        return self.content(tag, what) if self.at(tag) else None

    def boolean(self, what: str = "") -> bool:
        """Return a BOOLEAN."""
        content = self.content(BOOLEAN, what)
        if content not in (b"\x00", b"\xff"):
            raise MalformedError(what or self.what)
        return content == b"\xff"

    def integer(self, what: str = "", *, tag: int = INTEGER, bits: int | None = None) -> int:
        """Return an INTEGER that fits a signed integer of this many bits."""
        content = self.content(tag, what)
        value = int.from_bytes(content, "big", signed=True)
        fits = bits is None or -(1 << bits - 1) <= value < 1 << bits - 1
        if not content or content != encode_integer(value) or not fits:
            raise MalformedError(what or self.what)
        return value

    def bit_string(self, what: str = "") -> tuple[bytes, int]:
        """Return the octets of a BIT STRING and the number of unused bits in the last octet."""
        content = self.content(BIT_STRING, what)
        unused, octets = (content[0], content[1:]) if content else (8, b"")
        if unused > 7 or (unused and not octets) or (octets and octets[-1] & ((1 << unused) - 1)):
            raise MalformedError(what or self.what)
        return octets, unused

    def object_identifier(self, what: str = "") -> str:
        """Return an OBJECT IDENTIFIER in dotted form. Arcs above 2**31 are refused, as in Go."""
        return dotted(self.content(OBJECT_IDENTIFIER, what), what or self.what)


def _shown(content: bytes) -> str:
    """Return foreign octets for a message: ASCII, bounded."""
    return repr(content[:256])[2:-1]


def dotted(content: bytes, message: str, *, largest: int = (1 << 31) - 1) -> str:
    """Return the dotted form of the content of an OBJECT IDENTIFIER.

    Raises:
        MalformedError: if it is not an OBJECT IDENTIFIER, or one of its arcs exceeds the limit.
    """
    numbers: list[int] = []
    value, started = 0, False
    for octet in content:
        if not started and octet == 0x80:
            raise MalformedError(message)
        value, started = value << 7 | octet & 0x7F, True
        if value > largest:
            raise MalformedError(message)
        if not octet & 0x80:
            numbers.append(value)
            value, started = 0, False
    if started or not numbers:
        raise MalformedError(message)
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def encode(tag: int, content: bytes) -> bytes:
    """Return one element: tag, length, content."""
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def encode_integer(value: int) -> bytes:
    """Return the content of an INTEGER: the shortest two's complement, at least one octet."""
    magnitude = value if value >= 0 else ~value
    return value.to_bytes(magnitude.bit_length() // 8 + 1, "big", signed=True)


def children(der: bytes) -> list[bytes]:
    """Return the elements within the first element, each with its tag and length."""
    _, content, _ = Reader(der).any_element()
    return [element for _, _, element in Reader(content).elements()]


class RawExtension(Struct, frozen=True):
    """One extension as encoded in a certificate.

    Attributes:
        oid: the dotted OID.
        value: the content of extnValue.
        element: the whole Extension element.
    """

    oid: str
    critical: bool
    value: bytes
    element: bytes


@functools.lru_cache(maxsize=4096)
def parse_error(der: bytes) -> str:
    """Return why Go does not parse a certificate; empty if it does."""
    try:
        _certificate(der)
    except UnjudgedError:
        return ""
    except MalformedError as error:
        return str(error)
    return ""


_LABELS: Final = rb"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*"
_USUAL_URI: Final = re.compile(
    rb"[A-Za-z][A-Za-z0-9+.-]*://" + _LABELS + rb"(?::[0-9]+)?(?:/[A-Za-z0-9._~/-]*)?\Z"
)
"""What Go parses as a URI whose host is a domain name, with certainty."""


@functools.lru_cache(maxsize=4096)
def unjudged(der: bytes) -> str:
    """Return what a certificate has that is not judged here, so Go may refuse it; empty for nothing."""
    try:
        _certificate(der)
    except UnjudgedError as error:
        return str(error)
    except MalformedError:
        return ""  # parse_error says so
    return ""


def key_error(spki: bytes) -> str:
    """Return why Go does not parse a SubjectPublicKeyInfo; empty if it does, or ignores keys of its type."""
    try:
        _public_key(Reader(spki))
    except MalformedError as error:
        return str(error)
    return ""


def _certificate(der: bytes) -> None:
    whole = Reader(der, "the certificate is not DER")
    outer = whole.inside(SEQUENCE)
    tbs = outer.inside(SEQUENCE, "the tbsCertificate is not DER")
    version = _version(tbs)
    if tbs.integer("the serial number is not an INTEGER in DER") < 0:
        raise MalformedError("the serial number is negative, which Go refuses from 1.23 on")
    algorithm = tbs.content(SEQUENCE, "malformed signature algorithm")
    if outer.content(SEQUENCE, "malformed signatureAlgorithm") != algorithm:
        raise MalformedError("signature and signatureAlgorithm differ")
    algorithm_identifier(Reader(algorithm, "malformed signature algorithm"))
    check_name(tbs, "issuer")
    validity = tbs.inside(SEQUENCE, "malformed validity")
    read_time(validity, "notBefore")
    read_time(validity, "notAfter")
    check_name(tbs, "subject")
    _public_key(tbs)
    if version > 1:
        for number in (1, 2):
            tbs.optional(_FIELD[number], "malformed issuerUniqueID or subjectUniqueID")
    if version > 2:
        seen: set[str] = set()
        for extension in _extensions(tbs):
            if extension.oid in seen:
                raise MalformedError(f"the extension {extension.oid} occurs twice")
            seen.add(extension.oid)
            if extension.critical and extension.oid in _NEVER_CRITICAL:
                raise MalformedError(f"the extension {_NEVER_CRITICAL[extension.oid]} is critical")
            if reader := READERS.get(extension.oid):
                reader(extension.value)
    outer.bit_string("malformed signature")
    if whole:
        raise MalformedError("there is data after the certificate")


def _version(tbs: Reader) -> int:
    content = tbs.optional(_VERSION, "malformed version")
    if content is None:
        return 1
    reader = Reader(content, "malformed version")
    version = reader.integer(bits=64) + 1
    if reader or not 1 <= version <= 3:
        raise MalformedError(f"the version is {version}")
    return version


def algorithm_identifier(reader: Reader) -> tuple[str, bytes]:
    """Return the OID and the parameters of the content of an AlgorithmIdentifier."""
    return reader.object_identifier(), reader.any_element()[2] if reader else b""


def check_name(reader: Reader, which: str) -> None:
    """Check the next Name as Go's ``parseName`` does.

    Raises:
        MalformedError: if Go refuses it.
    """
    sets = reader.inside(SEQUENCE, f"malformed {which}")
    while sets:
        for attribute in sets.inside(SET).sequences():
            oid = attribute.object_identifier()
            tag, value, _ = attribute.any_element()
            if problem := string_problem(tag, value):
                raise MalformedError(f"the attribute {oid} of the {which} is {problem}")


def string_problem(tag: int, value: bytes) -> str:
    """Return the error in a DirectoryString; empty if there is none."""
    match tag:
        case 0x14:  # T61String, read as Latin-1
            return ""
        case 0x13:
            return "" if _PRINTABLE.match(value) else "no PrintableString"
        case 0x12:
            return "" if _NUMERIC.match(value) else "no NumericString"
        case 0x16:
            return "" if value.isascii() else "an IA5String with octets that are not ASCII"
        case 0x0C:
            try:
                value.decode()
            except UnicodeDecodeError:
                return "a UTF8String that is not UTF-8"
            return ""
        case 0x1E:
            return "" if _is_bmp(value) else "no BMPString"
    return f"of an unknown kind of string, tag {tag:#04x}"


def _is_bmp(value: bytes) -> bool:
    # Go refuses the noncharacters and surrogates of UTF-16 (parseBMPString in encoding/asn1).
    points = [int.from_bytes(value[at : at + 2], "big") for at in range(0, len(value), 2)]
    reserved = (point >= 0xFFFE or 0xFDD0 <= point <= 0xFDEF or 0xD800 <= point <= 0xDFFF for point in points)
    return len(value) % 2 == 0 and not any(reserved)


def read_time(reader: Reader, which: str) -> datetime | None:
    """Return the next Time, aware UTC; ``None`` for one that Python cannot represent.

    Args:
        reader: the elements.
        which: the name of the field, for the message of the error.
    """
    if reader.at(UTC_TIME):
        tag, kind, digits = UTC_TIME, "UTCTime", rb"(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)?"
    else:
        tag, kind, digits = GENERALIZED_TIME, "time in DER", rb"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)"
    match = re.match(digits + rb"(Z|[+-]\d{4})\Z", reader.content(tag, f"{which} is no {kind}"))
    if match is None:
        raise MalformedError(f"{which} is no {kind}")
    year, month, day, hour, minute, second = (int(group or 0) for group in match.groups()[:6])
    if kind == "UTCTime":
        year += 1900 if year >= 50 else 2000
    # Python's calendar does not support year 0, whose February has 29 days.
    is_day = 1 <= month <= 12 and 1 <= day <= calendar.monthrange(year or 2000, month)[1]
    zone = match[7]
    # Go formats the parsed time again and compares: an offset of zero would be written as Z.
    is_zone = zone == b"Z" or (int(zone[1:]) != 0 and int(zone[1:3]) <= 24 and int(zone[3:]) <= 59)
    if not is_day or hour > 23 or minute > 59 or second > 59 or not is_zone:
        raise MalformedError(f"{which} is no {kind}")
    offset = timedelta() if zone == b"Z" else timedelta(hours=int(zone[1:3]), minutes=int(zone[3:]))
    try:
        local = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
        return local + offset if zone[:1] == b"-" else local - offset
    except (ValueError, OverflowError):
        return None


def _public_key(tbs: Reader) -> None:
    info = tbs.inside(SEQUENCE, "malformed subjectPublicKeyInfo")
    oid, parameters = algorithm_identifier(info.inside(SEQUENCE))
    octets, unused = info.bit_string()
    if unused:  # as Go's BitString.RightAlign
        octets = (int.from_bytes(octets, "big") >> unused).to_bytes(len(octets), "big")
    if reader := _KEY_READERS.get(oid):
        reader(parameters, octets)


def _rsa_key(parameters: bytes, octets: bytes) -> None:
    if parameters != b"\x05\x00":
        raise MalformedError("the RSA key has no NULL parameters")
    numbers = Reader(octets).inside(SEQUENCE, "malformed RSA key")
    modulus = numbers.integer("malformed RSA modulus")
    exponent = numbers.integer("malformed RSA exponent", bits=64)
    if modulus <= 0 or exponent <= 0:
        raise MalformedError("modulus or exponent of the RSA key is not positive")


def _ec_key(parameters: bytes, octets: bytes) -> None:
    if parameters[:1] == bytes((SEQUENCE,)):
        raise MalformedError("the parameters of the EC key are explicit, and name no curve")
    oid = Reader(parameters).object_identifier("malformed parameters of the EC key")
    curve = _CURVES.get(oid)
    if curve is None:
        raise MalformedError(f"the EC key is on a curve that is not supported, {oid}")
    if octets[:1] != b"\x04":
        raise MalformedError("the EC key is not an uncompressed point")
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(curve(), octets)
    except ValueError as error:
        raise MalformedError("the EC key is not a point of its curve") from error


def _ed25519_key(parameters: bytes, octets: bytes) -> None:
    if parameters or len(octets) != 32:
        raise MalformedError("malformed Ed25519 key")


def _unjudged(part: str, *_: bytes) -> NoReturn:
    raise UnjudgedError(part)


_KEY_READERS: dict[str, Callable[[bytes, bytes], None]] = {
    "1.2.840.10040.4.1": functools.partial(_unjudged, "a DSA key"),
    RSA_KEY: _rsa_key,
    EC_KEY: _ec_key,
    ED25519: _ed25519_key,
}


def _extensions(tbs: Reader) -> Iterator[RawExtension]:
    content = tbs.optional(_EXTENSIONS, "malformed extensions")
    if content is None:
        return
    extensions = Reader(content, "malformed extensions").inside(SEQUENCE)
    while extensions:
        element = extensions.element(SEQUENCE, "malformed extension")
        oid, critical, value = read_extension(Reader(element, "malformed extension").inside(SEQUENCE))
        yield RawExtension(oid=oid, critical=critical, value=value, element=element)


def read_extension(fields: Reader) -> tuple[str, bool, bytes]:
    """Return the OID, the critical flag and the value of the content of an Extension."""
    oid = fields.object_identifier("malformed OID of an extension")
    critical = fields.at(BOOLEAN) and fields.boolean(f"malformed critical field of extension {oid}")
    return oid, critical, fields.content(OCTET_STRING, f"malformed value of extension {oid}")


# -- single extensions -----------------------------------------------------------------------


def key_usage(value: bytes) -> frozenset[int]:
    """Return the numbers of the set bits."""
    octets, unused = Reader(value, "malformed keyUsage").bit_string()
    bits = range(len(octets) * 8 - unused)
    return frozenset(bit for bit in bits if octets[bit // 8] & 0x80 >> bit % 8)


def basic_constraints(value: bytes) -> tuple[bool, int | None]:
    """Return the cA flag and the path length."""
    fields = Reader(value, "malformed basicConstraints").inside(SEQUENCE)
    is_ca = fields.at(BOOLEAN) and fields.boolean()
    length = fields.integer(bits=64) if fields.at(INTEGER) else None
    if length is not None and length < 0:
        raise MalformedError(fields.what)
    return is_ca, length


def extended_key_usage(value: bytes) -> tuple[str, ...]:
    """Return the purposes as dotted OIDs."""
    purposes = Reader(value, "malformed extendedKeyUsage").inside(SEQUENCE)
    oids: list[str] = []
    while purposes:
        oids.append(purposes.object_identifier())
    return tuple(oids)


def authority_key_identifier(value: bytes) -> bytes | None:
    """Return the keyIdentifier."""
    return Reader(value, "malformed authorityKeyIdentifier").inside(SEQUENCE).optional(_FIELD[0])


def subject_key_identifier(value: bytes) -> bytes:
    """Return the key identifier."""
    return Reader(value).content(OCTET_STRING, "malformed subjectKeyIdentifier")


def general_names(value: bytes) -> Names:
    """Return each GeneralName of a subjectAltName, without parsing the names."""
    names = Reader(value, "malformed subjectAltName").inside(SEQUENCE)
    return tuple(name[:2] for name in names.elements())


def _subject_alt_name(value: bytes) -> None:
    for tag, content in general_names(value):
        if tag == URI and content.isascii() and not _USUAL_URI.match(content):
            raise UnjudgedError(f"the unusual URI {_shown(content)}")
        if tag in (EMAIL, DNS, URI) and not content.isascii():
            raise MalformedError(
                f"a name of the subjectAltName has octets that are not ASCII: {_shown(content)}"
            )
        if tag == IP and len(content) not in _ADDRESS_LENGTHS:
            raise MalformedError(f"an address of the subjectAltName has {len(content)} octets")


def name_constraints(value: bytes) -> tuple[Names, Names]:
    """Return the permitted and the excluded subtrees, including those of types that Go does not read."""
    outer = Reader(value, "malformed nameConstraints")
    fields = outer.inside(SEQUENCE)
    permitted, excluded = (fields.optional(_NESTED[number]) for number in range(2))
    if outer or fields or not (permitted or excluded):
        raise MalformedError(f"{outer.what}, or there is nothing in it")
    return _subtrees(Reader(permitted or b"", outer.what)), _subtrees(Reader(excluded or b"", outer.what))


def _subtrees(subtrees: Reader) -> Names:
    names = [subtree.any_element()[:2] for subtree in subtrees.sequences()]
    for tag, name in names:
        _constraint(tag, name)
    return tuple(names)


def _constraint(tag: int, content: bytes) -> None:
    problem = MalformedError(f"a name of nameConstraints cannot be parsed: {_shown(content)}")
    if tag in (EMAIL, DNS, URI):
        if not content.isascii():
            raise problem
        if tag != DNS:
            raise UnjudgedError("name constraints on mailboxes or URIs")
        if not is_domain(content.decode(), constraint=True):
            raise problem
    elif tag == IP:
        half = len(content) // 2
        if len(content) % 2 or half not in _ADDRESS_LENGTHS:
            raise MalformedError(
                f"an address of nameConstraints has {len(content)} octets: address and mask have 8 or 32"
            )
        if "01" in f"{int.from_bytes(content[half:], 'big'):0{half * 8}b}":
            raise MalformedError(
                f"the mask of an address of nameConstraints is invalid: {content[half:].hex()}"
            )


def is_domain(text: str, *, constraint: bool = False) -> bool:
    """Return whether Go's domainNameValid accepts it, which checks no more than this."""
    labels = (text.removeprefix(".") if constraint else text).split(".")
    return not text or all(re.fullmatch(r"[!-~]+", label) for label in labels)


def policies(value: bytes) -> tuple[bytes, ...]:
    """Return the encoded OIDs, without tag and length."""
    message = "malformed certificatePolicies"
    sequences = Reader(value, message).inside(SEQUENCE).sequences()
    oids = tuple(policy.content(OBJECT_IDENTIFIER) for policy in sequences)
    for oid in oids:
        dotted(oid, message, largest=1 << 8 * len(oid))
    if len(set(oids)) < len(oids):
        raise MalformedError("a policy occurs twice in certificatePolicies")
    return oids


def _distribution_points(value: bytes) -> None:
    for point in Reader(value, "malformed cRLDistributionPoints").inside(SEQUENCE).sequences():
        if point.at(_NESTED[0]):
            full_name = point.inside(_NESTED[0]).inside(_NESTED[0])
            while full_name.at(URI):
                full_name.content(URI)


def _information_access(value: bytes) -> None:
    for description in Reader(value, "malformed authorityInfoAccess").inside(SEQUENCE).sequences():
        description.object_identifier()
        description.optional(URI)


_NEVER_CRITICAL = {
    SUBJECT_KEY_IDENTIFIER: "subjectKeyIdentifier",
    AUTHORITY_KEY_IDENTIFIER: "authorityKeyIdentifier",
    "1.3.6.1.5.5.7.1.1": "authorityInfoAccess",
}
"""Extensions that Go refuses if critical, as RFC 5280 requires. Go accepts others that RFC 5280 forbids."""

READERS: dict[str, Callable[[bytes], object]] = {
    SUBJECT_KEY_IDENTIFIER: subject_key_identifier,
    KEY_USAGE: key_usage,
    SUBJECT_ALT_NAME: _subject_alt_name,
    BASIC_CONSTRAINTS: basic_constraints,
    NAME_CONSTRAINTS: name_constraints,
    "2.5.29.31": _distribution_points,
    POLICIES: policies,
    "2.5.29.33": functools.partial(_unjudged, "the extension policyMappings"),
    AUTHORITY_KEY_IDENTIFIER: authority_key_identifier,
    "2.5.29.36": functools.partial(_unjudged, "the extension policyConstraints"),
    EXTENDED_KEY_USAGE: extended_key_usage,
    "2.5.29.54": functools.partial(_unjudged, "the extension inhibitAnyPolicy"),
    "1.3.6.1.5.5.7.1.1": _information_access,
}
"""The extensions that Go handles, by OID: each function raises if Go does not parse the value, or if that is
not judged."""


# -- the fields of one certificate --------------------------------------------------------------

_TEXTS = {EMAIL: "email", DNS: "DNS", URI: "URI"}
_OTHER_NAMES = {0xA0: "OtherName", 0xA4: "DirectoryName", 0x88: "RegisteredID"}


class Details(Struct, frozen=True, kw_only=True):
    """The fields of a certificate, as Go reads them. An extension that does not parse is left out.

    Attributes:
        subject: the whole Name in DER, which Go compares.
        key: the whole SubjectPublicKeyInfo in DER.
        signature_algorithm: the AlgorithmIdentifier, without tag and length.
        extensions: by OID, in order; also those that do not parse.
        is_ca: the cA flag of basicConstraints; ``None`` without the extension.
        key_usage: numbers of the set bits; ``None`` without the extension.
        purposes: of the extendedKeyUsage, as dotted OIDs; ``None`` without the extension.
        names: tag and content of each GeneralName of the subjectAltName.
        unhandled: OIDs of the critical extensions that Go does not handle; none is allowed on a path.
    """

    version: int
    serial_number: int
    subject: bytes
    issuer: bytes
    key: bytes
    signature_algorithm: bytes
    extensions: dict[str, RawExtension]
    is_ca: bool | None
    path_length: int | None
    key_usage: frozenset[int] | None
    purposes: tuple[str, ...] | None
    names: Names
    permitted: Names
    excluded: Names
    subject_key: bytes
    authority_key: bytes
    unhandled: tuple[str, ...]

    def texts(self, tag: int) -> list[str]:
        """Return the names of a type whose content is text."""
        return [content.decode("latin-1") for kind, content in self.names if kind == tag]

    def alternative_names(self) -> Iterator[tuple[str, str | None]]:
        """Yield type and text of each name that is well-formed; ``None`` for the text of some types."""
        for tag, content in self.names:
            if tag == IP and len(content) in _ADDRESS_LENGTHS:
                yield "IP", str(ipaddress.ip_address(content))
            elif tag in _TEXTS and content.isascii():
                yield _TEXTS[tag], content.decode()
            elif tag in _OTHER_NAMES:
                yield _OTHER_NAMES[tag], None


@functools.lru_cache(maxsize=4096)
def details(certificate: x509.Certificate) -> Details:
    """Return the fields of a certificate."""
    tbs = Reader(certificate.public_bytes(Encoding.DER)).inside(SEQUENCE).inside(SEQUENCE)
    version = _version(tbs)
    serial_number = int.from_bytes(tbs.content(INTEGER), "big", signed=True)
    algorithm, issuer = tbs.content(SEQUENCE), tbs.element(SEQUENCE)
    tbs.any_element()  # validity
    subject, key = tbs.element(SEQUENCE), tbs.element(SEQUENCE)
    extensions: dict[str, RawExtension] = {}
    # Go ignores the extensions of a certificate that is not version 3.
    with contextlib.suppress(MalformedError):
        while tbs and not tbs.at(_EXTENSIONS):
            tbs.any_element()
        if version == VERSION_WITH_EXTENSIONS:
            extensions = {extension.oid: extension for extension in _extensions(tbs)}

    def read(oid: str, reader: Callable[[bytes], T], default: U) -> T | U:
        with contextlib.suppress(MalformedError):
            return reader(extensions[oid].value) if oid in extensions else default
        return default

    is_ca, path_length = read(BASIC_CONSTRAINTS, basic_constraints, (None, None))
    names = read(SUBJECT_ALT_NAME, general_names, ())
    permitted, excluded = read(NAME_CONSTRAINTS, name_constraints, ((), ()))

    def is_handled(extension: RawExtension) -> bool:
        if extension.oid == SUBJECT_ALT_NAME:
            return any(tag in _READ for tag, _ in names)
        if extension.oid == NAME_CONSTRAINTS:
            return all(tag in _READ for tag, _ in (*permitted, *excluded))
        return extension.oid in READERS

    return Details(
        version=version,
        serial_number=serial_number,
        subject=subject,
        issuer=issuer,
        key=key,
        signature_algorithm=algorithm,
        extensions=extensions,
        is_ca=is_ca,
        path_length=path_length,
        key_usage=read(KEY_USAGE, key_usage, None),
        purposes=read(EXTENDED_KEY_USAGE, extended_key_usage, None),
        names=names,
        permitted=permitted,
        excluded=excluded,
        subject_key=read(SUBJECT_KEY_IDENTIFIER, subject_key_identifier, b""),
        authority_key=read(AUTHORITY_KEY_IDENTIFIER, authority_key_identifier, None) or b"",
        unhandled=tuple(
            extension.oid
            for extension in extensions.values()
            if extension.critical and not is_handled(extension)
        ),
    )
