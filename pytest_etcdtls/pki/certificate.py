"""Reads the contents of a certificate, without errors or warnings for an unusual one."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any, Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pytest_etcdtls.pki import go_parser
from pytest_etcdtls.pki.go_parser import SEQUENCE, MalformedError, RawExtension, children, encode
from pytest_etcdtls.pki.profile import KEY_USAGES
from pytest_etcdtls.thresholds import RSA_BITS_OF_THE_CHECKS, Thresholds
from pytest_etcdtls.untrusted import listed, printable

RSA_MOST_BITS: Final = 8192
"""The maximum RSA key size that Go's TLS accepts from a peer, in bits (crypto/tls, since Go 1.20.7)."""

_RSA_LARGEST_EXPONENT: Final = 2**31 - 1
"""The maximum public exponent in Go's crypto/rsa."""

_CURVES: Final = frozenset({"secp256r1", "secp384r1", "secp521r1"})

STRONG: Final = "RSA of 2048 to 8192 bits, ECDSA on P-256, P-384 or P-521, or Ed25519"


def describe_key(key: CertificatePublicKeyTypes | None) -> str:
    """Return ``RSA 2048 bits``, ``ECDSA secp256r1`` or ``Ed25519``."""
    match key:
        case rsa.RSAPublicKey():
            return f"RSA {key.key_size} bits"
        case ec.EllipticCurvePublicKey():
            return f"ECDSA {key.curve.name}"
        case ed25519.Ed25519PublicKey():
            return "Ed25519"
    return "a key of unknown kind" if key is None else type(key).__name__.removesuffix("PublicKey")


def is_strong(key: CertificatePublicKeyTypes | None) -> bool:
    """Return whether the key is one of :data:`STRONG`."""
    match key:
        case rsa.RSAPublicKey():
            return RSA_BITS_OF_THE_CHECKS <= key.key_size <= RSA_MOST_BITS and _fits_go(key)
        case ec.EllipticCurvePublicKey():
            return key.curve.name in _CURVES
        case ed25519.Ed25519PublicKey():
            return True
    return False


def is_strong_issuer(key: CertificatePublicKeyTypes | None) -> bool:
    """Return whether the key is strong enough for a CA, whose key types TLS does not limit."""
    match key:
        case rsa.RSAPublicKey():
            return key.key_size >= RSA_BITS_OF_THE_CHECKS and _fits_go(key)
        case ec.EllipticCurvePublicKey():
            # Go's x509 also verifies P-224, which is no weaker than RSA 2048.
            return key.curve.name in _CURVES | {"secp224r1"}
    return is_strong(key)


def is_allowed(key: CertificatePublicKeyTypes | None, thresholds: Thresholds) -> bool:
    """Return whether the profiles allow a key of that kind and size."""
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < (thresholds.rsa_bits or 0):
        return False
    return thresholds.keys is None or describe_key(key).removeprefix("ECDSA ").split()[0] in thresholds.keys


def allowed_keys(thresholds: Thresholds) -> str:
    """Return in words which keys the profiles allow, and which sections say so."""
    said = []
    if thresholds.keys is not None:
        said.append(f"{', '.join(sorted(thresholds.keys))}{thresholds.source('keys')}")
    if thresholds.rsa_bits is not None:
        said.append(f"RSA of at least {thresholds.rsa_bits} bits{thresholds.source('rsa_bits')}")
    return "; ".join(said) or STRONG


def _fits_go(key: rsa.RSAPublicKey) -> bool:
    return key.public_numbers().e <= _RSA_LARGEST_EXPONENT


def is_too_long(key: CertificatePublicKeyTypes | None) -> bool:
    """Return whether Go's TLS refuses a server that sends a certificate with this key, on the path or not."""
    return isinstance(key, rsa.RSAPublicKey) and key.key_size > RSA_MOST_BITS


Extension = TypeVar("Extension", bound=x509.ExtensionType)

_PURPOSES = {
    ExtendedKeyUsageOID.SERVER_AUTH: "serverAuth",
    ExtendedKeyUsageOID.CLIENT_AUTH: "clientAuth",
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE: "anyExtendedKeyUsage",
}


_UNPARSABLE = (
    ValueError,
    TypeError,
    KeyError,  # cryptography 49: an unknown type of string in a name
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""The errors that the cryptography library raises for malformed data."""


def load(der: bytes) -> x509.Certificate:
    """Return the certificate. Its names and times are parsed once, so that reading them later does not fail.

    Extensions and the key are not parsed: use :func:`extension` and :func:`public_key`.

    Raises:
        ValueError: if the certificate, a name or a time cannot be parsed.
    """
    try:
        with warnings.catch_warnings():
            # The library warns of non-positive serial numbers and of odd country codes; checks judge those.
            warnings.simplefilter("ignore")
            certificate = x509.load_der_x509_certificate(der)
            _ = certificate.subject, certificate.issuer, certificate.version
            _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except _UNPARSABLE as error:
        raise ValueError(go_parser.parse_error(der) or str(error)) from error
    return certificate


def serial_number(certificate: x509.Certificate) -> int:
    """Return the serial number, including one that RFC 5280 forbids."""
    tbs, *_ = children(certificate.public_bytes(Encoding.DER))
    # TBSCertificate: [0] version, absent in version 1, then serialNumber (RFC 5280 section 4.1).
    fields = children(tbs)
    element = fields[1] if certificate.version is x509.Version.v3 else fields[0]
    return int.from_bytes(element[2:], "big", signed=True)


def extension(certificate: x509.Certificate, kind: type[Extension]) -> Extension | None:
    """Return the value of an extension, ``None`` if it is absent or Go cannot read it.

    For a subjectAltName, the names that can be parsed are returned.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a serial number in the authorityKeyIdentifier
            return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
    except _UNPARSABLE:
        pass
    raw = next((found for found in raw_extensions(certificate) if found.oid == kind.oid.dotted_string), None)
    if raw is None:
        return None
    value: x509.ExtensionType | None
    try:
        value = _alone(certificate, raw.element)
    except _UNPARSABLE:
        value = _as_go_reads(certificate, raw)
    return value if isinstance(value, kind) else None


@functools.lru_cache(maxsize=1024)
def raw_extensions(certificate: x509.Certificate) -> tuple[RawExtension, ...]:
    """Return all extensions in order, including those that cannot be parsed."""
    try:
        return go_parser.raw_extensions(certificate.public_bytes(Encoding.DER))
    except MalformedError:
        return ()


def unparsable(certificate: x509.Certificate) -> Iterator[tuple[str, str]]:
    """Yield each part that the cryptography library cannot parse, with the library's error."""
    for raw in raw_extensions(certificate):
        try:
            _alone(certificate, raw.element)
        except _UNPARSABLE as error:
            yield f"extension {_NAMES.get(raw.oid, raw.oid)}", str(error)
    try:
        certificate.public_key()
    except _UNPARSABLE as error:
        yield "public key", str(error)


_NAMES = {
    "1.3.6.1.5.5.7.1.1": "authorityInfoAccess",
    "1.3.6.1.5.5.7.1.24": "TLS feature",
    "1.3.6.1.4.1.11129.2.4.2": "SCT list",
    "2.5.29.9": "subjectDirectoryAttributes",
    "2.5.29.14": "subjectKeyIdentifier",
    "2.5.29.15": "keyUsage",
    "2.5.29.16": "privateKeyUsagePeriod",
    "2.5.29.17": "subjectAltName",
    "2.5.29.18": "issuerAltName",
    "2.5.29.19": "basicConstraints",
    "2.5.29.30": "nameConstraints",
    "2.5.29.31": "cRLDistributionPoints",
    "2.5.29.32": "certificatePolicies",
    "2.5.29.33": "policyMappings",
    "2.5.29.35": "authorityKeyIdentifier",
    "2.5.29.36": "policyConstraints",
    "2.5.29.37": "extendedKeyUsage",
    "2.5.29.46": "freshestCRL",
    "2.5.29.54": "inhibitAnyPolicy",
}
"""Names of certificate extensions by OID, from RFC 5280 and others."""


def _alone(certificate: x509.Certificate, extension_: bytes) -> x509.ExtensionType:
    """Return the extension as the cryptography library parses it in a certificate without any other."""
    tbs, algorithm, signature = children(certificate.public_bytes(Encoding.DER))
    fields = [field for field in children(tbs) if field[:1] != b"\xa3"]
    fields.append(encode(0xA3, encode(SEQUENCE, extension_)))
    tbs = encode(SEQUENCE, b"".join(fields))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = x509.load_der_x509_certificate(encode(SEQUENCE, tbs + algorithm + signature))
        value: x509.ExtensionType = next(iter(alone.extensions)).value
        return value


def _as_go_reads(certificate: x509.Certificate, raw: RawExtension) -> x509.ExtensionType | None:
    """Return an extension that the library cannot parse, ``None`` if Go cannot either."""
    try:
        if raw.oid == x509.SubjectAlternativeName.oid.dotted_string:
            return x509.SubjectAlternativeName(list(_parsable_names(certificate, raw)))
        build = _BY_GO.get(raw.oid)
        return build(raw.value) if build else None
    except _UNPARSABLE:
        return None


def _parsable_names(certificate: x509.Certificate, raw: RawExtension) -> Iterator[x509.GeneralName]:
    for _, _, element in go_parser.general_names(raw.value):
        # Extension: OID, OCTET STRING of GeneralNames, here with a single one.
        oid, *_ = children(raw.element)
        single = encode(SEQUENCE, oid + encode(0x04, encode(SEQUENCE, element)))
        try:
            value = _alone(certificate, single)
        except _UNPARSABLE:
            continue
        assert isinstance(value, x509.SubjectAlternativeName)  # noqa: S101 - by its OID
        yield from value


def _basic_constraints(value: bytes) -> x509.BasicConstraints:
    is_ca, length = go_parser.basic_constraints(value)
    return x509.BasicConstraints(is_ca, length if is_ca else None)


def _key_usage(value: bytes) -> x509.KeyUsage:
    set_bits = go_parser.key_usage(value)
    fields = {field: number in set_bits for number, field in enumerate(KEY_USAGES.values())}
    if not fields["key_agreement"]:
        # These two bits have no meaning then, and the library rejects them.
        fields |= {"encipher_only": False, "decipher_only": False}
    return x509.KeyUsage(**fields)


_BY_GO: dict[str, Callable[[bytes], Any]] = {
    x509.BasicConstraints.oid.dotted_string: _basic_constraints,
    x509.KeyUsage.oid.dotted_string: _key_usage,
    x509.ExtendedKeyUsage.oid.dotted_string: lambda value: x509.ExtendedKeyUsage(
        [x509.ObjectIdentifier(oid) for oid in go_parser.extended_key_usage(value)]
    ),
    x509.SubjectKeyIdentifier.oid.dotted_string: lambda value: x509.SubjectKeyIdentifier(
        go_parser.subject_key_identifier(value)
    ),
    x509.AuthorityKeyIdentifier.oid.dotted_string: lambda value: x509.AuthorityKeyIdentifier(
        go_parser.authority_key_identifier(value), None, None
    ),
}
"""Constructors of the extensions that checks read, from the values that Go reads."""


def key_usages(certificate: x509.Certificate) -> frozenset[str] | None:
    """Return the key usage bits by their RFC 5280 names; ``None`` without the extension."""
    usage = extension(certificate, x509.KeyUsage)
    if usage is None:
        return None
    # Without keyAgreement these two bits have no meaning, and reading them raises (RFC 5280 section 4.2.1.3).
    undefined = set() if usage.key_agreement else {"encipherOnly", "decipherOnly"}
    return frozenset(
        name for name, field in KEY_USAGES.items() if name not in undefined and getattr(usage, field)
    )


def purposes(certificate: x509.Certificate) -> tuple[str, ...] | None:
    """Return the extended key usages, unknown ones as dotted OIDs; ``None`` without the extension."""
    usages = extension(certificate, x509.ExtendedKeyUsage)
    if usages is None:
        return None
    return tuple(_PURPOSES.get(oid, oid.dotted_string) for oid in usages)


def is_for(certificate: x509.Certificate, purpose: str) -> bool:
    """Return whether the extended key usage allows the purpose or any purpose, or is absent (Go's x509)."""
    named = purposes(certificate)
    return named is None or purpose in named or "anyExtendedKeyUsage" in named


def public_key(certificate: x509.Certificate) -> CertificatePublicKeyTypes | None:
    """Return the public key; ``None`` if the cryptography library does not support or cannot parse it."""
    try:
        return certificate.public_key()
    except _UNPARSABLE:
        return None


def key_problem(certificate: x509.Certificate) -> str:
    """Return why Go does not parse the public key; empty if it does, or ignores keys of this type."""
    tbs, *_ = children(certificate.public_bytes(Encoding.DER))
    # TBSCertificate: version, serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo.
    return go_parser.key_error(children(tbs)[6 if certificate.version is x509.Version.v3 else 5])


def signature_hash(certificate: x509.Certificate) -> str | None:
    """Return the hash of the signature, such as ``sha256``; ``None`` for Ed25519, which has none.

    An algorithm that the cryptography library does not support is returned as its OID.
    """
    try:
        algorithm = certificate.signature_hash_algorithm
    except _UNPARSABLE:
        return certificate.signature_algorithm_oid.dotted_string
    return algorithm.name if algorithm is not None else None


def span(time: timedelta) -> str:
    """Return a positive duration as text: hours below two days, else whole days."""
    hours = time // timedelta(hours=1)
    if hours < 1:
        return "less than an hour"
    number, unit = (hours, "hour") if hours < 48 else (time.days, "day")
    return f"{number} {unit}{'' if number == 1 else 's'}"


def name_text(name: x509.Name) -> str:
    """Return a distinguished name in RFC 4514 format, printable and bounded; empty for an empty name.

    For people: names are compared by their values.
    """
    return printable(name.rfc4514_string(), _LONGEST_NAME)


def name_list(names: Iterable[x509.Name]) -> str:
    """Return distinguished names for people, sorted, at most 20 of them; empty without one."""
    return listed(sorted(map(name_text, names)), ", ")


def shown(certificate: x509.Certificate) -> str:
    """Return the subject as text for reports."""
    return name_text(certificate.subject) or "(empty subject)"


_LONGEST_NAME: Final = 512

_SUBJECT: Final = [(NameOID.ORGANIZATION_NAME, "etcd")]
"""The subject that ``SelfCert`` in etcd's client/pkg/transport sets: O, without CN."""


def is_generated(certificate: x509.Certificate) -> bool:
    """Return whether etcd generated the certificate: issuer and subject are O=etcd only.

    Other fields differ by version: since 3.6 the certificate is a CA and has a subjectKeyIdentifier.
    """
    return all(
        [(attribute.oid, attribute.value) for attribute in name] == _SUBJECT
        for name in (certificate.subject, certificate.issuer)
    )
