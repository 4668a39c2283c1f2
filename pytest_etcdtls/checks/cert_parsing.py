"""The served certificates can be parsed: by Go's clients, and by stricter ones."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from pytest_etcdtls.observations.chain import CertificateMessage
from pytest_etcdtls.pki.go_parser import parse_error
from pytest_etcdtls.pki.profile import SERVER, OtherExtension
from pytest_etcdtls.pki.reading import load, shown, unparsable
from pytest_etcdtls.pki.specimen import specimen
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.reproduce import show_chain
from pytest_etcdtls.results import Finding, Statement


def _which(message: CertificateMessage, number: int, der: bytes) -> str:
    """Return which certificate it is, by its place and its subject, as far as that can be parsed."""
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
    """Go parses every certificate that is served, and of the given CA file.

    A Go client parses the whole Certificate message before it judges anything, and ends the handshake if one
    certificate fails, whatever it is for. etcd parses only the first one of its file, so it serves the others
    as they are. With a CA file in which one certificate does not parse a client of etcd does not start.

    Among what Go does not parse are a negative serial number, from 1.23 on, a key of an elliptic curve that
    is written out instead of named, and a critical authorityKeyIdentifier, subjectKeyIdentifier or
    authorityInfoAccess.

    Spec: RFC 5280 section 4.1
    Spec: Go crypto/x509 ParseCertificate
    Spec: etcd client/pkg/tlsutil NewCertPool
    Severity: high
    Level: MUST
    Remediation: issue the malformed certificate anew with a maintained tool, or take it out of the file of
        --{peer}cert-file if it does not belong to the chain.
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
    """Strict clients parse every certificate as well, each of its extensions and its key.

    Go does not look into extensions that it does not use, and takes some encodings that are not DER. The
    cryptography library of Python, which this client is built on, does not. What it cannot parse is not
    judged; all other parts of the certificate are.

    Spec: RFC 5280 section 4.2
    Spec: X.690 section 11
    Severity: low
    Level: SHOULD
    Remediation: issue the certificate of --{peer}cert-file anew without that extension, or well-formed.
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
