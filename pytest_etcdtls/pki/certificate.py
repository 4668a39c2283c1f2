"""Reads certificates and keys from files, and the contents of a certificate.

The caller passes the option that named the file, and each problem is one message for the user. An unusual
certificate is read without errors or warnings.

The cryptography library parses all extensions at once and refuses them all for one malformed value. Checks
report the malformed one and still judge the others. So extensions are parsed by Go's rules (``go_parser``),
because Go decides what etcd and its clients see there.

Files are read in two ways. What a user gives is read leniently, with advice for each mistake. What etcd reads
at its start is read as etcd does it (:func:`read_pool`), because there a mistake has a meaning of its own.
"""

from __future__ import annotations

import base64
import contextlib
import math
import re
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID
from msgspec import Struct

from pytest_etcdtls.errors import UnreadableFileError, UsageError
from pytest_etcdtls.pki import go_parser
from pytest_etcdtls.pki.go_parser import (
    OCTET_STRING,
    SEQUENCE,
    MalformedError,
    Reader,
    children,
    details,
    encode,
)
from pytest_etcdtls.pki.go_pem import decode
from pytest_etcdtls.pki.profile import KEY_USAGES, Identity, PrivateKey
from pytest_etcdtls.pki.thresholds import RSA_BITS_OF_THE_CHECKS, Thresholds
from pytest_etcdtls.untrusted.printable import LINE_LIMIT, file_word, listed, pasted, plural, printable
from pytest_etcdtls.untrusted.regular_files import read_regular

RSA_MOST_BITS: Final = 8192
"""The maximum RSA key size that Go's TLS accepts from a peer, in bits (crypto/tls, since Go 1.20.7)."""

LARGEST_RSA_EXPONENT: Final = 2**31 - 1
"""The maximum public exponent in Go's crypto/rsa."""

_CURVES: Final = frozenset({"secp256r1", "secp384r1", "secp521r1"})

STRONG: Final = "RSA of 2048 to 8192 bits, ECDSA on P-256, P-384 or P-521, or Ed25519"

_PURPOSES = {
    "1.3.6.1.5.5.7.3.1": "serverAuth",
    "1.3.6.1.5.5.7.3.2": "clientAuth",
    "2.5.29.37.0": "anyExtendedKeyUsage",
}

_FILTERS = threading.Lock()
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

_SUBJECT: Final = [(NameOID.ORGANIZATION_NAME, "etcd")]
"""The subject that ``SelfCert`` in etcd's client/pkg/transport sets: O, without CN."""

CERTIFICATE_LABELS: Final = frozenset({"CERTIFICATE", "X509 CERTIFICATE"})
KEY_LABELS: Final = frozenset({"PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY", "DSA PRIVATE KEY"})
ENCRYPTED_LABEL: Final = "ENCRYPTED PRIVATE KEY"

_BOUNDARY = re.compile(rb"-----(BEGIN|END) ([A-Z0-9 ]{1,40})-----")

MAXIMUM_SIZE: Final = 16 * 1024 * 1024
"""The maximum size of a file, in octets. A system's trust store takes less than one mebibyte."""

MOST_ITERATIONS: Final = 5_000_000
"""Of PBKDF2 and other derivations that repeat a hash: some seconds for a passphrase. OpenSSL writes 2048."""
MOST_SCRYPT: Final = 2 * 1024 * 1024
"""The product of N, r and p, of scrypt (RFC 7914): 256 MiB. OpenSSL decrypts no key of more than 32 MiB."""

RSA_LONGEST: Final = 16384
"""Bits of an RSA key, as in OpenSSL. To check the numbers of one of 131,072 bits takes half an hour."""

_PBES2: Final = "1.2.840.113549.1.5.13"
_SCRYPT: Final = "1.3.6.1.4.1.11591.4.11"


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of the certificate's DER, in lower-case hexadecimal."""
    return certificate.fingerprint(SHA256()).hex()


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
    """Return which keys the profiles allow, with the sections that require it, as text."""
    rules = []
    if thresholds.keys is not None:
        rules.append(f"{', '.join(sorted(thresholds.keys))}{thresholds.source('keys')}")
    if thresholds.rsa_bits is not None:
        rules.append(f"RSA of at least {thresholds.rsa_bits} bits{thresholds.source('rsa_bits')}")
    return "; ".join(rules) or STRONG


def _fits_go(key: rsa.RSAPublicKey) -> bool:
    return key.public_numbers().e <= LARGEST_RSA_EXPONENT


def is_too_long(key: CertificatePublicKeyTypes | None) -> bool:
    """Return whether Go's TLS refuses a server that sends a certificate with this key, on the path or not."""
    return isinstance(key, rsa.RSAPublicKey) and key.key_size > RSA_MOST_BITS


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Read what the library warns of, which checks judge: a negative serial number, a long country code.

    The filters of warnings belong to the process, so that one thread at a time changes them.
    """
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def load(der: bytes) -> x509.Certificate:
    """Return the certificate. Its names and times are parsed once, so that reading them later does not fail.

    Extensions and the key are not parsed: use :func:`go_parser.details` and :func:`public_key`.

    Raises:
        ValueError: if the certificate, a name or a time cannot be parsed.
    """
    try:
        with _without_warnings():
            certificate = x509.load_der_x509_certificate(der)
            _ = certificate.subject, certificate.issuer, certificate.version
            _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except _UNPARSABLE as error:
        raise ValueError(go_parser.parse_error(der) or str(error)) from error
    return certificate


def unparsable(certificate: x509.Certificate) -> Iterator[tuple[str, str]]:
    """Yield each part that the cryptography library cannot parse, with the library's error."""
    tbs, algorithm, signature = children(certificate.public_bytes(Encoding.DER))
    fields = b"".join(field for field in children(tbs) if field[:1] != b"\xa3")
    for raw in details(certificate).extensions.values():
        alone = encode(SEQUENCE, fields + encode(0xA3, encode(SEQUENCE, raw.element)))
        try:
            with _without_warnings():
                _ = x509.load_der_x509_certificate(encode(SEQUENCE, alone + algorithm + signature)).extensions
        except _UNPARSABLE as error:
            yield f"extension {_NAMES.get(raw.oid, raw.oid)}", str(error)
    try:
        certificate.public_key()
    except _UNPARSABLE as error:
        yield "public key", str(error)


def extension_name(oid: str) -> str:
    """Return the name of an extension with its OID; the OID alone of one without a name."""
    return f"{_NAMES[oid]} ({oid})" if oid in _NAMES else oid


def key_usages(certificate: x509.Certificate) -> frozenset[str] | None:
    """Return the key usage bits by their RFC 5280 names; ``None`` without the extension."""
    bits = details(certificate).key_usage
    if bits is None:
        return None
    names = frozenset(name for number, name in enumerate(KEY_USAGES) if number in bits)
    # Without keyAgreement these two bits have no meaning (RFC 5280 section 4.2.1.3).
    return names if "keyAgreement" in names else names - {"encipherOnly", "decipherOnly"}


def purposes(certificate: x509.Certificate) -> tuple[str, ...] | None:
    """Return the extended key usages, unknown ones as dotted OIDs; ``None`` without the extension."""
    named = details(certificate).purposes
    return None if named is None else tuple(_PURPOSES.get(oid, oid) for oid in named)


def public_key(certificate: x509.Certificate) -> CertificatePublicKeyTypes | None:
    """Return the public key; ``None`` if the cryptography library does not support or cannot parse it."""
    try:
        return certificate.public_key()
    except _UNPARSABLE:
        return None


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
    return plural(number, unit)


def read_name(der: bytes) -> x509.Name:
    """Return a distinguished name.

    Where Go and OpenSSL accept its strings and the cryptography library does not (T61String with umlauts),
    it has its DER as x500UniqueIdentifier.
    """
    try:
        with _without_warnings():
            return x509.Name.from_bytes(der)
    except _UNPARSABLE:
        attribute = encode(SEQUENCE, bytes.fromhex("060355042d") + encode(0x03, b"\0" + der))
        return x509.Name.from_bytes(encode(SEQUENCE, encode(0x31, attribute)))


def name_text(name: x509.Name) -> str:
    """Return a distinguished name in RFC 4514 format, printable and bounded; empty for an empty name.

    For people: names are compared by their values.
    """
    return printable(name.rfc4514_string(), LINE_LIMIT)


def name_list(names: Iterable[x509.Name]) -> str:
    """Return distinguished names as text, sorted, at most 20 of them; empty without one.

    A name of several certificates is shown once, with their number.
    """
    return listed(name_texts(names), ", ")


def name_texts(names: Iterable[x509.Name]) -> list[str]:
    """Return the texts of distinguished names, sorted, as :func:`name_list` joins them."""
    counted = sorted(Counter(map(name_text, names)).items())
    return [name if times == 1 else f"{name} ({times} certificates)" for name, times in counted]


def shown(certificate: x509.Certificate) -> str:
    """Return the subject as text for reports."""
    return name_text(certificate.subject) or "(empty subject)"


def is_generated(certificate: x509.Certificate) -> bool:
    """Return whether etcd generated the certificate: issuer and subject are O=etcd only.

    Other fields differ by version: since 3.6 the certificate is a CA and has a subjectKeyIdentifier.
    """
    return all(
        [(attribute.oid, attribute.value) for attribute in name] == _SUBJECT
        for name in (certificate.subject, certificate.issuer)
    )


class Block(Struct, frozen=True):
    """One PEM block.

    Attributes:
        label: the label in its BEGIN line.
        data: the block from its BEGIN line to its END line; ``None`` if it has no END line.
    """

    label: str
    data: bytes | None

    @property
    def encrypted(self) -> bool:
        """Whether it is an encrypted key, by its label or by the headers of RFC 1421."""
        return self.label == ENCRYPTED_LABEL or b"ENCRYPTED" in (self.data or b"")[:200]


def pem_blocks(text: bytes) -> tuple[Block, ...]:
    """Return all blocks in order; empty if the data is not PEM. Takes time linear in the size."""
    blocks: list[Block] = []
    begun: re.Match[bytes] | None = None
    for line in _BOUNDARY.finditer(text):
        if line[1] == b"BEGIN":
            if begun is not None:
                blocks.append(Block(begun[2].decode(), None))
            begun = line
        elif begun is not None and begun[2] == line[2]:
            blocks.append(Block(begun[2].decode(), text[begun.start() : line.end()]))
            begun = None
    if begun is not None:
        blocks.append(Block(begun[2].decode(), None))
    return tuple(blocks)


@dataclass(frozen=True, slots=True)
class HeldFile:
    """A file that is in memory alone, such as a value of a Secret.

    Attributes:
        name: its name.
        holder: what it is a part of.
        data: its content, which may be a key.
    """

    name: str
    holder: str
    data: bytes = field(repr=False)

    def __str__(self) -> str:
        return self.name

    @property
    def origin(self) -> str:
        """Where it is from, for reports."""
        return f"{self.holder} {self.name}"


AnyFile: TypeAlias = Path | HeldFile


def credential_error(option: str, path: AnyFile, happened: str, advice: str) -> UsageError:
    """Return an error with the option, the file, the problem and the remedy."""
    return UsageError(f"{option} {path}: {happened}; {advice}")


def read_file(path: AnyFile, option: str) -> bytes:
    """Return the contents of the file.

    Raises:
        UsageError: if it cannot be read, is not a regular file, is empty, or is larger than
            :data:`MAXIMUM_SIZE`.
    """
    try:
        data = path.data if isinstance(path, HeldFile) else read_regular(path, MAXIMUM_SIZE)
    except UnreadableFileError as error:
        raise credential_error(option, path, error.happened, error.advice) from error
    if not data.strip():
        raise credential_error(option, path, "is empty", "check how it was made, and pass the one meant")
    return data


def load_certificates(path: AnyFile, *, option: str = "certificate file") -> tuple[x509.Certificate, ...]:
    """Return the certificates of a PEM file in order, or the certificate of a DER file.

    Args:
        path: the file. Other PEM blocks are ignored.
        option: the option that named it, or other words. The message begins with it.

    Raises:
        UsageError: if the file has no certificate, or one that cannot be parsed.
    """
    return _certificates_in(read_file(path, option), path, option)


def _certificates_in(data: bytes, path: AnyFile, option: str) -> tuple[x509.Certificate, ...]:
    blocks = pem_blocks(data)
    if not blocks:
        try:
            return (load(data),)
        except ValueError as error:
            advice = "pass a file with the line BEGIN CERTIFICATE, or a certificate in DER"
            raise credential_error(option, path, "is neither PEM nor a certificate in DER", advice) from error
    certificates = [block for block in blocks if block.label in CERTIFICATE_LABELS]
    if not certificates:
        raise credential_error(
            option, path, f"holds no certificate but {_labels(blocks)}", _certificate_advice(blocks)
        )
    return tuple(
        _certificate(path, option, block, f"certificate {number} of {len(certificates)}")
        for number, block in enumerate(certificates, 1)
    )


def load_trust(path: AnyFile, *, option: str = "CA file") -> tuple[x509.Certificate, ...]:
    """Return the certificates of a CA bundle without duplicates, as :func:`load_certificates` does.

    Raises:
        UsageError: as :func:`load_certificates`.
    """
    return tuple(dict.fromkeys(load_certificates(path, option=option)))


def load_trusted_file(path: Path, *, option: str) -> tuple[tuple[x509.Certificate, ...], str]:
    """Return the certificates that etcd has of a file of trusted CAs, and a remark if others find more there.

    etcd reads a block of any label, such as a plain certificate labelled ``TRUSTED CERTIFICATE``. The
    certificates of a file with which it does not start, or trusts nobody, are those of :func:`load_trust`.

    Raises:
        UsageError: as :func:`load_certificates`.
    """
    data = read_file(path, option)
    pool = read_pool(data)
    if pool.certificates and not pool.refused and not pool.unknown:
        return pool.certificates, pool.remark
    return tuple(dict.fromkeys(_certificates_in(data, path, option))), pool.remark


_NO_NEGATIVE_SERIAL: Final = (1, 23)
"""The first Go that refuses a negative serial number by default (GODEBUG ``x509negativeserial``)."""
_PARSER: Final = (1, 26)
"""The Go whose parser ``go_parser.parse_error`` follows."""


class CertPool(Struct, frozen=True, kw_only=True):
    """What etcd has of a file of trusted CAs, which it reads at its start.

    ``tlsutil.NewCertPool`` (client/pkg/tlsutil, in 3.4 pkg/tlsutil) parses each block of ``pem.Decode`` as a
    certificate, whatever its type and headers, and returns the first error, with which etcd does not start.
    What ``pem.Decode`` does not recognise as a block is skipped without a message. So a file in DER, or one
    with text before BEGIN on the line, makes an empty pool. That is not the system's root store: no client is
    accepted.

    Attributes:
        certificates: each once, as in Go's pool (crypto/x509, ``CertPool.addCertFunc``), in order; those that
            this client cannot parse are left out.
        refused: the first block with which etcd does not start, and why; empty if it starts.
        doubtful: the same, where it is not known whether the Go of that etcd refuses the block.
        unjudged: the first block that has what is not judged here, and what; empty for none.
        nothing: why the pool is empty; empty if Go recognises a block.
        skipped: number of certificates that OpenSSL and others find, and Go does not.
        unknown: number of certificates that etcd reads and this client cannot parse.
    """

    certificates: tuple[x509.Certificate, ...]
    refused: str = ""
    doubtful: str = ""
    unjudged: str = ""
    nothing: str = ""
    skipped: int = 0
    unknown: int = 0

    @property
    def remark(self) -> str:
        """What etcd makes of the file, if it is not what a lenient reader finds in it; else empty."""
        if self.refused:
            return f"etcd does not start with it: {self.refused}"
        if self.nothing:
            return f"it {self.nothing}: etcd, started with it, trusts no CA"
        return f"etcd skips {self.skipped} of its certificates" if self.skipped else ""


def read_pool(data: bytes, go: tuple[int, int] | None = None) -> CertPool:
    """Return what an etcd has of a file of trusted CAs.

    Args:
        data: the content of the file.
        go: the line of Go whose defaults that etcd has; ``None`` if it is not known.
    """
    certificates: dict[x509.Certificate, None] = {}
    refused = doubtful = unjudged = ""
    unknown = 0
    blocks = list(decode(data))
    for number, block in enumerate(blocks, 1):
        error = go_parser.parse_error(block.content)
        try:
            certificate = load(block.content)
        except ValueError:
            if error:
                refused = refused or f"block {number}, {block.label}, is not a certificate: {error}"
            else:
                unknown += 1
            continue
        certificates[certificate] = None
        if error:
            first = _NO_NEGATIVE_SERIAL if details(certificate).serial_number < 0 else _PARSER
            text = f"block {number}, {name_text(certificate.subject)}: {error}"
            if go is not None and go >= first:
                refused = refused or text
            elif go is None or first is _PARSER:
                doubtful = doubtful or text
        elif part := go_parser.unjudged(block.content):
            unjudged = unjudged or f"block {number}, {name_text(certificate.subject)}, has {part}"
    return CertPool(
        certificates=tuple(certificates),
        refused=refused,
        doubtful=doubtful,
        unjudged=unjudged,
        nothing="" if blocks else _why_nothing(data),
        skipped=len(_certificates_of_others(data) - {block.content for block in blocks}),
        unknown=unknown,
    )


def _certificates_of_others(data: bytes) -> set[bytes]:
    """Return the certificates that other readers find, in DER; none where each line is a comment."""
    certificates = set()
    for block in pem_blocks(data):
        if block.label in CERTIFICATE_LABELS and block.data is not None:
            with contextlib.suppress(ValueError):
                load(octets := _octets_of(block.data))
                certificates.add(octets)
    return certificates


def _why_nothing(data: bytes) -> str:
    if not data.strip():
        return "is empty"
    try:
        load(data)
    except ValueError:
        return "has no PEM block whose BEGIN and END lines stand alone"
    return "is DER, and etcd reads PEM alone"


Passphrases: TypeAlias = Callable[[AnyFile, str], Sequence[bytes]]
"""Returns the passphrases that may be those of an encrypted key file, which an option names."""


def load_key(
    path: Path,
    *,
    option: str = "key file",
    consistent: bool = True,
    passphrases: Passphrases | None = None,
) -> PrivateKey:
    """Return the private key of a PEM file: PKCS #8, or the traditional RSA and EC forms.

    Args:
        path: the file. Certificates in the same file are ignored.
        option: the option that named it, or other words. The message begins with it.
        consistent: check that the numbers of an RSA key are consistent, which takes about 50 ms.
        passphrases: of an encrypted key.

    Raises:
        UsageError: if the file has no key that TLS and etcd can use, or a key that the passphrases do not
            decrypt.
    """
    return _load_key(path, option, consistent=consistent, passphrases=passphrases)[0]


def _load_key(
    path: AnyFile, option: str, *, consistent: bool = True, passphrases: Passphrases | None = None
) -> tuple[PrivateKey, bytes | None]:
    """Return the private key of a file and the passphrase that it is encrypted with."""
    blocks = pem_blocks(read_file(path, option))
    if not blocks:
        advice = f"convert it: {_openssl('pkey', path, '-inform', 'DER', '-out', 'key.pem')}"
        raise credential_error(option, path, "is not PEM", f"if it is a DER key, {advice}")
    keys = [block for block in blocks if block.label in KEY_LABELS or block.encrypted]
    if not keys:
        advice = (
            "pass the file with the line BEGIN PRIVATE KEY, BEGIN RSA PRIVATE KEY or BEGIN EC PRIVATE KEY"
        )
        raise credential_error(option, path, f"holds no private key but {_labels(blocks)}", advice)
    if not keys[0].encrypted:
        return _private_key(path, option, keys[0], None, consistent=consistent), None
    _check_cost(path, option, keys[0])
    given = passphrases(path, option) if passphrases is not None else ()
    if not given:
        raise credential_error(
            option,
            path,
            "holds an encrypted key, and no passphrase of it is given",
            "pass --etcd-key-password-file, or set ETCDTLS_KEY_PASSWORD"
            if passphrases is not None
            else "etcd reads no encrypted key; decrypt a copy of it: "
            + _openssl("pkey", path, "-out", "key.pem"),
        )
    for passphrase in given:
        if _decrypts(keys[0], passphrase):
            return _private_key(path, option, keys[0], passphrase, consistent=consistent), passphrase
    wrong = "the passphrase is wrong" if len(given) == 1 else f"none of {len(given)} passphrases is right"
    raise credential_error(
        option,
        path,
        f"holds an encrypted key, and {wrong}",
        f"see whether it is the right one: {_openssl('pkey', path, '-noout')}",
    )


def _openssl(command: str, path: AnyFile, *options: str) -> str:
    return pasted("openssl", command, "-in", file_word(path), *options)


def _check_cost(path: AnyFile, option: str, block: Block) -> None:
    """Check that deriving the key from a passphrase takes bounded time and memory.

    The file says how much it takes (RFC 5958), and cryptography does not bound it: 2^31 iterations with SHA-1
    are half an hour. Keys in the form of RFC 1421 have no such parameters.

    Raises:
        UsageError: if it takes more, or the parameters cannot be read.
    """
    if block.label != ENCRYPTED_LABEL:
        return
    try:
        algorithm = Reader(_octets_of(block.data or b"")).inside(SEQUENCE).inside(SEQUENCE)
        oid = algorithm.object_identifier()
        if oid == _PBES2:
            algorithm = algorithm.inside(SEQUENCE).inside(SEQUENCE)
            oid = algorithm.object_identifier()
        # PBKDF2, PBES1 and PKCS #12 alike begin with salt and iterations, scrypt with salt, N, r and p.
        parameters = algorithm.inside(SEQUENCE)
        parameters.content(OCTET_STRING)
        numbers = [parameters.integer() for _ in range(3 if oid == _SCRYPT else 1)]
        if min(numbers) < 1:
            raise MalformedError(parameters.what)
    except ValueError as error:
        advice = f"see what is wrong with it: {_openssl('pkey', path, '-noout')}"
        raise credential_error(
            option, path, "holds an encrypted key that cannot be decoded", advice
        ) from error
    if math.prod(numbers) > (MOST_SCRYPT if oid == _SCRYPT else MOST_ITERATIONS):
        raise credential_error(
            option,
            path,
            "holds an encrypted key that takes too much time or memory to decrypt",
            "if you trust the file, encrypt the key anew: "
            + _openssl("pkcs8", path, "-topk8", "-iter", "600000", "-out", "key.pem"),
        )


def _decrypts(block: Block, passphrase: bytes) -> bool:
    """Return whether a passphrase is that of an encrypted key, or the key has another problem."""
    if not passphrase:
        return False
    try:
        load_pem_private_key(block.data or b"", passphrase, unsafe_skip_rsa_key_validation=True)
    except ValueError:
        return False
    except (TypeError, UnsupportedAlgorithm, InternalError):
        return True
    return True


def load_identity(
    certificate_path: AnyFile,
    key_path: AnyFile,
    name: str,
    *,
    options: tuple[str, str] = ("certificate file", "key file"),
    passphrases: Passphrases | None = None,
) -> Identity:
    """Return an identity from a certificate file, leaf first, and the leaf's key.

    Args:
        certificate_path: PEM of leaf and intermediates; may be the same file as the key's.
        key_path: PEM of the key.
        name: name of the identity.
        options: the options that named the two files. The messages begin with them.
        passphrases: of an encrypted key.

    Raises:
        UsageError: if one of the files cannot be used, or the key does not match the certificate.
    """
    chain = load_certificates(certificate_path, option=options[0])
    key, passphrase = _load_key(key_path, options[1], passphrases=passphrases)
    places = [number for number, found in enumerate(chain, 1) if public_key(found) == key.public_key()]
    if 1 not in places:
        subject = name_text(chain[0].subject)
        happened = f"does not belong to the first certificate of {certificate_path} ({subject})"
        advice = f"pass the key of that certificate with {options[1]}, or its certificate with {options[0]}"
        if places:
            happened += f" but to the one at place {places[0]}"
            advice = "put the leaf first in the certificate file, then its intermediates"
        raise credential_error(options[1], key_path, happened, advice)
    return Identity(
        name=name,
        chain=chain,
        key=key,
        origin=certificate_path.origin if isinstance(certificate_path, HeldFile) else str(certificate_path),
        certificate_file=_path(certificate_path),
        key_file=_path(key_path),
        passphrase=passphrase,
    )


def _path(file: AnyFile) -> str | None:
    return None if isinstance(file, HeldFile) else str(file)


def _certificate(path: AnyFile, option: str, block: Block, which: str) -> x509.Certificate:
    if block.data is None:
        raise credential_error(
            option, path, f"{which} is cut off: it has no END line", "copy the file again, whole"
        )
    try:
        return load(_octets_of(block.data))
    except ValueError as error:
        happened = f"{which} cannot be parsed: {error}"
        advice = f"see what is wrong with it: {_openssl('x509', path, '-noout', '-text')}"
        raise credential_error(option, path, happened, advice) from error


def _octets_of(block: bytes) -> bytes:
    """Return the decoded contents of a PEM block, without headers (RFC 1421) and non-Base64 characters.

    Raises:
        ValueError: if it is not Base64.
    """
    lines = block.splitlines()[1:-1]
    return base64.b64decode(b"".join(line.strip() for line in lines if b":" not in line), validate=True)


def _private_key(
    path: AnyFile, option: str, block: Block, passphrase: bytes | None, *, consistent: bool
) -> PrivateKey:
    advice = f"see what is wrong with it: {_openssl('pkey', path, '-noout', '-check')}"
    try:
        # The message omits the text of the original ValueError, which might contain a part of the key.
        key = load_pem_private_key(block.data or b"", passphrase, unsafe_skip_rsa_key_validation=True)
        if isinstance(key, rsa.RSAPrivateKey):
            if key.key_size > RSA_LONGEST:
                happened = f"holds an RSA key of {key.key_size:,} bits, more than {RSA_LONGEST:,}"
                raise credential_error(option, path, happened, "use a key that OpenSSL and Go can use")
            if consistent:
                key = key.private_numbers().private_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, InternalError) as error:
        raise credential_error(option, path, "holds a private key that cannot be decoded", advice) from error
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        kind = type(key).__name__.removesuffix("PrivateKey")
        raise credential_error(
            option, path, f"holds a key that etcd cannot use ({kind})", "use RSA, EC or Ed25519"
        )
    return key


def _labels(blocks: tuple[Block, ...]) -> str:
    return ", ".join(dict.fromkeys(f"a {block.label}" for block in blocks))


def _certificate_advice(blocks: tuple[Block, ...]) -> str:
    labels = {block.label for block in blocks}
    if labels & {"CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"}:
        return "pass the certificate that the CA made of this request"
    if "TRUSTED CERTIFICATE" in labels:
        return "convert it: openssl x509 -in FILE -out certificate.pem (etcd does not read this form either)"
    return "pass the file with the line BEGIN CERTIFICATE here"
