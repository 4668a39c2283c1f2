"""Reads certificates and keys from files. Each problem is reported as one message for the user.

The caller passes the option that named the file.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.errors import UnreadableFileError, UsageError
from pytest_etcdtls.local_file import read_regular
from pytest_etcdtls.pki.certificate import load, name_text, public_key
from pytest_etcdtls.pki.go_parser import OCTET_STRING, SEQUENCE, MalformedError, Reader
from pytest_etcdtls.pki.profile import Identity, PrivateKey

CERTIFICATE_LABELS: Final = frozenset({"CERTIFICATE", "X509 CERTIFICATE"})
KEY_LABELS: Final = frozenset({"PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY", "DSA PRIVATE KEY"})
ENCRYPTED_LABEL: Final = "ENCRYPTED PRIVATE KEY"

_BOUNDARY = re.compile(rb"-----(BEGIN|END) ([A-Z0-9 ]{1,40})-----")


@dataclass(frozen=True, slots=True)
class Block:
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


MAXIMUM_SIZE: Final = 16 * 1024 * 1024
"""The maximum size of a file, in octets. A system's trust store takes less than one mebibyte."""


def credential_error(option: str, path: Path, happened: str, advice: str) -> UsageError:
    """Return an error with the option, the file, the problem and the remedy."""
    return UsageError(f"{option} {path}: {happened}; {advice}")


def read_file(path: Path, option: str) -> bytes:
    """Return the contents of the file.

    Raises:
        UsageError: if it cannot be read, is not a regular file, is empty, or is larger than
            :data:`MAXIMUM_SIZE`.
    """
    try:
        data = read_regular(path, MAXIMUM_SIZE)
    except UnreadableFileError as error:
        raise credential_error(option, path, error.happened, error.advice) from error
    if not data.strip():
        raise credential_error(option, path, "is empty", "check how it was made, and pass the one meant")
    return data


def load_certificates(path: Path, *, option: str = "certificate file") -> tuple[x509.Certificate, ...]:
    """Return the certificates of a PEM file in order, or the certificate of a DER file.

    Args:
        path: the file. Other PEM blocks are ignored.
        option: the option that named it, or other words. The message begins with it.

    Raises:
        UsageError: if the file has no certificate, or one that cannot be parsed.
    """
    data = read_file(path, option)
    blocks = pem_blocks(data)
    if not blocks:
        return (_der_certificate(path, option, data),)
    certificates = [block for block in blocks if block.label in CERTIFICATE_LABELS]
    if not certificates:
        raise credential_error(
            option, path, f"holds no certificate but {_labels(blocks)}", _certificate_advice(blocks)
        )
    return tuple(
        _certificate(path, option, block, f"certificate {number} of {len(certificates)}")
        for number, block in enumerate(certificates, 1)
    )


def load_trust(path: Path, *, option: str = "CA file") -> tuple[x509.Certificate, ...]:
    """Return the certificates of a CA bundle without duplicates, as :func:`load_certificates` does.

    Raises:
        UsageError: as :func:`load_certificates`.
    """
    return tuple(dict.fromkeys(load_certificates(path, option=option)))


Passphrases: TypeAlias = Callable[[Path, str], Sequence[bytes]]
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
    path: Path, option: str, *, consistent: bool = True, passphrases: Passphrases | None = None
) -> tuple[PrivateKey, bytes | None]:
    """Return the private key of a file and the passphrase that it is encrypted with."""
    blocks = pem_blocks(read_file(path, option))
    if not blocks:
        advice = f"convert it: openssl pkey -inform DER -in {path} -out key.pem"
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
            else f"etcd reads no encrypted key; decrypt a copy of it: openssl pkey -in {path} -out key.pem",
        )
    for passphrase in given:
        if _decrypts(keys[0], passphrase):
            return _private_key(path, option, keys[0], passphrase, consistent=consistent), passphrase
    raise credential_error(
        option,
        path,
        f"holds an encrypted key, and {_none_of(len(given))}",
        f"see whether it is the right one: openssl pkey -in {path} -noout",
    )


MOST_ITERATIONS: Final = 5_000_000
"""Of PBKDF2 and other derivations that repeat a hash: some seconds for a passphrase. OpenSSL writes 2048."""
MOST_SCRYPT_OCTETS: Final = 256 * 1024 * 1024
"""Memory of scrypt (RFC 7914: 128 N r). OpenSSL itself decrypts no key that takes more than 32 MiB."""
MOST_SCRYPT_WORK: Final = 4 * MOST_SCRYPT_OCTETS
"""The same times the parallelization p, which are done one after the other."""

RSA_LONGEST: Final = 16384
"""Bits of an RSA key, as in OpenSSL. To check the numbers of one of 131,072 bits takes half an hour."""

_PBES2: Final = "1.2.840.113549.1.5.13"
_SCRYPT: Final = "1.3.6.1.4.1.11591.4.11"


def _check_cost(path: Path, option: str, block: Block) -> None:
    """Check that deriving the key from a passphrase takes bounded time and memory.

    The file says how much it takes, and cryptography bounds neither: 2^31 iterations with SHA-1 are half an
    hour. Keys in the form of RFC 1421 have no such parameters.

    Raises:
        UsageError: if it takes more, or the parameters cannot be read.
    """
    if block.label != ENCRYPTED_LABEL:
        return
    try:
        excess = _excess(_octets_of(block.data or b""))
    except ValueError as error:
        advice = f"see what is wrong with it: openssl pkey -in {path} -noout"
        raise credential_error(
            option, path, "holds an encrypted key that cannot be decoded", advice
        ) from error
    if excess:
        raise credential_error(
            option,
            path,
            f"holds an encrypted key, and to decrypt it takes {excess}",
            "if you trust the file, encrypt the key anew: openssl pkcs8 -topk8 -iter 600000 "
            f"-in {path} -out key.pem",
        )


def _excess(encrypted: bytes) -> str:
    """Return what an EncryptedPrivateKeyInfo (RFC 5958) demands beyond the bounds, empty if nothing.

    Raises:
        MalformedError: if its parameters are malformed.
    """
    what = "malformed parameters of the encryption"
    algorithm = Reader(encrypted).inside(SEQUENCE, what).inside(SEQUENCE, what)
    oid = algorithm.object_identifier(what)
    if oid == _PBES2:
        algorithm = algorithm.inside(SEQUENCE, what).inside(SEQUENCE, what)
        oid = algorithm.object_identifier(what)
    if not algorithm.at(SEQUENCE):
        raise MalformedError(what)
    # PBKDF2, PBES1 and PKCS #12 alike begin with salt and iterations, scrypt with salt, N, r and p.
    parameters = algorithm.inside(SEQUENCE, what)
    parameters.content(OCTET_STRING, what)
    if oid != _SCRYPT:
        iterations = parameters.integer(what)
        if iterations < 1:
            raise MalformedError(what)
        too_many = iterations > MOST_ITERATIONS
        return f"{_count(iterations)} iterations, more than {MOST_ITERATIONS:,}" if too_many else ""
    cost, size, parallel = (parameters.integer(what) for _ in range(3))
    if cost < 2 or cost & cost - 1 or size < 1 or parallel < 1:  # RFC 7914 section 2
        raise MalformedError(what)
    octets = 128 * cost * size
    if octets > MOST_SCRYPT_OCTETS:
        return f"{_count(octets >> 20)} MiB of memory, more than {MOST_SCRYPT_OCTETS >> 20}"
    if octets * parallel > MOST_SCRYPT_WORK:
        return f"{_count(parallel)} rounds of scrypt of {octets >> 20} MiB"
    return ""


def _count(number: int) -> str:
    """Return a number that a file states, in a length that can be read."""
    return f"{number:,}" if number < 1 << 64 else f"2^{number.bit_length() - 1} or more"


def _none_of(number: int) -> str:
    return "the passphrase is wrong" if number == 1 else f"none of {number} passphrases is right"


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
    certificate_path: Path,
    key_path: Path,
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
    belonging = [number for number, found in enumerate(chain, 1) if _belongs(key, found)]
    if 1 not in belonging:
        subject = name_text(chain[0].subject)
        happened = f"does not belong to the first certificate of {certificate_path} ({subject})"
        advice = f"pass the key of that certificate with {options[1]}, or its certificate with {options[0]}"
        if belonging:
            happened += f" but to the one at place {belonging[0]}"
            advice = "put the leaf first in the certificate file, then its intermediates"
        raise credential_error(options[1], key_path, happened, advice)
    return Identity(
        name=name,
        chain=chain,
        key=key,
        origin=str(certificate_path),
        certificate_file=str(certificate_path),
        key_file=str(key_path),
        passphrase=passphrase,
    )


def _der_certificate(path: Path, option: str, data: bytes) -> x509.Certificate:
    try:
        return load(data)
    except ValueError as error:
        advice = "pass a file with the line BEGIN CERTIFICATE, or a certificate in DER"
        raise credential_error(option, path, "is neither PEM nor a certificate in DER", advice) from error


def _certificate(path: Path, option: str, block: Block, which: str) -> x509.Certificate:
    if block.data is None:
        raise credential_error(
            option, path, f"{which} is cut off: it has no END line", "copy the file again, whole"
        )
    try:
        return load(_octets_of(block.data))
    except ValueError as error:
        happened = f"{which} cannot be parsed: {error}"
        advice = f"see what is wrong with it: openssl x509 -in {path} -noout -text"
        raise credential_error(option, path, happened, advice) from error


def _octets_of(block: bytes) -> bytes:
    """Return the decoded contents of a PEM block, without headers (RFC 1421) and non-Base64 characters.

    Raises:
        ValueError: if it is not Base64.
    """
    lines = block.splitlines()[1:-1]
    return base64.b64decode(b"".join(line.strip() for line in lines if b":" not in line), validate=True)


def _private_key(
    path: Path, option: str, block: Block, passphrase: bytes | None, *, consistent: bool
) -> PrivateKey:
    advice = f"see what is wrong with it: openssl pkey -in {path} -noout -check"
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


def _belongs(key: PrivateKey, certificate: x509.Certificate) -> bool:
    return public_key(certificate) == key.public_key()


def _labels(blocks: tuple[Block, ...]) -> str:
    return ", ".join(dict.fromkeys(f"a {block.label}" for block in blocks))


def _certificate_advice(blocks: tuple[Block, ...]) -> str:
    labels = {block.label for block in blocks}
    if labels & {"CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"}:
        return "pass the certificate that the CA made of this request"
    if "TRUSTED CERTIFICATE" in labels:
        return "convert it: openssl x509 -in FILE -out certificate.pem (etcd does not read this form either)"
    return "pass the file with the line BEGIN CERTIFICATE here"
