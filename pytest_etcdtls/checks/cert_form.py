"""The served certificates are made as RFC 5280 wants them: serial numbers, extensions, key identifiers."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from cryptography import x509

from pytest_etcdtls.observations.chain import CertificationPath, Issuers, ServedChain
from pytest_etcdtls.pki.go_verify import details, extension_name
from pytest_etcdtls.pki.path import ancestors
from pytest_etcdtls.pki.profile import SERVER
from pytest_etcdtls.pki.reading import extension, serial_number, shown
from pytest_etcdtls.pki.specimen import specimen
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.reproduce import show_chain, show_leaf
from pytest_etcdtls.results import Finding, Statement

_LONGEST_SERIAL = 20
"""Octets."""


def on_the_path(chain: ServedChain) -> tuple[x509.Certificate, ...]:
    """Return the served leaf and those of the certificates behind it that are issuers of it."""
    leaf, *others = chain.certificates
    issuers = ancestors(leaf, others)
    return (leaf, *(found for found in others if found in issuers))


def _zero(chain: ServedChain) -> Mapping[str, Any]:
    return {"chain": replace(chain, certificates=specimen(replace(SERVER, serial_number=0)))}


@check("cert.serial-number", on=EVERY_LISTENER, counterexample=_zero)
def serial_numbers_are_not_zero_and_short(chain: ServedChain) -> Iterator[Statement]:
    """Serial numbers are not zero and have 20 octets at most.

    RFC 5280 asks for that of CAs. Go and OpenSSL accept others, some libraries do not. Negative ones are
    refused, see cert.well-formed.

    Spec: RFC 5280 section 4.1.2.2
    Severity: medium
    Level: SHOULD
    Remediation: issue the certificate of --{peer}cert-file anew, with a random serial number of at most 20
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
    """Every critical extension is one that Go's x509 handles, on the root as well.

    Clients must refuse what they do not understand if it is critical, and do: an unknown extension, a
    critical subjectAltName without any name, critical name constraints of a kind that is not supported.

    Spec: RFC 5280 section 4.2
    Severity: high
    Level: MUST
    Remediation: issue the certificate of --{peer}cert-file, or its CA, without that extension, or not
        critical.
    """
    for certificate in path.certificates:
        unknown = details(certificate).unhandled
        if unknown:
            yield Finding(
                message=f"{shown(certificate)} has a critical extension that clients do not know",
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
    """The authorityKeyIdentifier of each certificate is the subjectKeyIdentifier of its issuer.

    Go does without. Python from 3.13 on refuses certificates that lack them, and OpenSSL does not find an
    issuer whose identifier differs. A root needs no authorityKeyIdentifier, a leaf no subjectKeyIdentifier.

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
