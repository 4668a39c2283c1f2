"""The served certificates are made as RFC 5280 wants them: serial numbers, extensions, key identifiers."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from cryptography import x509

from pytest_etcdtls.observations.chain import Issuers, ServedChain
from pytest_etcdtls.pki.path import ancestors
from pytest_etcdtls.pki.profile import SERVER
from pytest_etcdtls.pki.reading import extension, raw_extensions, serial_number, shown
from pytest_etcdtls.pki.specimen import specimen
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.reproduce import show_chain, show_leaf
from pytest_etcdtls.results import Finding, Statement

_LONGEST_SERIAL = 20
"""Octets."""

_HANDLED = frozenset(f"2.5.29.{number}" for number in (14, 15, 17, 19, 30, 31, 32, 35, 37)) | {
    "1.3.6.1.5.5.7.1.1"
}
"""Extensions that Go's crypto/x509 handles in every release that etcd is built with."""

_NAME_KINDS = (x509.DNSName, x509.RFC822Name, x509.IPAddress, x509.UniformResourceIdentifier)
"""A critical subjectAltName with none of these counts as not handled there."""


def on_the_path(chain: ServedChain) -> tuple[x509.Certificate, ...]:
    """Return the served leaf and those of the certificates behind it that are issuers of it."""
    leaf, *others = chain.certificates
    issuers = ancestors(leaf, others)
    return (leaf, *(found for found in others if found in issuers))


def _negative(chain: ServedChain) -> Mapping[str, Any]:
    return {"chain": replace(chain, certificates=specimen(replace(SERVER, serial_number=-5)))}


@check("cert.serial-number", on=EVERY_LISTENER, counterexample=_negative)
def serial_numbers_are_positive_and_short(chain: ServedChain) -> Iterator[Statement]:
    """Serial numbers are positive and have 20 octets at most.

    Go refuses negative ones from 1.23 on: an etcd that was built with it does not start with such a
    certificate, a client that was built with it does not connect. Older ones accept them.

    Spec: RFC 5280 section 4.1.2.2
    Severity: medium
    Level: SHOULD
    Remediation: issue the certificate of --{peer}cert-file anew, with a random serial number of at most 20
        octets.
    """
    for certificate in on_the_path(chain):
        serial = serial_number(certificate)
        octets = serial.bit_length() // 8 + 1
        if serial <= 0 or octets > _LONGEST_SERIAL:
            yield Finding(
                message=f"the serial number of {shown(certificate)} is "
                + ("not positive" if serial <= 0 else f"{octets} octets long"),
                expected="a positive number of at most 20 octets",
                observed=f"{serial:#x}",
                reproduce=(show_leaf(chain.url, '"Serial Number"'),),
            )


def _unheard_of(chain: ServedChain) -> Mapping[str, Any]:
    return {
        "chain": replace(chain, certificates=specimen(replace(SERVER, unknown_critical_extension="1.2.3.4")))
    }


@check("cert.critical-extensions", on=EVERY_LISTENER, counterexample=_unheard_of)
def critical_extensions_are_known(chain: ServedChain) -> Iterator[Statement]:
    """Every critical extension is one that Go's x509 handles.

    Clients must refuse what they do not understand if it is critical, and do. A critical subjectAltName
    without any name is such a case too.

    Spec: RFC 5280 section 4.2
    Severity: high
    Level: MUST
    Remediation: issue the certificate of --{peer}cert-file without that extension, or not critical.
    """
    for certificate in on_the_path(chain):
        unknown = [
            found.oid
            for found in raw_extensions(certificate)
            if found.critical and not _is_handled(certificate, found.oid)
        ]
        if unknown:
            yield Finding(
                message=f"{shown(certificate)} has a critical extension that clients do not know",
                expected="critical extensions that Go's x509 handles",
                observed=", ".join(unknown),
                reproduce=(show_chain(chain.url),),
            )


def _is_handled(certificate: x509.Certificate, oid: str) -> bool:
    if oid == x509.SubjectAlternativeName.oid.dotted_string:
        names = extension(certificate, x509.SubjectAlternativeName)
        return any(isinstance(name, _NAME_KINDS) for name in names or ())
    return oid in _HANDLED


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
