"""Whether served certificates follow RFC 5280: encoding, serial numbers, extensions, keys, signatures."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pytest_etcdtls.facts.certificates import CertificateMessage, CertificationPath, Issuers, ServedChain
from pytest_etcdtls.pki.authority import specimen
from pytest_etcdtls.pki.certificate import (
    STRONG,
    describe_key,
    extension,
    is_strong,
    is_strong_issuer,
    is_too_long,
    key_problem,
    load,
    name_text,
    serial_number,
    shown,
    signature_hash,
    unparsable,
)
from pytest_etcdtls.pki.go_parser import parse_error
from pytest_etcdtls.pki.go_verify import details, extension_name, signature_scheme, usable_key
from pytest_etcdtls.pki.path import ancestors, is_self_signed
from pytest_etcdtls.pki.profile import AUTHORITY, SERVER, OtherExtension
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.reproduce import show_chain, show_leaf
from pytest_etcdtls.results import CannotJudge, Finding, Outcome, Statement

_LONGEST_SERIAL = 20
"""Octets."""


def on_the_path(chain: ServedChain) -> tuple[x509.Certificate, ...]:
    """Return the served leaf and those following certificates that are its issuers."""
    leaf, *others = chain.certificates
    issuers = ancestors(leaf, others)
    return (leaf, *(found for found in others if found in issuers))


def _zero(chain: ServedChain) -> Mapping[str, Any]:
    return {"chain": replace(chain, certificates=specimen(replace(SERVER, serial_number=0)))}


@check("cert.serial-number", on=EVERY_LISTENER, counterexample=_zero)
def serial_numbers_are_not_zero_and_short(chain: ServedChain) -> Iterator[Statement]:
    """Serial numbers are not zero and have at most 20 octets.

    Go and OpenSSL accept other serial numbers, but some TLS libraries refuse them. RFC 5280 requires this of
    CAs. Go refuses negative ones, see cert.well-formed.

    Spec: RFC 5280 section 4.1.2.2
    Severity: medium
    Level: SHOULD
    Remediation: issue a new certificate for --{peer}cert-file, with a random serial number of at most 20
        octets.
    """
    for certificate in on_the_path(chain):
        serial = serial_number(certificate)
        octets = serial.bit_length() // 8 + 1
        if serial == 0 or octets > _LONGEST_SERIAL:
            yield Finding(
                message=f"the serial number of {shown(certificate)} is "
                + (f"{octets} octets long" if serial else "zero"),
                expected="a positive number of at most 20 octets",
                observed=f"{serial:#x}",
                reproduce=(show_leaf(chain.url, '"Serial Number"'),),
            )


def _unheard_of(path: CertificationPath) -> Mapping[str, Any]:
    unknown = specimen(replace(SERVER, unknown_critical_extension="1.2.3.4"))
    return {"path": replace(path, certificates=unknown)}


@check("cert.critical-extensions", on=EVERY_LISTENER, counterexample=_unheard_of)
def critical_extensions_are_known(path: CertificationPath) -> Iterator[Statement]:
    """Every critical extension is supported by Go's x509, on the root as well.

    Clients must refuse a critical extension that they do not support. Examples are an unknown extension, a
    critical subjectAltName without any name, and critical name constraints of an unsupported type.

    Spec: RFC 5280 section 4.2
    Severity: high
    Level: MUST
    Remediation: issue the certificate of --{peer}cert-file, or its CA, without that extension, or mark it as
        not critical.
    """
    for certificate in path.certificates:
        unknown = details(certificate).unhandled
        if unknown:
            yield Finding(
                message=f"{shown(certificate)} has a critical extension that clients do not support",
                expected="critical extensions that Go's x509 handles",
                observed=", ".join(extension_name(oid) for oid in unknown),
                reproduce=(show_chain(path.url),),
            )


def _anonymous_key(chain: ServedChain, issuers: Issuers) -> Mapping[str, Any]:
    leaf, issuer = specimen(replace(SERVER, authority_key_identifier=False))
    return {
        "chain": replace(chain, certificates=(leaf, issuer)),
        "issuers": replace(issuers, certificates=(issuer,)),
    }


@check("cert.key-identifiers", on=EVERY_LISTENER, counterexample=_anonymous_key)
def key_identifiers_lead_to_the_issuer(chain: ServedChain, issuers: Issuers) -> Iterator[Statement]:
    """The authorityKeyIdentifier matches the issuer's subjectKeyIdentifier.

    Python 3.13 and newer refuses certificates without these identifiers, and OpenSSL does not find an issuer
    whose identifier differs. Go does not need them. A root needs no authorityKeyIdentifier, a leaf no
    subjectKeyIdentifier.

    Spec: RFC 5280 section 4.2.1.1
    Spec: RFC 5280 section 4.2.1.2
    Severity: low
    Level: SHOULD
    Remediation: issue the certificate of --{peer}cert-file with authorityKeyIdentifier keyid, and its CA with
        a subjectKeyIdentifier.
    """
    below = chain.leaf
    for issuer in issuers.certificates:
        wrong = _disagreement(below, issuer)
        if wrong:
            yield Finding(
                message=f"the key identifiers of {shown(below)} and its issuer {shown(issuer)} do not agree",
                expected="an authorityKeyIdentifier that is the issuer's subjectKeyIdentifier",
                observed=wrong,
                reproduce=(show_chain(chain.url),),
            )
        below = issuer


def _disagreement(certificate: x509.Certificate, issuer: x509.Certificate) -> str:
    authority = extension(certificate, x509.AuthorityKeyIdentifier)
    subject = extension(issuer, x509.SubjectKeyIdentifier)
    referred = authority.key_identifier if authority else None
    if referred is None:
        return "no authorityKeyIdentifier"
    if subject is None:
        return "the issuer has no subjectKeyIdentifier"
    if referred != subject.digest:
        return f"{referred.hex(':')} is not {subject.digest.hex(':')}"
    return ""


def _which(message: CertificateMessage, number: int, der: bytes) -> str:
    """Return a description of the certificate: its position, and its subject as far as it can be parsed."""
    sent = len(set(message.certificates))
    place = f"certificate {number} of {sent}" if number <= sent else "a CA that is not served"
    try:
        return f"{place}, {shown(load(der))},"
    except ValueError:
        return place


def _all(message: CertificateMessage) -> Iterator[tuple[int, bytes]]:
    """Yield every certificate once: those that were sent, then the CAs that were not."""
    issuers = (issuer.public_bytes(Encoding.DER) for issuer in message.issuers)
    yield from enumerate(dict.fromkeys((*message.certificates, *issuers)), 1)


def _with(*extensions: OtherExtension) -> tuple[bytes, ...]:
    leaf, issuer = specimen(replace(SERVER, other_extensions=extensions))
    return tuple(found.public_bytes(Encoding.DER) for found in (leaf, issuer))


def _five_octets(message: CertificateMessage) -> Mapping[str, Any]:
    address = OtherExtension("2.5.29.17", bytes.fromhex("300787057f00000100"))
    return {"message": replace(message, certificates=_with(address))}


@check("cert.well-formed", on=EVERY_LISTENER, counterexample=_five_octets)
def go_parses_every_certificate(message: CertificateMessage) -> Iterator[Statement]:
    """Go can parse every served certificate and every one in the given CA file.

    A Go client parses the whole Certificate message before it verifies anything, and ends the handshake if
    any certificate in it fails. etcd itself parses only the first certificate of its file, so it serves the
    others unchanged. If a certificate in its CA file does not parse, a client of etcd does not start.

    Go does not parse, among others, a negative serial number (from 1.23 on), an elliptic curve key with
    explicit parameters instead of a named curve, and a critical authorityKeyIdentifier, subjectKeyIdentifier
    or authorityInfoAccess.

    Spec: RFC 5280 section 4.1
    Spec: Go crypto/x509 ParseCertificate
    Spec: etcd client/pkg/tlsutil NewCertPool
    Severity: high
    Level: MUST
    Remediation: issue the malformed certificate again with a maintained tool, or remove it from the file of
        --{peer}cert-file if it is not part of the chain.
    """
    for number, der in _all(message):
        if problem := parse_error(der):
            yield Finding(
                message=f"{_which(message, number, der)} is malformed: Go clients refuse the handshake",
                expected="certificates that Go's x509.ParseCertificate accepts",
                observed=problem,
                reproduce=(show_chain(message.url),),
            )


def _broken_issuer_name(message: CertificateMessage) -> Mapping[str, Any]:
    return {"message": replace(message, certificates=_with(OtherExtension("2.5.29.18", b"\x05\x00")))}


@check("cert.parsable", on=EVERY_LISTENER, counterexample=_broken_issuer_name)
def strict_clients_parse_every_certificate(message: CertificateMessage) -> Iterator[Statement]:
    """Strict clients can parse every certificate, its extensions and its key.

    Clients with a stricter parser than Go's refuse the server. Go does not parse extensions that it does not
    use, and accepts some encodings that are not DER. Python's cryptography library, which this client uses,
    accepts neither. What it cannot parse is not judged; all other parts of the certificate are.

    Spec: RFC 5280 section 4.2
    Spec: X.690 section 11
    Severity: low
    Level: SHOULD
    Remediation: issue the certificate of --{peer}cert-file again, without that extension or with a correct
        encoding.
    """
    for number, der in _all(message):
        if parse_error(der):
            continue
        try:
            problems = list(unparsable(load(der)))
        except ValueError as error:
            problems = [("certificate", str(error))]
        for part, problem in problems:
            yield Finding(
                message=f"{_which(message, number, der)} has a part that this client cannot parse: {part}",
                expected="a certificate that is DER throughout",
                observed=problem,
                reproduce=(show_chain(message.url),),
            )


_MALFORMED = CannotJudge(Outcome.NOT_VERIFIED, "the key cannot be parsed, see cert.well-formed")


def _weak_key(chain: ServedChain) -> Mapping[str, Any]:
    return {"chain": replace(chain, certificates=specimen(replace(SERVER, rsa_bits=1024)))}


@check("cert.key-strength", on=EVERY_LISTENER, counterexample=_weak_key)
def the_key_is_strong(chain: ServedChain) -> Iterator[Statement]:
    """The served certificate's key is strong and of a type that Go's TLS supports.

    An attacker who computes the private key from the public key can impersonate the server. OpenSSL by
    default refuses RSA below 2048 bits. Go refuses RSA below 1024 bits from 1.24 on, and above 8192 bits from
    1.20.7 on.

    Spec: NIST SP 800-131A section 3
    Spec: RFC 8446 section 4.2.3
    Severity: high
    Level: MUST
    Remediation: renew --{peer}cert-file and --{peer}key-file with an ECDSA P-256 or RSA 2048 key.
    """
    key = usable_key(chain.leaf)
    if key is None and key_problem(chain.leaf):
        yield _MALFORMED
    elif not is_strong(key):
        yield Finding(
            message="the key of the certificate is weak, or of a type that clients do not accept",
            expected=STRONG,
            observed=describe_key(key),
            reproduce=(show_leaf(chain.url, '"Public-Key"'),),
        )


def _weak_issuer(issuers: Issuers, chain: ServedChain) -> Mapping[str, Any]:
    _, issuer = specimen(authority=replace(AUTHORITY, rsa_bits=1024))
    return {"issuers": replace(issuers, certificates=(issuer,))}


@check("cert.issuer-key-strength", on=EVERY_LISTENER, counterexample=_weak_issuer)
def the_issuers_keys_are_strong(issuers: Issuers, chain: ServedChain) -> Iterator[Statement]:
    """The keys of the CAs above the served certificate are strong.

    An attacker who computes the key of a CA can impersonate every server, and every client where etcd trusts
    the same CA. Go's TLS refuses RSA above 8192 bits in any served certificate.

    Spec: NIST SP 800-131A section 3
    Severity: critical
    Level: MUST
    Remediation: replace the CA: distribute a new one to clients and to --{peer}trusted-ca-file (read only at
        start), then renew the certificate of --{peer}cert-file.
    """
    served = chain.certificates[1:]
    for issuer in dict.fromkeys((*issuers.certificates, *served)):
        key = usable_key(issuer)
        weak = issuer in issuers.certificates and not is_strong_issuer(key)
        if key is None and key_problem(issuer):
            yield _MALFORMED
        elif weak or (issuer in served and is_too_long(key)):
            yield Finding(
                message=f"the key of the CA {shown(issuer)} is weak, or of a type that clients do not accept",
                expected=STRONG,
                observed=describe_key(key),
                reproduce=(show_chain(issuers.url),),
            )


def _sha1(path: CertificationPath) -> Mapping[str, Any]:
    return {"path": replace(path, certificates=specimen(replace(SERVER, signature_hash="sha1")))}


@check("cert.signature-hash", on=EVERY_LISTENER, counterexample=_sha1)
def signatures_are_made_with_a_good_hash(path: CertificationPath) -> Iterator[Statement]:
    """The served certificate and its CAs are signed with a hash of the SHA-2 family.

    Collisions of SHA-1 and MD5 can be computed, and with them certificates that a CA never issued. Go 1.18
    and newer refuses SHA-1. Self-signatures are not judged, nor is the signature on the given CA.

    Spec: RFC 8446 section 4.4.2.4
    Spec: NIST SP 800-131A section 9
    Severity: high
    Level: MUST
    Remediation: issue a new certificate for --{peer}cert-file, signed with SHA-256.
    """
    for certificate in path.certificates:
        if certificate in path.anchors or is_self_signed(certificate):
            continue
        if signature_scheme(certificate) is None:
            name = signature_hash(certificate)
            yield Finding(
                message=f"{shown(certificate)} is signed with {name}",
                expected="SHA-256, SHA-384 or SHA-512 with RSA or ECDSA, or Ed25519",
                observed=f"{name}, by {name_text(certificate.issuer)}",
                reproduce=(show_chain(path.url),),
            )
